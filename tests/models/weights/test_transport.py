"""Where a download may go is decided by the address it really reaches."""

from __future__ import annotations

import socket
import threading

import pytest
from weights_server import WeightsServer, redirect

from etl.models.weights.errors import InterruptedDownloadError, RefusedDownloadError
from etl.models.weights.transport import Rules, answer, shown
from etl.storage.addresses import BlockedError, public_only

HTTP = Rules(allow_http=True)


def read(url: str, rules: Rules) -> bytes:
    with answer(url, {}, rules) as response:
        return b"".join(response.iter_raw())


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
@pytest.mark.usefixtures("direct")
def test_every_spelling_of_loopback_is_refused(server: WeightsServer, host: str):
    url = server.url("/sam.pth").replace("127.0.0.1", host)
    with pytest.raises((RefusedDownloadError, InterruptedDownloadError)):  # some resolvers know no hexadecimal
        read(url, HTTP)
    assert server.asked == []


@pytest.mark.usefixtures("direct")
def test_a_name_that_leads_to_a_private_address_is_refused(server: WeightsServer, monkeypatch: pytest.MonkeyPatch):
    port = int(server.url("").rpartition(":")[2])
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(RefusedDownloadError, match=r"http://weights\.example(:\d+)?/sam\.pth leads to an address"):
        read(f"http://weights.example:{port}/sam.pth", HTTP)
    assert server.asked == []


def test_a_proxy_may_have_a_private_address(server: WeightsServer, content: bytes, monkeypatch: pytest.MonkeyPatch):
    with WeightsServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url(""))
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        proxy.publish("http://weights.example/sam.pth", content)  # a proxy is asked for whole urls
        assert read("http://weights.example/sam.pth", HTTP) == content


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "localhost", "2130706433", "[::1]"])
def test_through_a_proxy_private_addresses_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, host: str):
    with WeightsServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url(""))
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        proxy.behave("http://weights.example/sam.pth", redirect(f"http://{host}/sam.pth"))
        with pytest.raises(RefusedDownloadError, match="not on the public internet"):
            read("http://weights.example/sam.pth", HTTP)
        assert len(proxy.asked) == 1


def test_a_server_that_is_not_there_is_tried_again_later(direct: None):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(InterruptedDownloadError):
            read(f"http://127.0.0.1:{taken.getsockname()[1]}/sam.pth", Rules(allow_http=True, allow_private=True))


def test_the_guard_is_of_one_thread_and_ends(server: WeightsServer):
    host, port = "127.0.0.1", int(server.url("").rpartition(":")[2])
    reached = []

    def other() -> None:
        with socket.create_connection((host, port)):
            reached.append("other thread")

    with public_only():
        with pytest.raises(BlockedError), socket.create_connection((host, port)):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    with socket.create_connection((host, port)):
        reached.append("afterwards")
    assert reached == ["other thread", "afterwards"]


def test_a_url_is_shown_without_its_secrets():
    assert shown("https://me:pass@host.example/a?X-Signature=1#x") == "https://host.example/a"
