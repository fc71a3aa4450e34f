"""What runs inside the ``plan`` tasks: from a form or an asset event to references, one per mapped task or group.

References are small mappings: what a command needs to find its work in the lake, and a ``label`` for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigurationError, DataError
from etl.orchestration.place import Place
from etl.settings.catalog import STAGES, Source

if TYPE_CHECKING:
    from etl.ingest.shards import ShardRef

log = getLogger(__name__)
Reference = dict[str, Any]
SHORT = 8  # digits of an id that people read


def request_name(dag: str, run_id: str) -> str:
    """The name of a run's request in the lake; two DAGs may have runs of the same id."""
    return f"{dag}/{run_id}"


@dataclass(frozen=True)
class Planned:
    """The references of a run, and what could not be planned, in words: the verdict reports it."""

    references: list[Reference]
    problems: list[str]


def plan_ingest_shards(place: Place, params: Mapping[str, Any], request: str) -> Planned:
    """The shards to download: those asked for, else open ones of earlier runs, then new ones.

    An unreadable list holds up no other source.

    Raises:
        UnknownNameError: A source that was asked for is not in the catalog, or a shard is unknown.
    """
    from etl.ingest.planning import plan_ingest, plan_shards

    if asked := params.get("shards"):
        return Planned([_download(shard) for shard in plan_shards(place.lake, asked, request)], [])
    references: list[Reference] = []
    problems: list[str] = []
    for source in _ingest_sources(place, params):
        try:
            shards = plan_ingest(place.lake, source, request, retry_failed=bool(params.get("retry_failed")))
        except (DataError, ConfigurationError) as error:
            problems.append(f"source {source.name}: {error}")
            log.error("source %s cannot be planned: %s", source.name, error)
            continue
        log.info("source %s: %d shards to download", source.name, len(shards))
        references += [_download(shard) for shard in shards]
    _say(references, "every url of these sources is settled already")
    return Planned(references, problems)


def _download(shard: ShardRef) -> Reference:
    return {
        "source": shard.source,
        "shard": shard.shard_id,
        "attempt": shard.attempt,
        "label": f"{shard.source} {shard.shard_id[:SHORT]}" + (f" #{shard.attempt}" * (shard.attempt > 1)),
    }


def plan_annotation_groups(
    place: Place, params: Mapping[str, Any], request: str, event_sources: Sequence[str] = ()
) -> list[Reference]:
    """The groups to annotate: of the sources asked for, else of those whose events started the run, else of all.

    Raises:
        UnknownNameError: A source, shard, stage or model is unknown.
        ConfigurationError: A model is not given as ``stage=model``.
    """
    from etl.stages.planning import plan_request

    planned = plan_request(
        place.lake,
        place.catalog,
        request,
        sources=params.get("sources") or sorted(set(event_sources)),
        shards=params.get("shards") or [],
        stages=params.get("stages") or STAGES,
        models=models_of(params.get("models") or []),
        force=bool(params.get("force")),
    )
    references = [
        {
            "request": planned.key,
            "group": number,
            "source": group.source,
            "shards": len(group.shards),
            "stages": list(planned.stages),
            "label": f"{group.source} {group.shards[0][:SHORT]}"
            + (f" and {len(group.shards) - 1} more" if len(group.shards) > 1 else ""),
        }
        for number, group in enumerate(planned.groups)
    ]
    _say(references, "every image has fresh results of these stages")
    return references


def plan_manifests(place: Place, params: Mapping[str, Any]) -> list[Reference]:
    """The manifests to build: those asked for, else all that follow new annotations.

    Raises:
        UnknownNameError: A manifest that was asked for is not in the catalog.
    """
    asked = params.get("names") or [m.name for m in place.catalog.manifests.values() if m.on_new_annotations]
    before = manifest_versions(place)
    references = [
        {"name": name, "label": name, "before": before.get(name)}
        for name in (place.catalog.manifest(name).name for name in asked)
    ]
    _say(references, "no manifest of the catalog says on_new_annotations: true")
    return references


def manifest_versions(place: Place) -> dict[str, str]:
    """The latest version of each manifest that was ever built."""
    from etl.lake import Snapshot

    query = "select name, arg_max(version, built_at) from raw.manifests group by name"
    with Snapshot.take(place.lake).connect() as connection:
        return dict(connection.sql(query).fetchall())


def sources_of_events(events: Mapping[Any, Sequence[Any]] | None) -> list[str]:
    """The sources named in the ``extra`` of asset events; none for a manual or nightly run."""
    named = [source for group in (events or {}).values() for event in group for source in _named(event)]
    return sorted(set(named))


def _named(event: Any) -> Iterable[str]:
    return (getattr(event, "extra", None) or {}).get("sources") or []


def models_of(choices: Iterable[str]) -> dict[str, str]:
    """``["tag=mine"]`` as a mapping; raises ConfigurationError.

    >>> models_of(["tag=mine", "ground=theirs"])
    {'tag': 'mine', 'ground': 'theirs'}
    """
    found: dict[str, str] = {}
    for choice in choices:
        stage, equals, model = (part.strip() for part in choice.partition("="))
        if not (equals and model and stage in STAGES):
            raise ConfigurationError(
                f"model {choice!r}: expected stage=model with a stage of {', '.join(STAGES)}",
                remedy="trigger the run again, with something like tag=NAME; see 'groundlake models list'",
            )
        found[stage] = model
    return found


def _ingest_sources(place: Place, params: Mapping[str, Any]) -> list[Source]:
    asked = params.get("sources") or []
    if asked:
        return [place.catalog.source(name) for name in dict.fromkeys(asked)]
    return [source for source in place.catalog.sources.values() if source.nightly]


def _say(references: Sequence[Reference], nothing: str) -> None:
    if not references:
        log.info("nothing to do: %s", nothing)
    for reference in references:
        log.info("planned: %s", reference["label"])
