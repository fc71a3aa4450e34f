"""Downloads cannot leave the public internet. The audit hook cannot be removed, so each proof is a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.demo.server import serve
from etl.storage.addresses import is_public


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "localhost", "metadata.google.internal", "2130706433", "0x7f.1", "",
    ],
)  # fmt: skip
def test_private_addresses_and_names_are_not_public(host: str) -> None:
    assert not is_public(host)


@pytest.mark.parametrize("host", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are_public(host: str) -> None:
    assert is_public(host)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A server whose ``/moved`` redirects to a second loopback address, and whose ``/file`` to a file."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "plain.txt").write_text("plain")
    answers = tmp_path / "answers.json"
    answers.write_text("{}")
    with serve(tmp_path) as base:
        pass
    other = base.replace("127.0.0.1", "127.0.0.2")
    port = int(base.rsplit(":", 1)[1])
    answers.write_text(
        f'{{"/moved": {{"redirect": "{other}/secret.txt"}}, "/file": {{"redirect": "file:///etc/passwd"}},'
        f' "/ftp": {{"redirect": "ftp://127.0.0.1/x"}}}}'
    )
    with serve(tmp_path, port) as again:
        yield again


def fetch(url: str, *, public: str = "is_public") -> str:
    """Fetch ``url`` in a process with the guard on; its body, or the error class it was noted with."""
    script = f"""
import urllib.request
from etl.ingest import addresses, fetch
from etl.storage import addresses as guard
from etl.storage.addresses import is_public
guard.is_public = {public}
addresses.forbid_private_addresses()
notes = []
urllib.request.install_opener(fetch.Opener(1000, proxies=False, note=notes.append))
try:
    print(urllib.request.urlopen(urllib.request.Request({url!r}), timeout=2).read().decode())
except OSError as error:
    print(notes[0]["error_class"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "2130706433", "127.1"])
def test_no_spelling_of_loopback_is_reached(site: str, host: str) -> None:
    assert fetch(f"{site}/plain.txt".replace("127.0.0.1", host)) == "blocked"


# 127.0.0.1 plays the public host here, 127.0.0.2 the private one behind it.
FIRST_IS_PUBLIC = "lambda host: host == '127.0.0.1'"


def test_a_public_address_is_reached(site: str) -> None:
    assert fetch(f"{site}/plain.txt", public=FIRST_IS_PUBLIC) == "plain"


@pytest.mark.parametrize("path", ["moved", "file", "ftp"])
def test_a_redirect_to_a_private_address_or_another_scheme_is_blocked(site: str, path: str) -> None:
    assert fetch(f"{site}/{path}", public=FIRST_IS_PUBLIC) == "blocked"
