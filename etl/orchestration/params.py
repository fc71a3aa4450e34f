"""The trigger forms: what a person may ask a DAG for, with the names the catalog has.

A list with suggestions takes nothing else in the UI; where other names are right, the field is text, one per line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Param

from etl.orchestration.place import catalog_or_nothing
from etl.settings.catalog import STAGES

WHAT, HOW = "What", "How"


def ingest_params() -> dict[str, Param]:
    """The form of the ingest DAG."""
    names = sorted(catalog_or_nothing().sources)
    return {
        "sources": _choice(
            "Sources",
            "Url lists to ingest, by their name in the catalog. **Empty: every source with `nightly: true`.**",
            names,
            WHAT,
        ),
        "shards": _choice(
            "Shards",
            "Only these, one per line: ids or unique beginnings of ids, as `groundlake status --shards` prints them. "
            "One that is open is downloaded; one that is settled is downloaded again, as a new attempt. "
            "**Empty: all that is open or new.**",
            [],
            WHAT,
        ),
        "retry_failed": Param(
            False,
            type="boolean",
            title="Retry what failed",
            description_md="Also urls whose last try failed for a passing reason: time-out, DNS, 429, 5xx.",
            section=HOW,
        ),
    }


def annotate_params() -> dict[str, Param]:
    """The form of the annotate DAG."""
    catalog = catalog_or_nothing()
    names = ", ".join(f"`{name}`" for name in sorted(catalog.sources)) or "none"
    models = [f"{model.stage}={model.name}" for model in catalog.models.values()]
    return {
        "sources": _choice(
            "Sources",
            f"Only these, one per line: those of the catalog ({names}), and those made by `groundlake ingest run`. "
            "**Empty: those whose new images started this run, or all.**",
            [],
            WHAT,
        ),
        "shards": _choice(
            "Shards",
            "Only these, one per line: ids or unique beginnings of ids, as `groundlake status --shards` prints them. "
            "**Empty: all shards with something to do.**",
            [],
            WHAT,
        ),
        "stages": _choice("Stages", "Stages to run, always in this order.", STAGES, WHAT, default=STAGES),
        "models": _choice(
            "Models", "`stage=model`; a stage not named takes its source's model, or the default one.", models, HOW
        ),
        "force": Param(
            False,
            type="boolean",
            title="Redo what is fresh",
            description_md="Also images whose results are up to date. Results are replaced, never doubled.",
            section=HOW,
        ),
    }


def manifest_params() -> dict[str, Param]:
    """The form of the manifest DAG."""
    return {
        "names": _choice(
            "Manifests",
            "Manifests to build, by their name in the catalog. **Empty: all with `on_new_annotations: true`.**",
            sorted(catalog_or_nothing().manifests),
            WHAT,
        )
    }


def _choice(title: str, text: str, examples: Sequence[str], section: str, *, default: Sequence[str] = ()) -> Param:
    """A list of names: picked from ``examples``, or typed, one per line, where there are none."""
    form: dict[str, Any] = {"title": title, "description_md": text, "section": section}
    if examples:
        form["examples"] = list(examples)
    return Param(list(default), type=["null", "array"], items={"type": "string"}, **form)
