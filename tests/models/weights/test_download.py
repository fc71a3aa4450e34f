"""Downloads end with exactly the wanted file, or with nothing in its place and a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from weights_server import (
    WeightsServer,
    break_after,
    ignore_if_range,
    ignore_ranges,
    login_page,
    redirect,
    status,
)

from etl.models.weights import partial
from etl.models.weights.download import WAITS, Wanted, download, remote_size
from etl.models.weights.errors import (
    InterruptedDownloadError,
    NoRoomError,
    NotTheFileError,
    RefusedDownloadError,
    WrongDigestError,
    WrongSizeError,
)
from etl.models.weights.transport import Rules
from etl.storage.base import LastingError

LOOPBACK = Rules(allow_http=True, allow_private=True)


def quiet(*_: object) -> None:
    """No progress."""


@pytest.fixture
def wanted(server: WeightsServer, tmp_path: Path) -> Callable[..., Wanted]:
    def make(path: str = "/sam.pth", **more: object) -> Wanted:
        return Wanted("sam.pth", server.url(path), tmp_path / "in" / "sam.pth", **{"rules": LOOPBACK, **more})

    return make


def fetch(one: Wanted, waited: list[float] | None = None) -> str:
    return download(one, quiet, pause=(waited if waited is not None else []).append)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def left(one: Wanted) -> set[str]:
    return {path.name for path in one.path.parent.glob("*")}


class TestWhole:
    def test_a_file_comes_whole_with_its_sha256_and_nothing_beside_it(self, wanted, content):
        assert fetch(wanted()) == sha(content)
        assert wanted().path.read_bytes() == content
        assert left(wanted()) == {"sam.pth"}

    def test_progress_tells_name_bytes_and_total(self, wanted, content):
        told: list[tuple[str, int, int | None]] = []
        download(wanted(), lambda *parts: told.append(parts))
        assert told[-1] == ("sam.pth", len(content), len(content))

    def test_progress_tells_of_every_wait_and_why(self, wanted, server):
        server.behave("/sam.pth", status(503))
        told: list[str] = []
        download(wanted(), lambda name, *_: told.append(name), pause=lambda _: None)
        assert told[0] == f"sam.pth, again in 1 s: {server.url('/sam.pth')}: the server answers 503"

    def test_one_that_is_there_is_only_checked(self, wanted, server, content):
        fetch(wanted())
        assert fetch(wanted(sha256=sha(content))) == sha(content)
        assert len(server.asked) == 1

    def test_one_that_was_damaged_on_the_disk_is_fetched_anew(self, wanted, content):
        fetch(wanted())
        wanted().path.write_bytes(b"damaged")
        assert fetch(wanted(sha256=sha(content))) == sha(content)

    def test_the_length_is_known_before(self, wanted, content):
        assert remote_size(wanted()) == len(content)


class TestBrokenOff:
    def test_it_goes_on_where_it_broke_off(self, wanted, server, content):
        server.behave("/sam.pth", break_after(30_000), break_after(20_000))
        assert fetch(wanted()) == sha(content)
        assert server.ranges("/sam.pth") == [None, "bytes=30000-", "bytes=50000-"]

    def test_the_next_call_goes_on_after_a_kill(self, wanted, server, content):
        server.behave("/sam.pth", break_after(30_000))

        def killed(_: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            download(wanted(), quiet, pause=killed)
        assert left(wanted()) == {"sam.pth.part", "sam.pth.part.json"}
        assert fetch(wanted()) == sha(content)
        assert server.ranges("/sam.pth") == [None, "bytes=30000-"]

    def test_a_server_that_ignores_ranges_makes_it_start_anew(self, wanted, server, content):
        server.behave("/sam.pth", break_after(30_000), ignore_ranges())
        assert fetch(wanted()) == sha(content)

    @pytest.mark.parametrize("how", [None, ignore_if_range()], ids=["whole answer", "a part of the other file"])
    def test_a_file_that_changed_meanwhile_is_never_mixed(self, wanted, server, content, how):
        server.behave("/sam.pth", break_after(30_000))

        def replaced(_: float) -> None:
            server.publish("/sam.pth", content[::-1])
            if how and len(server.asked) == 1:
                server.behave("/sam.pth", how)

        assert download(wanted(), quiet, pause=replaced) == sha(content[::-1])

    def test_one_that_has_become_shorter_than_what_arrived_is_fetched_anew(self, wanted, server, content):
        server.behave("/sam.pth", break_after(30_000))

        def replaced(_: float) -> None:
            server.publish("/sam.pth", content[:20_000])
            if len(server.asked) == 1:
                server.behave("/sam.pth", ignore_if_range())

        assert download(wanted(), quiet, pause=replaced) == sha(content[:20_000])

    def test_without_a_name_for_the_version_it_starts_anew(self, wanted, server, content):
        server.tagged = False
        server.behave("/sam.pth", break_after(30_000))
        assert fetch(wanted()) == sha(content)
        assert server.ranges("/sam.pth") == [None, None]

    def test_a_part_that_turns_out_to_be_all_of_it_is_enough(self, wanted, server, content):
        server.behave("/sam.pth", break_after(30_000))
        with pytest.raises(KeyboardInterrupt):
            download(wanted(), quiet, pause=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        wanted().path.with_name("sam.pth.part").write_bytes(content)
        assert fetch(wanted()) == sha(content)

    def test_it_gives_up_where_it_gets_no_further_and_keeps_what_arrived(self, wanted, server):
        server.behave("/sam.pth", break_after(30_000), *[status(503)] * 20)
        waited: list[float] = []
        with pytest.raises(InterruptedDownloadError, match=r"(?s)without getting further: .*503.*what has arrived is"):
            fetch(wanted(), waited)
        assert waited == [WAITS[0], *WAITS]
        assert wanted().path.with_name("sam.pth.part").stat().st_size == 30_000

    def test_every_step_forward_earns_all_tries_again(self, wanted, server, content):
        server.behave("/sam.pth", *[break_after(2_000)] * 20)
        assert fetch(wanted()) == sha(content)

    def test_a_server_that_asks_for_patience_gets_it(self, wanted, server):
        server.behave("/sam.pth", status(429, Retry_After="7"))
        waited: list[float] = []
        fetch(wanted(), waited)
        assert waited == [7.0]


class TestRefused:
    @pytest.mark.parametrize(
        ("code", "words"),
        [(404, "there is no such file"), (410, "no such file"), (403, "without a login"), (401, "without a login")],
    )
    def test_what_the_server_does_not_give_out_says_what_to_do(self, wanted, server, code, words):
        server.behave("/sam.pth", status(code))
        with pytest.raises(RefusedDownloadError, match=rf"(?s){words}.*groundlake models add"):
            fetch(wanted())
        assert not wanted().path.exists()

    def test_a_server_that_fails_is_tried_again(self, wanted, server, content):
        server.behave("/sam.pth", status(500))
        assert fetch(wanted()) == sha(content)

    def test_a_login_page_is_not_taken_for_the_file(self, wanted, server):
        server.behave("/sam.pth", login_page())
        with pytest.raises(NotTheFileError, match=r"a web page in place of sam\.pth"):
            fetch(wanted())
        assert not left(wanted())

    def test_another_length_than_the_catalogs_is_refused_before_the_download(self, wanted, content):
        with pytest.raises(WrongSizeError, match=r"100,000 bytes, but the catalog says 100,001: it is cut short"):
            fetch(wanted(bytes=len(content) + 1))
        assert not left(wanted())

    @pytest.mark.parametrize(("recorded", "words"), [(False, "the catalog pins"), (True, "the one added first has")])
    def test_another_digest_is_refused_and_nothing_of_it_stays(self, wanted, recorded, words):
        with pytest.raises(WrongDigestError, match=words) as caught:
            fetch(wanted(sha256="0" * 64, recorded=recorded))
        assert caught.value.exit_code == 65
        assert not left(wanted())

    def test_a_disk_without_room_is_named_before_the_download(self, wanted, monkeypatch):
        monkeypatch.setattr(partial, "MARGIN", 1 << 60)
        with pytest.raises(NoRoomError, match="GROUNDLAKE_SCRATCH"):
            fetch(wanted())

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
    def test_a_disk_that_fills_up_meanwhile_is_named(self, wanted):
        wanted().path.parent.mkdir()
        wanted().path.with_name("sam.pth.part").symlink_to("/dev/full")
        one = partial.Partial(wanted().path)
        with Path("/dev/full").open("ab", buffering=0) as file, pytest.raises(LastingError, match="the disk is full"):
            one.write(file, b"x" * 10_000)


class TestWhereItMayGo:
    def test_only_https_unless_the_catalog_says_otherwise(self, wanted):
        with pytest.raises(RefusedDownloadError, match="only https is allowed"):
            fetch(wanted(rules=Rules(allow_private=True)))

    def test_a_private_address_is_refused(self, wanted, server):
        with pytest.raises(RefusedDownloadError, match=r"(?s)not on the public internet.*allow_private_addresses"):
            fetch(wanted(rules=Rules(allow_http=True)))
        assert server.asked == []

    def test_redirects_are_followed(self, wanted, server, content):
        server.behave("/moved.pth", redirect("/again.pth"))
        server.behave("/again.pth", redirect(server.url("/sam.pth?signature=secret")))
        assert fetch(wanted("/moved.pth")) == sha(content)

    def test_a_redirect_to_another_scheme_is_refused(self, wanted, server):
        server.behave("/moved.pth", redirect("file:///etc/passwd"))
        with pytest.raises(RefusedDownloadError, match="only https"):
            fetch(wanted("/moved.pth"))

    def test_redirects_in_circles_end(self, wanted, server):
        server.behave("/moved.pth", *[redirect("/moved.pth")] * 50)
        with pytest.raises(RefusedDownloadError, match="more than 10 redirects"):
            fetch(wanted("/moved.pth"))

    def test_what_is_secret_in_a_url_is_in_no_message(self, wanted, server):
        server.behave("/moved.pth", redirect(server.url("/none.pth?token=secret").replace("//", "//me:secret@")))
        with pytest.raises(RefusedDownloadError) as caught:
            fetch(wanted("/moved.pth"))
        assert "secret" not in str(caught.value)
