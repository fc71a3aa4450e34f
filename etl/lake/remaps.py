"""Which data file took the place of one that held pictures taken down: how older versions of a table stay readable.

A takedown rewrites files that older versions, pinned by manifests, still name; table ``rewrites`` says by which file
each was replaced. Whoever reads an older version maps its files through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from etl.errors import DataError
from etl.lake.lake import Lake

Remap = Mapping[str, str | None]
_COLUMNS = ["table_name", "old_path", "new_path", "rewritten_at"]


def read_remaps(lake: Lake) -> dict[str, dict[str, str | None]]:
    """Per table the replaced files: path inside the table -> path of the same rows without those taken down.

    None stands for a file of which no row is left. Two takedowns may have replaced one file at once: the row with the
    lowest (rewritten_at, new_path) counts for every reader alike, and whatever the other removed is removed from its
    new file in turn.

    Raises:
        StorageError: The store failed.
    """
    if not lake.has("rewrites"):
        return {}
    found: dict[str, dict[str, tuple[datetime, str]]] = {}
    for batch in lake.table("rewrites").to_pyarrow_dataset().to_batches(columns=_COLUMNS):
        for row in batch.to_pylist():
            known = found.setdefault(row["table_name"], {})
            candidate = (row["rewritten_at"], row["new_path"] or "")
            known[row["old_path"]] = min(candidate, known.get(row["old_path"], candidate))
    return {table: {old: new or None for old, (_, new) in rows.items()} for table, rows in found.items()}


def resolve(paths: Iterable[str], remap: Remap) -> list[str]:
    """The files that hold the rows of ``paths`` today, in their order, each once.

    >>> resolve(["a", "b", "c"], {"a": "a1", "a1": "a2", "b": None})
    ['a2', 'c']

    Raises:
        DataError: The replacements lead in a circle.
    """
    kept: dict[str, None] = {}
    for path in paths:
        now, seen = path, {path}
        while now in remap:
            new = remap[now]
            if new is None:
                break
            if new in seen:
                raise DataError(f"table 'rewrites' leads from {path} in a circle", remedy="run 'groundlake lake check'")
            seen.add(new)
            now = new
        else:
            kept[now] = None
    return list(kept)
