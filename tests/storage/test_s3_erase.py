"""Erasing on S3: objects are put back whole, in one piece or in parts, and older versions go."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fault_proxy import FaultProxy

from etl.errors import ConfigurationError
from etl.storage import StorageError, s3_erase
from etl.storage.s3 import S3Store

DATA = b"0123456789" * 10
LARGE, LARGE_SPANS = DATA * 26, [(0, 3), (1200, 70), (2599, 1)]  # six windows of 500 bytes


@pytest.fixture
def s3(s3_uri: str) -> S3Store:
    return S3Store(s3_uri)


def without(data: bytes, *spans: tuple[int, int]) -> bytes:
    erased = bytearray(data)
    for offset, length in spans:
        erased[offset : offset + length] = bytes(length)
    return bytes(erased)


@pytest.fixture
def honest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test server overlooks If-Match on the completion of an upload; S3 does not."""
    from moto.s3.exceptions import PreconditionFailed
    from moto.s3.responses import S3Response

    answer = S3Response._key_response_post

    def checked(self: Any, request: Any, body: bytes, bucket_name: str, query: dict[str, Any], key_name: str) -> Any:
        wanted = self.headers.get("If-Match")
        if wanted and "uploadId" in query:
            found = self.backend.get_object(bucket_name, key_name)
            if found is None or found.etag.strip('"') != wanted.strip('"'):
                raise PreconditionFailed("If-Match")
        return answer(self, request, body, bucket_name, query, key_name)

    monkeypatch.setattr(S3Response, "_key_response_post", checked)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 500 bytes: S3 takes no part below 5 MiB, which the test server can be told to do."""
    assert s3_erase.WINDOW >= 5 << 20
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 500)
    monkeypatch.setattr(s3_erase, "WINDOW", 500)
    monkeypatch.setattr(s3_erase, "COPIED", 1000)


@pytest.mark.usefixtures("honest", "small_windows")
def test_of_a_large_object_only_the_touched_pieces_travel(s3: S3Store) -> None:
    s3.put("key", LARGE)
    sent = _writes(s3)
    assert s3.erase("key", LARGE_SPANS) == 74
    assert s3.read("key") == without(LARGE, *LARGE_SPANS)
    assert sent == ["UploadPart", "UploadPartCopy", "UploadPart", "UploadPartCopy", "UploadPart"]
    assert list(s3.leftovers(float("inf"))) == []


@pytest.mark.usefixtures("small_windows")
def test_where_uploads_are_not_guarded_it_is_put_back_in_one_piece(
    s3: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("key", LARGE)
    sent = _writes(s3)
    s3.erase("key", LARGE_SPANS)
    assert s3.read("key") == without(LARGE, *LARGE_SPANS)
    assert sent == ["PutObject"]
    monkeypatch.setattr(s3_erase, "MOST_PUT", 1000)
    with pytest.raises(ConfigurationError, match=r"does not honour If-Match on multipart(.|\n)*nothing was erased"):
        s3.erase("key", [(100, 1)])


def _writes(s3: S3Store) -> list[str]:
    """The requests that will write bytes, once the store knows what the server honours."""
    assert s3._eraser.guards.put
    sent: list[str] = []

    def note(model: Any, **_: Any) -> None:
        if model.name.startswith(("PutObject", "UploadPart")):
            sent.append(model.name)

    s3._client.meta.events.register("before-call.s3", note)
    return sent


@pytest.mark.parametrize("size", [500, len(LARGE)], ids=["one piece", "parts"])
@pytest.mark.usefixtures("honest", "small_windows")
def test_what_another_call_erases_meanwhile_stays_erased(
    s3: S3Store, s3_uri: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Both read the object; the other one's put-back comes first."""
    data = LARGE[:size]
    s3.put("key", data)
    _between_reading_and_putting_back(s3, monkeypatch, lambda: S3Store(s3_uri).erase("key", [(400, 50)]))
    s3.erase("key", [(100, 50)])
    assert s3.read("key") == without(data, (100, 50), (400, 50))
    assert list(s3.leftovers(float("inf"))) == []


def test_many_calls_at_once_on_s3_all_hold(s3: S3Store, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each put-back is answered before the next is looked at, as S3 does and the test server does not promise."""
    s3.put("key", DATA)
    stores, lock = [S3Store(s3_uri) for _ in range(4)], threading.Lock()

    def one_by_one(put: Callable[..., Any]) -> Callable[..., Any]:
        def locked(**given: Any) -> Any:
            with lock:
                return put(**given)

        return locked

    for store in stores:
        monkeypatch.setattr(store._client, "put_object", one_by_one(store._client.put_object))
    threads = [threading.Thread(target=store.erase, args=("key", [(n * 10, 5)])) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s3.read("key") == without(DATA, *((n * 10, 5) for n in range(4)))


def test_others_that_never_stop_changing_it_are_named(s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("key", DATA)
    monkeypatch.setattr(s3_erase, "_TRIES", 2)
    _between_reading_and_putting_back(s3, monkeypatch, lambda: s3.put("key", os.urandom(100)), times=9)
    with pytest.raises(StorageError, match="cannot erase 'key': other writers changed it 2 times"):
        s3.erase("key", [(0, 1)])


def _between_reading_and_putting_back(
    s3: S3Store, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object], times: int = 1
) -> None:
    put_back, done = s3_erase.Eraser._erased, []

    def watched(self: Any, *arguments: Any) -> bytearray:
        data = put_back(self, *arguments)
        if self is s3._eraser and len(done) < times:
            done.append(1)
            then()
        return data

    assert s3._eraser.guards
    monkeypatch.setattr(s3_erase.Eraser, "_erased", watched)


@pytest.mark.parametrize("fault", ["lost", "false", "reset", "slow_down"])
@pytest.mark.usefixtures("honest", "small_windows")
@pytest.mark.parametrize("size", [100, 1100], ids=["one piece", "parts"])
def test_an_answer_that_never_came_is_found_out(
    s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, fault: str, size: int
) -> None:
    data = LARGE[:size]
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = S3Store(s3_uri)
        store.put("key", data)
        assert store._eraser.guards.complete
        proxy.rule(fault, method="PUT" if size == 100 else "POST", path="/key", skip=0 if size == 100 else 1)
        assert store.erase("key", [(10, 20)]) == 20
        assert proxy.counts[fault] == 1
        assert store.read("key") == without(data, (10, 20))


@pytest.fixture
def versioned(s3: S3Store) -> S3Store:
    s3._client.put_bucket_versioning(Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})
    return s3


def _versions(store: S3Store) -> list[tuple[str, bytes]]:
    """Every version the bucket holds, as key and bytes."""
    found = store._client.list_object_versions(Bucket=store.bucket).get("Versions", [])
    get = store._client.get_object
    return [
        (
            one["Key"].removeprefix(store.prefix + "/"),
            get(Bucket=store.bucket, Key=one["Key"], VersionId=one["VersionId"])["Body"].read(),
        )
        for one in found
    ]


@pytest.mark.parametrize("then", ["Enabled", "Suspended"])
def test_no_older_version_keeps_the_bytes(versioned: S3Store, then: Any) -> None:
    versioned.put("key", b"older")
    versioned.put("key", DATA)
    versioned.put("key.2", b"older")
    versioned.put("key.2", b"of another object")
    versioned._client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration={"Status": then})
    versioned.erase("key", [(0, 90)])
    assert sorted(_versions(versioned)) == sorted(
        [("key", without(DATA, (0, 90))), ("key.2", b"older"), ("key.2", b"of another object")]
    )


def test_killed_before_the_older_versions_went_it_is_completed_by_calling_again(
    versioned: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    versioned.put("key", DATA)
    assert versioned._eraser.guards.put

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s3_erase, "forget_versions", killed)
        with pytest.raises(KeyboardInterrupt):
            versioned.erase("key", [(0, 90)])
    assert [data for _, data in _versions(versioned)].count(DATA) == 1
    versioned.erase("key", [(0, 90)])
    assert _versions(versioned) == [("key", without(DATA, (0, 90)))], "and no further version was made"


def test_destroyed_objects_leave_no_version(versioned: S3Store) -> None:
    versioned.put("key", b"first")
    versioned.put("key", b"second")
    versioned.destroy("key")
    versioned.destroy("key")
    assert versioned.stat("key") is None
    assert _versions(versioned) == []


# What we may not ask or do, by the request that is refused; in a bucket with versions.
REFUSED = {
    "versioning": {"method": "GET", "path": "?versioning"},
    "the versions": {"method": "GET", "path": "?versions"},
    "deleting one": {"method": "DELETE", "path": "versionId"},
}


@pytest.mark.parametrize("rule", REFUSED.values(), ids=REFUSED)
def test_older_versions_that_may_remain_are_an_error_with_the_rights_it_needs(
    versioned: S3Store, s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, rule: dict[str, str]
) -> None:
    versioned.put("key", DATA)
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = S3Store(s3_uri)
        assert store._eraser.guards.put
        proxy.rule("403 AccessDenied", times=2, **rule)
        for operation in (lambda: store.erase("key", [(0, 90)]), lambda: store.destroy("key")):
            with pytest.raises(ConfigurationError, match=r"key' for good(.|\n)*s3:DeleteObjectVersion"):
                operation()


def test_a_store_that_knows_no_versions_needs_none_removed(
    s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.rule("501 NotImplemented", path="?versioning", times=9)
        store = S3Store(s3_uri)
        store.put("key", DATA)
        store.erase("key", [(0, 90)])
        assert store.read("key") == without(DATA, (0, 90))


@pytest.fixture
def without_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that overlooks If-Match on every request, as some small ones do."""
    from moto.s3.responses import S3Response

    put = S3Response.put_object

    def unguarded(self: Any) -> Any:
        self.headers = {name: value for name, value in self.headers.items() if name.lower() != "if-match"}
        return put(self)

    monkeypatch.setattr(S3Response, "put_object", unguarded)


@pytest.mark.usefixtures("without_conditions")
def test_a_server_that_overlooks_if_match_is_refused(s3: S3Store) -> None:
    s3.put("key", DATA)
    with pytest.raises(ConfigurationError, match=r"does not honour If-Match on PUT(.|\n)*nothing was erased"):
        s3.erase("key", [(0, 1)])
    assert s3.read("key") == DATA
