"""Compile the locks: hash-pinned requirement files, one per environment, which name no index.

    python images/locks/compile.py            # keep what is pinned, add what pyproject.toml newly asks for
    python images/locks/compile.py --upgrade  # take the newest versions that fit
    python images/locks/compile.py --check    # compile again and compare; exit code 1 when they differ

uv.lock would write the address of every file into the repository and fail behind a mirror; these files hold versions
and hashes only, so any index that serves the same files will do. ``local`` is resolved first, together with torch; all
others are held to its versions, ``reference`` only where upstream's packages allow it. Each lock is universal: it
serves Python 3.11 and 3.12, Linux and macOS.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCKS = Path(__file__).resolve().parent
ROOT = LOCKS.parent.parent
PYTHON = "3.11"  # the lowest; the universal resolution covers those above
# torch and what only its CUDA build needs: a lock of their own, so that one variable can take CPU wheels instead.
TORCH = re.compile(r"^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
# What each environment holds; every one can also build the package itself, without asking an index.
LOCAL = ("--extra", "local", "--group", "dev", "--group", "build")
OTHERS = {
    "airflow": ("--extra", "airflow", "--group", "build"),
    "ingest": ("--extra", "ingest", "--group", "build"),
    "stages": ("--extra", "stages", "--group", "build"),
}
BOOTSTRAP = "uv==0.13.9"
# Upstream's packages, which our engines are compared with, on the transformers that they still run on.
REFERENCE = """
groundingdino-py==0.4.0
segment-anything==1.0
segment-anything-hq==0.3
transformers==4.48.3
numpy
pillow
safetensors
setuptools
timm
torch
torchvision
"""
# What that transformers needs older than all other environments do.
OLDER = re.compile(r"^(transformers|tokenizers|huggingface-hub|hf-xet|packaging|fsspec)==")


def main() -> int:
    """Compile all locks, or compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compile again and compare, change nothing")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    old = {} if options.upgrade else {path.stem: path.read_text() for path in sorted(LOCKS.glob("*.txt"))}
    new = compile_all(old)
    different = [name for name, text in new.items() if old.get(name) != text]
    if options.check:
        if different:
            print(f"locks out of date: {', '.join(different)}; run 'make lock' and commit the result", file=sys.stderr)
        return 1 if different else 0
    for name in different:
        (LOCKS / f"{name}.txt").write_text(new[name])
    print(f"changed: {', '.join(different) or 'nothing'}")
    return 0


def compile_all(old: dict[str, str]) -> dict[str, str]:
    """The text of every lock, by name.

    Args:
        old: The locks whose pins are kept where they still fit; empty to take the newest versions.
    """
    new = {"uv": _compile("-", (), old.get("uv", ""), stdin=BOOTSTRAP)}
    everything = _compile("pyproject.toml", LOCAL, old.get("local", "") + old.get("torch", ""))
    new["torch"], new["local"] = split(everything)
    for name, options in OTHERS.items():
        pinned = old.get(name, "") + (old.get("torch", "") if name == "stages" else "")
        _, new[name] = split(_compile("pyproject.toml", options, pinned, constraints=everything))
    held = "".join(block for block in _blocks(everything) if not OLDER.match(block))
    pinned = old.get("reference", "") + old.get("torch", "")
    _, new["reference"] = split(_compile("-", (), pinned, constraints=held, stdin=REFERENCE))
    return new


def split(text: str) -> tuple[str, str]:
    """A lock's requirements that belong to torch, and the others; a requirement is its line and its hashes."""
    blocks = _blocks(text)
    return "".join(b for b in blocks if TORCH.match(b)), "".join(b for b in blocks if not TORCH.match(b))


def _blocks(text: str) -> list[str]:
    return re.findall(r"^\S.*(?:\n .*)*\n", text, flags=re.MULTILINE)


def _compile(source: str, options: tuple[str, ...], pinned: str, *, constraints: str = "", stdin: str = "") -> str:
    with tempfile.TemporaryDirectory() as folder:
        target, held = Path(folder, "lock.txt"), Path(folder, "constraints.txt")
        target.write_text(pinned)  # uv prefers what the file it replaces holds
        held.write_text(constraints)
        command = [os.environ.get("UV", "uv"), "pip", "compile", source, *options, "-o", str(target)]
        command += ["-c", str(held)] if constraints else []
        command += ["--universal", "--python-version", PYTHON, "--generate-hashes", "--no-header", "--no-annotate"]
        done = subprocess.run(command, cwd=ROOT, input=stdin, text=True, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise SystemExit(f"'{' '.join(command)}' failed with code {done.returncode}; see its message above")
        text = target.read_text()
    if "://" in text:
        raise SystemExit(f"the lock of {source} names an index or a file:\n" + text[:500])
    return text


if __name__ == "__main__":
    sys.exit(main())
