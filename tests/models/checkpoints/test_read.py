"""What is read from a checkpoint file, and what is refused before any of it could run."""

import copyreg
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from etl.errors import ConfigurationError
from etl.models.checkpoints.errors import (
    CheckpointError,
    CodeInCheckpointError,
    DamagedCheckpointError,
    NotACheckpointError,
)
from etl.models.checkpoints.read import read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2.5)}


def assert_state(found: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(STATE)
    assert all(torch.equal(found[key], value) for key, value in STATE.items())


@pytest.fixture(params=["zip", "pickle"])
def layout(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How torch writes a file today, and how it did before 1.6."""
    return {"_use_new_zipfile_serialization": request.param == "zip"}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"model": STATE, "optimizer": {"state": {0: {"step": 3}}}, "config": {"vit": "swin_l"}, "epoch": 4},
        {"state_dict": {key: torch.nn.Parameter(value) for key, value in STATE.items()}},
        {"model": {f"module.{key}": value for key, value in STATE.items()}},
    ],
    ids=["flat", "ordered", "of a trainer", "parameters", "of parallel training"],
)
def test_a_state_dict_is_found_in_what_trainers_save(tmp_path: Path, content: Any, layout: dict[str, Any]):
    torch.save(content, tmp_path / "net.pth", **layout)
    assert_state(read_state(tmp_path / "net.pth"))


def test_safetensors_are_read_whatever_their_name(tmp_path: Path):
    save_file(STATE, tmp_path / "net.bin")
    assert {key: value.tolist() for key, value in read_state(tmp_path / "net.bin").items()} == {
        key: value.tolist() for key, value in STATE.items()
    }


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_tensors_are_views_of_the_file_not_copies(tmp_path: Path, name: str):
    path = tmp_path / name
    (torch.save if name.endswith("pth") else save_file)({"a": torch.zeros(100_000)}, path)
    kept = read_state(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert kept["a"].sum() == 0


class Payload:
    """An object whose pickle runs ``Path(marker).touch()`` when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


class Imported:
    """An object whose pickle runs ``exec`` of a text when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.marker)!r}, 'w')",))


@pytest.mark.parametrize("kind", [Payload, Imported])
@pytest.mark.parametrize("place", ["in place of a tensor", "beside the state dict", "in place of all"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(
    tmp_path: Path, kind: type[Any], place: str, layout: dict[str, Any]
):
    marker, path = tmp_path / "marker", tmp_path / "net.pth"
    payload = kind(marker)
    contents = {
        "in place of a tensor": {"model": {**STATE, "c": payload}},
        "beside the state dict": {"model": STATE, "hooks": [payload]},
        "in place of all": payload,
    }
    torch.save(contents[place], path, **layout)
    with pytest.raises(CodeInCheckpointError, match=r"net.pth carries code(.|\n)*as safetensors") as refused:
        read_state(path)
    assert not marker.exists()
    assert refused.value.exit_code == 65
    torch.load(path, weights_only=False)  # the payload is a live one
    assert marker.exists()


def test_a_refusal_names_what_the_pickle_asked_for(tmp_path: Path):
    torch.save(Imported(tmp_path / "marker"), tmp_path / "net.pth")
    with pytest.raises(CodeInCheckpointError, match="it asks for exec"):
        read_state(tmp_path / "net.pth")


def test_a_plain_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path):
    marker, path = tmp_path / "marker", tmp_path / "net.bin"
    path.write_bytes(pickle.dumps({"a": Payload(marker)}))
    with pytest.raises(CheckpointError):
        read_state(path)
    assert not marker.exists()


def test_code_behind_pickles_own_registries_is_refused_and_not_run(tmp_path: Path):
    marker, path = tmp_path / "marker", tmp_path / "net.pth"
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=2)
    pickler.dispatch_table = copyreg.dispatch_table | {Payload: lambda one: (eval, (f"open({str(marker)!r}, 'w')",))}  # type: ignore[assignment]
    pickler.dump({"model": {"a": Payload(marker)}})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", stream.getvalue())
        archive.writestr("net/version", "3")
    with pytest.raises(CodeInCheckpointError):
        read_state(path)
    assert not marker.exists()


def test_a_program_of_torch_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:  # what torch.jit.save writes
        for name in ("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py", "net/version"):
            archive.writestr(name, b"\x80\x02}q\x00." if name.endswith("pkl") else b"3")
    with pytest.raises(CodeInCheckpointError):
        read_state(tmp_path / "net.pth")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, share: float, layout: dict[str, Any]):
    path = tmp_path / "net.pth"
    torch.save({"model": {f"layer.{number}": torch.ones(300) for number in range(20)}}, path, **layout)
    path.write_bytes(path.read_bytes()[: max(2, int(path.stat().st_size * share))])
    with pytest.raises(DamagedCheckpointError, match=r"net.pth is cut short or damaged(.|\n)*download it again"):
        read_state(path)


@pytest.mark.parametrize("length", [3, 8, 20, 90, 4000])
def test_safetensors_that_are_cut_short_are_refused(tmp_path: Path, length: int):
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.ones(1000), "b": torch.ones(10)}, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedCheckpointError, match=r"net.safetensors is cut short, or its header is damaged"):
        read_state(path)


@pytest.mark.parametrize("header", [b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', b'{"a": 3}', b"{{{{"])
def test_safetensors_with_a_broken_header_are_refused(tmp_path: Path, header: bytes):
    path = tmp_path / "net.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(DamagedCheckpointError, match="its header is damaged"):
        read_state(path)


def test_an_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "net.pth").touch()
    with pytest.raises(DamagedCheckpointError, match=r"net.pth is empty"):
        read_state(tmp_path / "net.pth")


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("sam/sam_vit_h_4b8939.pth", b"...")
    with pytest.raises(NotACheckpointError, match=r"holds sam/sam_vit_h_4b8939.pth(.|\n)*unpack it"):
        read_state(tmp_path / "net.pth")


def test_a_pointer_of_git_lfs_is_refused(tmp_path: Path):
    (tmp_path / "net.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(NotACheckpointError, match="git lfs pull"):
        read_state(tmp_path / "net.pth")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>", b"\x89PNG\r\n\x1a\n", b"x"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(NotACheckpointError, match="is no checkpoint: it begins with"):
        read_state(tmp_path / "net.pth")


def test_a_file_that_is_not_there_is_a_wrong_path(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="correct the path"):
        read_state(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"a": torch.ones(2), "b": 3}, "'b' is a int"),
        ({"model": {"a": [1.0, 2.0]}}, "'a' is a list"),
        ({3: torch.ones(2)}, "3 is a Tensor"),
        ({"a": torch.eye(2).to_sparse()}, "'a' is a Tensor"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"model": {}}, "holds nothing"),
        ({}, "holds nothing"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, found: str):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(NotACheckpointError, match=f"net.pth.* {found}"):
        read_state(tmp_path / "net.pth")


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path):
    torch.save({"a": torch.ones(2), "module.a": torch.ones(2)}, tmp_path / "net.pth")
    with pytest.raises(NotACheckpointError, match="'a' twice"):
        read_state(tmp_path / "net.pth")


def test_a_few_bytes_that_pass_for_gigabytes_are_refused(tmp_path: Path):
    torch.save({"a": torch.ones(1).expand(10**10)}, tmp_path / "net.pth")
    with pytest.raises(DamagedCheckpointError, match=r"40,000,000,000 bytes"):
        read_state(tmp_path / "net.pth")


def test_a_small_file_that_would_fill_a_disk_is_refused(tmp_path: Path):
    shared = torch.ones(1000)
    torch.save({f"layer.{number}": shared for number in range(100)}, tmp_path / "net.pth")
    with pytest.raises(DamagedCheckpointError, match=r"much shorter than its tensors, which have 400,000 bytes"):
        read_state(tmp_path / "net.pth")


def test_a_checkpoint_that_was_packed_again_is_refused_not_misread(tmp_path: Path):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "given.pth")
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(tmp_path / "given.pth") as given, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for one in given.infolist():
            packed.writestr(one.filename, given.read(one))
    with pytest.raises(NotACheckpointError, match=r"net.pth was packed again: .* is compressed"):
        read_state(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "net.pth"
    torch.save({"model": {f"layer.{number}": torch.ones(3) for number in range(4)}, "epoch": 3}, path)
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@example(changes=[(0.8352862926881555, 64)])  # the version of zip that the directory names
@given(changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]
):
    content = bytearray(whole)
    for place, value in changes:
        content[int(place * len(content))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(content)
    try:
        state = read_state(path)
    except CheckpointError:
        return
    assert all(isinstance(value, torch.Tensor) for value in state.values())
