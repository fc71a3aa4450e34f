"""What killed writers leave: found by age, removed, and never taken from a writer that lives."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from etl.storage import LocalStore
from etl.storage.s3 import S3Store

DAY = 86_400.0


@pytest.fixture
def folder(tmp_path: Path) -> LocalStore:
    """A folder with objects, and beside them what two killed writers and one that lives have not finished."""
    store = LocalStore(tmp_path)
    for key in ("parts/a.parquet", "log/00001.json", "a#1"):
        store.put(key, b"whole")
    for name, age in {"parts/.tmp-1": 3 * DAY, "log/00002.json#1": 2 * DAY, "parts/.tmp-2": 0}.items():
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    return store


def test_old_temporary_files_are_named_with_their_size(folder: LocalStore) -> None:
    found = [(left.key, left.size) for left in folder.leftovers(time.time() - DAY)]
    assert found == [("log/00002.json#1", 4), ("parts/.tmp-1", 4)]


def test_only_they_are_removed(folder: LocalStore) -> None:
    before = {path for path in folder.root.rglob("*") if path.is_file()}
    assert folder.remove_leftovers(time.time() - DAY, dry_run=True) == 2
    assert {path for path in folder.root.rglob("*") if path.is_file()} == before
    assert folder.remove_leftovers(time.time() - DAY) == 2
    assert folder.remove_leftovers(time.time() - DAY) == 0
    gone = before - {path for path in folder.root.rglob("*") if path.is_file()}
    assert {path.name for path in gone} == {".tmp-1", "00002.json#1"}


@pytest.fixture
def bucket(s3_uri: str) -> S3Store:
    """A store with an object, and two unfinished uploads, one of them of two parts, beside a neighbour's."""
    store = S3Store(s3_uri)
    store.put("tars/whole.tar", b"whole")
    client, bucket = store._client, store.bucket
    for name, parts in {f"{store.prefix}/tars/a.tar": 2, f"{store.prefix}/tars/b.tar": 0, "elsewhere/c.tar": 1}.items():
        upload = client.create_multipart_upload(Bucket=bucket, Key=name)["UploadId"]
        for number in range(parts):
            client.upload_part(Bucket=bucket, Key=name, UploadId=upload, PartNumber=number + 1, Body=b"part")
    return store


def test_unfinished_uploads_of_this_store_are_named_with_their_size(bucket: S3Store) -> None:
    found = sorted((left.key, left.size) for left in bucket.leftovers(time.time() + DAY))
    assert found == [("tars/a.tar", 8), ("tars/b.tar", 0)]


def test_an_upload_is_as_old_as_its_latest_part(bucket: S3Store) -> None:
    """The test server says of every upload that it was begun in 2010."""
    assert [left.key for left in bucket.leftovers(time.time() - DAY)] == ["tars/b.tar"]
    assert list(bucket.leftovers(0)) == []


def test_only_they_are_aborted(bucket: S3Store) -> None:
    later = time.time() + DAY
    assert bucket.remove_leftovers(later, dry_run=True) == 2
    assert bucket.remove_leftovers(later) == 2
    assert bucket.remove_leftovers(later) == 0
    (left,) = bucket._client.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
    assert left["Key"] == "elsewhere/c.tar"
    assert bucket.read("tars/whole.tar") == b"whole"
