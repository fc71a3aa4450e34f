"""From a uri to its store."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigurationError
from etl.storage import LocalStore, open_store


def test_a_path_and_a_file_uri_are_the_same_folder(tmp_path: Path) -> None:
    plain, uri = open_store(str(tmp_path)), open_store(f"file://{tmp_path}")
    assert isinstance(plain, LocalStore)
    assert plain.uri == uri.uri == str(tmp_path)


def test_an_unknown_scheme_names_those_that_are_known() -> None:
    with pytest.raises(ConfigurationError, match=r"gs://bucket(.|\n)*s3://bucket/prefix"):
        open_store("gs://bucket")


def test_s3_without_a_bucket_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="names no bucket"):
        open_store("s3:///prefix")
