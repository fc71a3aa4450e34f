"""Install the developers' and demo's environment into .venv, from the locks; the Makefile runs it with a bare Python.

It needs the standard library only, may be interrupted at any point, and does nothing when it has nothing to do: the
stamp that says so is written last.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "images" / "locks"
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools" / "uv"
STAMP = VENV / "groundlake-installed"
# Measured: .venv is 7.4 GB with CUDA, some 3 GB without; it shares its files with uv's cache on the same disk.
NEEDED_GB = {"CUDA": 9, "CPU": 4}
SYSTEM_CERTIFICATES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian and its kin
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora and its kin
    Path("/etc/ssl/cert.pem"),  # Alpine, macOS
)
BELONGS_TO_STAMP = (LOCKS / "uv.txt", LOCKS / "torch.txt", LOCKS / "local.txt", ROOT / "pyproject.toml")


def main() -> int:
    """Install what is not there yet; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", default="", help="a uv of your own; else the pinned one is put into .tools")
    parser.add_argument(
        "--torch-index", default="", help="index that torch alone is taken from, such as one of CPU wheels"
    )
    parser.add_argument("--no-disk-check", action="store_true", help="install however little space there is")
    options = parser.parse_args()
    with _alone():
        return bring_up_to_date(options.uv, options.torch_index, check_disk=not options.no_disk_check)


def bring_up_to_date(uv: str, torch_index: str, *, check_disk: bool) -> int:
    """Install unless the stamp says that all is there; returns the exit code."""
    # Whoever once chose another index for torch keeps it when the locks change.
    index = torch_index or _installed().get("torch-index", "")
    wanted = {"torch-index": index, "digest": _digest()}
    if _installed() == wanted:
        return 0
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        return _fail(f"Python {sys.version.split()[0]} does not do", "run 'make PYTHON=<path of Python 3.11 or 3.12>'")
    if check_disk and not _space("CPU" if index else "CUDA"):
        return 1
    STAMP.unlink(missing_ok=True)
    try:
        install(Path(uv) if uv else _bootstrap(), index)
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        return _fail(f"'{command}' ended with code {error.returncode}", "see its message above, then run make again")
    STAMP.write_text("".join(f"{key}={value}\n" for key, value in wanted.items()))
    return 0


def install(uv: Path, torch_index: str) -> None:
    """Bring .venv to what the locks say; raises CalledProcessError.

    Args:
        uv: The program.
        torch_index: Index for torch alone, or "" to take it with its CUDA packages from the lock.
    """
    # Airflow starts four processes that would else compile 200 packages, each on its own, at their first start.
    environment = {**os.environ, "UV_COMPILE_BYTECODE": "1", "VIRTUAL_ENV": str(VENV)}
    if any(path.exists() for path in SYSTEM_CERTIFICATES):
        environment.setdefault("UV_SYSTEM_CERTS", "1")  # a site's own authority is there, not among uv's
    if not (VENV / "bin" / "python").exists():
        _run([uv, "venv", "--allow-existing", "--python", sys.executable, VENV], environment)
    locks = [LOCKS / "local.txt"] if torch_index else [LOCKS / "torch.txt", LOCKS / "local.txt"]
    _run([uv, "pip", "sync", "--require-hashes", *locks], environment)
    if torch_index:
        # Another index serves other files than those the lock has hashes of: they are not checked here.
        _run([uv, "pip", "install", "--no-deps", "--index-url", torch_index, torch_requirement()], environment)
    _run([uv, "pip", "install", "--no-deps", "--no-build-isolation", "--editable", ROOT], environment)


def torch_requirement() -> str:
    """The pinned torch, such as ``torch==2.15.0``."""
    found = re.search(r"^torch==[^\s;]+", (LOCKS / "torch.txt").read_text(), flags=re.MULTILINE)
    if found is None:
        raise SystemExit("images/locks/torch.txt names no torch; run 'make lock'")
    return found.group()


def _bootstrap() -> Path:
    """The locked uv, in .tools; never one from PATH, whose behaviour the locks were not tried with."""
    uv = TOOLS / "bin" / "uv"
    done = TOOLS / "groundlake-installed"
    pinned = hashlib.sha256((LOCKS / "uv.txt").read_bytes()).hexdigest()
    if uv.exists() and done.is_file() and done.read_text() == pinned:
        return uv
    print("installing uv into .tools/uv", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", TOOLS], os.environ)
    pip = [TOOLS / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, "--require-hashes", "--only-binary=:all:", "-r", LOCKS / "uv.txt"], os.environ)
    done.write_text(pinned)
    return uv


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait for other installations: two makes in one clone would else install into one folder at once."""
    TOOLS.parent.mkdir(exist_ok=True)
    with (TOOLS.parent / "install.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _space(kind: str) -> bool:
    free = shutil.disk_usage(ROOT).free / 1e9
    needed = NEEDED_GB[kind]
    print(f"installing into .venv: needs about {needed} GB with {kind} torch, {free:.0f} GB are free", flush=True)
    if free >= needed or any(VENV.glob("lib/*/site-packages/torch")):  # it takes most of the space, and is there
        return True
    way = "free some, or run 'make demo SKIP_DISK_CHECK=1'"
    smaller = f", or take CPU wheels ({NEEDED_GB['CPU']} GB) with TORCH_INDEX=<url of an index that has them>"
    _fail(f"{free:.1f} GB free on the disk of {ROOT}, {needed} GB needed", way + (smaller if kind == "CUDA" else ""))
    return False


def _digest() -> str:
    total = hashlib.sha256(str(ROOT).encode())  # a moved clone has another path in its scripts
    for file in BELONGS_TO_STAMP:
        total.update(file.read_bytes())
    return total.hexdigest()


def _installed() -> dict[str, str]:
    if not STAMP.is_file():
        return {}
    return dict(line.split("=", 1) for line in STAMP.read_text().splitlines())


def _run(command: list[str | Path], environment: Mapping[str, str]) -> None:
    subprocess.run([str(part) for part in command], cwd=ROOT, env=dict(environment), check=True)


def _fail(message: str, remedy: str) -> int:
    print(f"install: {message}\n  -> {remedy}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
