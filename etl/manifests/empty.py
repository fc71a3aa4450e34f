"""Why a manifest would be empty, in words that lead on."""

from __future__ import annotations

from collections.abc import Mapping

from etl.errors import DataError

_REMEDIES = (
    ("images_taken_down", "these images were taken down; choose others"),
    ("images_unknown", "the ids must be those of the view images; look with: groundlake sql 'select * from images'"),
    ("ground_pending", "annotate first: groundlake annotate run; see 'groundlake status'"),
    ("ground_failed", "see why: groundlake sql \"select reason, error from outcomes where status = 'failed'\""),
    ("no_embedding", "finish the embed stage: groundlake annotate run; or --option missing_embedding=drop_instance"),
    ("too_few_instances", "choose images with objects, lower the thresholds, or --option min_instances=0"),
)


class EmptyManifestError(DataError):
    """Not one image is left for the manifest.

    Args:
        counts: How many rows and images the SQL named, and where they went.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        seen = ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
        largest = max((name for name, _ in _REMEDIES), key=lambda name: counts.get(name, 0))
        if not counts.get("rows"):
            message, remedy = _no_rows(counts)
        else:
            message = f"no image is left for the manifest ({seen})"
            remedy = dict(_REMEDIES)[largest] if counts.get(largest) else "see the reasons above"
        super().__init__(message, remedy=remedy)
        self.counts = dict(counts)


def _no_rows(counts: Mapping[str, int]) -> tuple[str, str]:
    if not counts.get("images_in_lake"):
        return "the SQL yields no row: the lake holds no images", "ingest some first: groundlake ingest run"
    held = f"the lake holds {counts['images_in_lake']} images"
    if not counts.get("current_annotators"):
        return f"the SQL yields no row: {held} and no annotations", "annotate them first: groundlake annotate run"
    message = f"the SQL yields no row: {held} with {counts['instances_in_lake']} instances, and it chooses none of them"
    return message, "loosen its conditions; try it with 'groundlake sql'"
