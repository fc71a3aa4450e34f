"""The repository itself: its layout, its commands, its locks. Nothing here needs a network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "images" / "locks"
FOLDERS = {
    ".ci", "benchmarks", "dags", "docs", "etl", "helm", "images", "plugins", "tests",
}  # fmt: skip
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Lock -> the extras and dependency groups it must hold; torch is in a lock of its own.
CONTENTS = {
    "local": (["local"], ["dev", "build"]),
    "airflow": (["airflow"], ["build"]),
    "ingest": (["ingest"], ["build"]),
    "stages": (["stages"], ["build"]),
}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git clone")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


class TestLayout:
    def test_each_thing_has_its_room(self) -> None:
        assert {name.split("/")[0] for name in tracked() if "/" in name} <= FOLDERS

    def test_no_source_file_is_longer_than_400_lines(self) -> None:
        sources = [name for name in tracked() if re.match(r"(etl|dags|plugins)/.*\.py$", name)]
        lengths = {name: len((ROOT / name).read_text().splitlines()) for name in sources}
        assert not {name: lines for name, lines in lengths.items() if lines > 400}

    def test_no_built_or_secret_file_is_tracked(self) -> None:
        wrong = re.compile(r"(^|/)(\.venv|\.tools|\.demo|__pycache__|\.env)(/|$)|\.(pyc|pem|key|db|log)$")
        assert [name for name in tracked() if wrong.search(name)] == []


class TestCommands:
    def test_ci_runs_exactly_the_test_commands(self) -> None:
        script = (ROOT / ".ci" / "run").read_text()
        commands = [
            line for line in script.splitlines() if line and not line.startswith(("#", "set ", "cd ", "export"))
        ]
        assert commands == ["make test </dev/null", "make test-reference </dev/null"]
        assert os.access(ROOT / ".ci" / "run", os.X_OK)

    @pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
    def test_every_make_command_of_a_document_exists(self, document: str) -> None:
        named = set(re.findall(r"(?:`|\$ )make ([a-z][a-z-]*)", (ROOT / document).read_text()))
        assert named
        assert named <= targets()

    def test_help_lists_every_target(self) -> None:
        done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert set(re.findall(r"make ([a-z-]+)", done.stdout)) >= targets()

    @pytest.mark.parametrize("python", ["", "/nowhere/python3.12"])
    def test_without_a_fitting_python_make_says_what_to_do(self, python: str) -> None:
        done = subprocess.run(
            ["make", "install", f"PYTHON={python}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode
        assert "no Python 3.11 or 3.12" in done.stderr
        assert "make PYTHON=" in done.stderr

    def test_hooks_before_a_commit_are_local(self) -> None:
        text = (ROOT / ".pre-commit-config.yaml").read_text()
        assert re.findall(r"repo: (.*)", text) == ["local"]


def load(name: str) -> ModuleType:
    """A script of images/locks as a module."""
    spec = importlib.util.spec_from_file_location(name, LOCKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locked(lock: str) -> dict[str, list[str]]:
    """Versions by package of a lock; there may be one per Python version."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (LOCKS / f"{lock}.txt").read_text(), flags=re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def wanted(extras: list[str], groups: list[str]) -> list[Requirement]:
    """The direct requirements of extras and groups, and of the package itself."""
    texts = list(PYPROJECT["project"]["dependencies"])
    pending = [("extra", extra) for extra in extras] + [("group", group) for group in groups]
    while pending:
        kind, name = pending.pop()
        listed = PYPROJECT["project"]["optional-dependencies"] if kind == "extra" else PYPROJECT["dependency-groups"]
        for entry in listed[name]:
            if isinstance(entry, dict):
                pending.append(("group", entry["include-group"]))
            elif entry.startswith("groundlake["):
                pending += [("extra", extra) for extra in Requirement(entry).extras]
            else:
                texts.append(entry)
    return [Requirement(text) for text in texts]


class TestLocks:
    @pytest.mark.parametrize("lock", CONTENTS)
    def test_a_lock_holds_every_direct_dependency_at_an_allowed_version(self, lock: str) -> None:
        versions = locked(lock) | locked("torch")
        for requirement in wanted(*CONTENTS[lock]):
            found = versions.get(canonicalize_name(requirement.name))
            assert found, f"{requirement} is not in {lock}.txt: run 'make lock'"
            allowed = [requirement.specifier.contains(version, prereleases=True) for version in found]
            assert all(allowed), f"{lock}.txt has {requirement.name} {found}, pyproject.toml asks for {requirement}"

    @pytest.mark.parametrize("lock", [*CONTENTS, "torch", "uv"])
    def test_a_lock_has_hashes_for_all_and_names_no_index(self, lock: str) -> None:
        text = (LOCKS / f"{lock}.txt").read_text()
        assert "://" not in text
        assert not re.search(r"^\s*-(?!-hash=)", text, flags=re.MULTILINE)
        pins = re.findall(r"^\S.*(?:\n .*)*", text, flags=re.MULTILINE)
        assert pins
        assert [pin for pin in pins if not re.match(r"[\w.-]+==\S+.*\\\n +--hash=sha256:[0-9a-f]{64}", pin)] == []

    @pytest.mark.parametrize("lock", [lock for lock in CONTENTS if lock != "local"])
    def test_the_locks_agree(self, lock: str) -> None:
        everything = locked("local")
        other = {name: versions for name, versions in locked(lock).items() if everything.get(name) != versions}
        assert not other

    def test_torch_and_its_cuda_packages_are_apart(self) -> None:
        assert "torch" in locked("torch")
        cuda = re.compile(r"torch$|triton$|nvidia-|cuda-")
        assert all(cuda.match(name) for name in locked("torch"))
        for lock in CONTENTS:
            assert [name for name in locked(lock) if cuda.match(name)] == []

    def test_no_environment_holds_what_another_parts_image_is_for(self) -> None:
        assert "transformers" not in locked("ingest")
        assert {"transformers", "img2dataset"}.isdisjoint(locked("airflow"))
        assert {"apache-airflow", "img2dataset"}.isdisjoint(locked("stages"))

    def test_splitting_keeps_hashes_with_their_requirement(self) -> None:
        text = "a==1 \\\n    --hash=sha256:0\ntorch==2 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\nb==3\n"
        torch, others = load("compile").split(text)
        assert torch == "torch==2 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n"
        assert others == "a==1 \\\n    --hash=sha256:0\nb==3\n"


class TestInstall:
    """images/locks/install.py, run with a uv that only writes down what it was asked for."""

    @pytest.fixture
    def install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        module = load("install")
        for name, path in {"ROOT": "", "VENV": ".venv", "STAMP": ".venv/groundlake-installed"}.items():
            monkeypatch.setattr(module, name, tmp_path / path)
        monkeypatch.setattr(module, "TOOLS", tmp_path / ".tools" / "uv")
        (tmp_path / "uv").write_text(
            f'#!/bin/sh\necho "$UV_COMPILE_BYTECODE $@" >> {tmp_path}/asked\n'
            f"mkdir -p {tmp_path}/.venv\ntest ! -e {tmp_path}/broken || exit 2\n"
        )
        (tmp_path / "uv").chmod(0o755)
        return module

    def go(self, install: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, list[str]]:
        asked = install.ROOT / "asked"
        asked.unlink(missing_ok=True)
        command = ["install.py", "--uv", str(install.ROOT / "uv"), "--no-disk-check", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        return install.main(), asked.read_text().splitlines() if asked.exists() else []

    def test_it_installs_from_the_locks_with_hashes_and_bytecode(
        self, install: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, (venv, sync, package) = self.go(install, monkeypatch)
        assert code == 0
        assert venv.startswith("1 venv")
        assert sync == f"1 pip sync --require-hashes {LOCKS}/torch.txt {LOCKS}/local.txt"
        assert package == f"1 pip install --no-deps --no-build-isolation --editable {install.ROOT}"

    def test_a_second_time_it_does_nothing(self, install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go(install, monkeypatch)
        assert self.go(install, monkeypatch) == (0, [])

    def test_what_was_interrupted_is_done_again(self, install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        (install.ROOT / "broken").touch()
        assert self.go(install, monkeypatch)[0] == 1
        (install.ROOT / "broken").unlink()
        code, asked = self.go(install, monkeypatch)
        assert (code, len(asked)) == (0, 3)

    def test_torch_may_come_from_another_index_without_cuda(
        self, install: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, (_, sync, torch, _) = self.go(install, monkeypatch, "--torch-index", "file:///wheels")
        assert sync == f"1 pip sync --require-hashes {LOCKS}/local.txt"
        assert torch == f"1 pip install --no-deps --index-url file:///wheels torch=={locked('torch')['torch'][0]}"

    def test_the_other_index_is_remembered(self, install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go(install, monkeypatch, "--torch-index", "file:///wheels")
        assert self.go(install, monkeypatch) == (0, [])
        install.STAMP.write_text(install.STAMP.read_text().replace("digest=", "digest=older"))
        assert "file:///wheels" in self.go(install, monkeypatch)[1][2]

    def test_too_little_space_is_said_before_anything_is_done(
        self, install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(install, "NEEDED_GB", {"CUDA": 10**6, "CPU": 10**5})
        monkeypatch.setattr(sys, "argv", ["install.py", "--uv", str(install.ROOT / "uv")])
        assert install.main() == 1
        assert re.search(r"free on the disk(.|\n)*SKIP_DISK_CHECK=1(.|\n)*TORCH_INDEX", capsys.readouterr().err)
        assert not (install.ROOT / "asked").exists()
