"""Files that somebody has become weights of the lake, whole and once, or are refused with what to do."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import stand_in_converter
from real_models import model_store

from etl.errors import ConfigurationError
from etl.models.load import materialise
from etl.models.store import combined_digest, report_key
from etl.models.weights import partial
from etl.models.weights.add import add
from etl.models.weights.errors import NoRoomError, WrongDigestError, WrongFilesError, WrongSizeError
from etl.settings import WeightsFile
from etl.storage.base import LastingError

pytestmark = pytest.mark.usefixtures("converter")


def quiet(*_: object) -> None:
    """No progress."""


@pytest.fixture
def given(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / "sam.pth"
    path.write_bytes(content)
    return path


@pytest.fixture
def put(models, entry, given, tmp_path):
    """Add the given file; every argument can be another one."""

    def call(*paths: Path, to=models, of=entry):
        return add(to, of, paths or (given,), tmp_path / "scratch", quiet)

    return call


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class TestWhatIsKept:
    def test_only_the_converted_folder_and_what_it_was_made_from(self, put, models, entry, content, tmp_path):
        added = put()
        found = models.stored(entry.network)
        assert found.digest == added.digest == combined_digest(found.files)
        assert set(found.files) == {"config.json", "model.safetensors"}
        assert found.sources == {"sam.pth": sha(content)}
        assert found.bytes == added.bytes == sum(p.stat().st_size for p in materialise(models, entry.network).iterdir())
        assert not any((tmp_path / "scratch").iterdir())

    def test_what_became_of_every_key_lies_beside_them(self, put, models, entry):
        report = models.store.read_json(report_key("sam", put().digest))
        assert report["renamed"] == {"image_encoder.a": "vision_encoder.a"}
        assert report["dropped"] == {"pixel_mean": "not needed", "pixel_std": "not needed"}
        assert report["missing"] == report["unexpected"] == []


class TestWhichFiles:
    def test_a_folder_will_do(self, put, given):
        assert put(given.parent).digest

    def test_a_missing_one_is_named_with_where_upstream_has_it(self, put, entry_of, server):
        with pytest.raises(WrongFilesError) as caught:
            put(of=entry_of("sam.pth", "lists/tags.txt"))
        assert "needs lists/tags.txt too" in str(caught.value)
        assert server.url("/lists/tags.txt") in str(caught.value)

    def test_one_that_is_no_part_of_it_is_refused(self, put, given):
        other = given.with_name("other.pth")
        other.write_bytes(b"x")
        with pytest.raises(WrongFilesError, match=r"other\.pth is no file of sam-mine; its files are sam\.pth"):
            put(given, other)

    def test_one_that_is_given_twice_is_refused(self, put, given):
        with pytest.raises(WrongFilesError, match="give it once"):
            put(given, given)

    def test_one_that_is_not_there_is_refused(self, put, tmp_path):
        with pytest.raises(WrongFilesError, match="does not exist"):
            put(tmp_path / "none.pth")


class TestRefused:
    def pinned(self, entry, **facts):
        return entry.model_copy(update={"files": (WeightsFile(name="sam.pth", url=entry.files[0].url, **facts),)})

    def test_half_a_file(self, put, entry, given, content):
        given.write_bytes(content[: len(content) // 2])
        with pytest.raises(WrongSizeError, match=r"given/sam\.pth has 50,000 bytes.*100,000: it is cut short"):
            put(of=self.pinned(entry, bytes=len(content)))

    def test_another_file_than_the_catalog_pins(self, put, models, entry):
        with pytest.raises(WrongDigestError, match=rf"the catalog pins {'0' * 64}") as caught:
            put(of=self.pinned(entry, sha256="0" * 64))
        assert caught.value.exit_code == 65
        assert models.stored(entry.network) is None

    def test_another_file_than_the_one_added_first(self, put, models, entry, given, content):
        first = put().digest
        given.write_bytes(content[::-1])
        with pytest.raises(WrongDigestError, match=rf"the one added first has {sha(content)}"):
            put()
        assert models.weights_digest(entry.network) == first

    def test_another_family(self, put, models, entry, given):
        given.write_bytes(b"SAM-HQ and its numbers")
        with pytest.raises(ConfigurationError, match="this is a SAM-HQ checkpoint"):
            put()
        assert models.stored(entry.network) is None

    def test_a_conversion_to_another_family(self, put, models, entry, converter):
        converter.convert = lambda _, files, out: stand_in_converter.convert("sam-hq", files, out)
        with pytest.raises(ConfigurationError, match="model_type 'sam_hq'; family 'sam' needs 'sam'"):
            put()
        assert models.stored(entry.network) is None

    def test_no_room_for_the_conversion(self, put, monkeypatch):
        monkeypatch.setattr(partial, "MARGIN", 1 << 60)
        with pytest.raises(NoRoomError, match="converting sam-mine needs"):
            put()


class TestInterrupted:
    @pytest.mark.parametrize("at", ["publish_file", "put_if_absent"])
    def test_weights_that_are_not_whole_are_never_found_and_the_next_add_completes_them(
        self, put, models, entry, monkeypatch, at
    ):
        def full(*_: object) -> None:
            raise LastingError("write", "x", "the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(models.store, at, full)
            with pytest.raises(LastingError):
                put()
        assert models.stored(entry.network) is None
        assert materialise(models, entry.network) if put() else False

    def test_a_conversion_that_fails_leaves_nothing(self, put, models, converter, tmp_path):
        def breaks(family: str, files: object, out: Path) -> None:
            (out / "half").write_bytes(b"x")
            raise MemoryError

        converter.convert = breaks
        with pytest.raises(MemoryError):
            put()
        assert list((tmp_path / "scratch").iterdir()) == list(models.store.list("models/")) == []


class TestAgain:
    def test_the_same_files_mend_what_was_damaged(self, put, models, entry, tmp_path):
        digest = put().digest
        stored = tmp_path / "lake" / "models" / "sam" / digest / "model.safetensors"
        stored.write_bytes(b"damaged")
        assert put().digest == digest
        assert materialise(models, entry.network).is_dir()

    def test_a_later_converter_does_not_change_what_is_there(self, put, models, entry, monkeypatch):
        first = put()
        monkeypatch.setattr(stand_in_converter, "VERSION", "2")
        second = put()
        assert (first.earlier, second.earlier) == (None, first.digest)
        assert models.weights_digest(entry.network) == first.digest

    def test_two_at_once_end_with_one(self, put, entry, tmp_path):
        with ThreadPoolExecutor(4) as pool:
            digests = {one.digest for one in pool.map(lambda _: put(to=model_store(tmp_path)), range(4))}
        assert digests == {model_store(tmp_path).weights_digest(entry.network)}

    def test_of_two_at_once_with_different_files_the_first_is_kept_and_the_other_hears_of_it(
        self, put, models, entry, given, content, converter
    ):
        other = given.parent.parent / "other" / "sam.pth"
        other.parent.mkdir()
        other.write_bytes(content[::-1])

        def meanwhile(family: str, files: dict[str, Path], out: Path) -> stand_in_converter.Report:
            converter.convert = stand_in_converter.convert
            put(other)
            return stand_in_converter.convert(family, files, out)

        converter.convert = meanwhile
        with pytest.raises(WrongDigestError, match=rf"the one added first has {sha(content[::-1])}"):
            put()
        assert models.stored(entry.network).sources == {"sam.pth": sha(content[::-1])}


def test_reports_are_json(put, models):
    text = models.store.read(report_key("sam", put().digest))
    assert isinstance(json.loads(text), dict)
