"""Install upstream's packages, which our engines are compared with, into .venv-reference, from the locks.

Like ``install.py``: the standard library only, may be interrupted at any point, does nothing when all is there.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "images" / "locks"
VENV = ROOT / ".venv-reference"
STAMP = VENV / "groundlake-installed"
UV = ROOT / ".tools" / "uv" / "bin" / "uv"  # put there by install.py
TORCH_LOCK, LOCK = LOCKS / "torch.txt", LOCKS / "reference.txt"
SYSTEM_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def main() -> int:
    """Install what is not there yet; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", default="", help="a uv of your own; else the one in .tools")
    parser.add_argument("--torch-index", default="", help="index that torch and torchvision alone are taken from")
    options = parser.parse_args()
    with _alone():
        wanted = f"{_digest()} {options.torch_index}\n"
        if STAMP.is_file() and STAMP.read_text() == wanted:
            return 0
        print("installing upstream's packages into .venv-reference", flush=True)
        STAMP.unlink(missing_ok=True)
        try:
            install(Path(options.uv) if options.uv else UV, options.torch_index)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"install: {error}\n  -> see the message above, then run make again", file=sys.stderr)
            return 1
        STAMP.write_text(wanted)
    return 0


def install(uv: Path, torch_index: str) -> None:
    """Bring .venv-reference to what the locks say.

    Args:
        uv: The program.
        torch_index: Index for torch and torchvision alone, whose files the locks have no hashes of; or "".

    Raises:
        CalledProcessError: uv failed.
    """
    environment = {**os.environ, "UV_COMPILE_BYTECODE": "1", "VIRTUAL_ENV": str(VENV)}
    if any(Path(path).exists() for path in SYSTEM_CERTIFICATES):
        environment.setdefault("UV_SYSTEM_CERTS", "1")  # a site's own authority is there, not among uv's
    if not (VENV / "bin" / "python").exists():
        _run([uv, "venv", "--allow-existing", "--python", sys.executable, VENV], environment)
    pip: list[str | Path] = [uv, "pip"]
    tools = VENV / "build-tools.txt"
    tools.write_text(requirement("setuptools"))
    _run([*pip, "install", "--require-hashes", "--no-deps", "-r", tools], environment)
    locks = [LOCK] if torch_index else [TORCH_LOCK, LOCK]
    # A package without a wheel is built with that setuptools; an isolated build would take one unchecked.
    _run([*pip, "sync", "--require-hashes", "--no-build-isolation", *locks], environment)
    if torch_index:
        names = [requirement(name).split()[0] for name in ("torch", "torchvision")]
        _run([*pip, "install", "--no-deps", "--reinstall", "--index-url", torch_index, *names], environment)


def requirement(name: str) -> str:
    """A package's lines of the locks, with its hashes."""
    text = TORCH_LOCK.read_text() + LOCK.read_text()
    found = re.search(rf"^{re.escape(name)}==.*(?:\n .*)*\n", text, flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"the locks name no {name}; run 'make lock'")
    return found.group()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    UV.parents[2].mkdir(exist_ok=True)
    with (UV.parents[2] / "install.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest() -> str:
    total = hashlib.sha256(str(ROOT).encode())  # a moved clone has another path in its scripts
    for file in (Path(__file__), TORCH_LOCK, LOCK):
        total.update(file.read_bytes())
    return total.hexdigest()


def _run(command: list[str | Path], environment: dict[str, str]) -> None:
    subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
