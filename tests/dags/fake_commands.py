"""Stands where the Python of the commands stands, so that failures can be ordered: ``stage run`` writes real outcomes.

``FAKE_FAILURES`` is a JSON mapping from a pattern of a command line to the exit code it ends with.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from fnmatch import fnmatch


def main(line: list[str]) -> None:
    for pattern, code in json.loads(os.environ["FAKE_FAILURES"]).items():
        if fnmatch(" ".join(line), pattern):
            print(f"ordered to fail: {' '.join(line)}")  # noqa: T201
            sys.exit(code)
    if line[:2] == ["stage", "run"]:
        annotate(line[2], line[line.index("--request") + 1], int(line[line.index("--group") + 1]))


def annotate(stage: str, key: str, number: int) -> None:
    from etl.lake import Lake, Snapshot  # a second that the other commands need not spend
    from etl.settings import Settings
    from etl.stages.planning import read_request

    lake = Lake.open(os.environ["GROUNDLAKE_LAKE"], Settings())
    request = read_request(lake, key)
    with Snapshot.take(lake).connect() as connection:
        images = connection.execute(
            "select image_id, shard_id from images where shard_id in (select unnest(?::varchar[]))",
            [list(request.groups[number].shards)],
        ).fetchall()
    rows = [outcome(image, shard, stage, request.requested_at) for image, shard in images]
    lake.append("outcomes", rows, f"{key}-{stage}-{number}")


def outcome(image: str, shard: str, stage: str, requested_at: str) -> dict:
    return {
        "image_id": image,
        "shard_id": shard,
        "stage": stage,
        "annotator_id": stage,
        "unit": f"unit-{stage}",
        "requested_at": datetime.fromisoformat(requested_at),
        "status": "ok",
        "reason": None,
        "error": None,
        "retryable": False,
        "input_digest": "i",
        "value_digest": "v",
        "seconds": 0.1,
    }


if __name__ == "__main__":
    main(sys.argv[3:])  # after -m etl.cli.main
