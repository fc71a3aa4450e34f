"""Folders for what a process puts on its own disk meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.errors import RetryableError


@contextmanager
def scratch_folder(root: Path, prefix: str, unharmed: str) -> Iterator[Path]:
    """A folder below ``root`` that goes at the end; sweep knows ``prefix``, for those of processes that were killed.

    Args:
        root: The scratch folder of the settings.
        prefix: How its name begins.
        unharmed: What an error may promise, such as ``no row changed``.

    Raises:
        RetryableError: The disk failed, also while the folder was used.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise RetryableError(
            f"the scratch folder {root} failed: {error}",
            remedy=f"free its disk or set GROUNDLAKE_SCRATCH to another one, then run it again: {unharmed}",
        ) from error
