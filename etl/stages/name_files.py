"""Options that are a list of names, or ``file:<path>`` with one name on each line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FROM_FILE = "file:"


def names_given(value: Any) -> Any:
    """The names of a file where the option names one, else the option as it is; raises ValueError."""
    if not isinstance(value, str) or not value.startswith(FROM_FILE):
        return value
    try:
        lines = Path(value.removeprefix(FROM_FILE)).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file of names cannot be read: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())
