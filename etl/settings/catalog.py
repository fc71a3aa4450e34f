"""The catalog: sources, models, weights and manifests as YAML files, validated when they are loaded.

The package ships a catalog (``etl/settings/catalog_data``); a project may add files of its own, and a file of
the project replaces the shipped one of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from etl.errors import ConfigurationError, UnknownNameError

SHIPPED = Path(__file__).parent / "catalog_data"
STAGES = ("tag", "ground", "caption", "embed")
HUGGING_FACE = "https://huggingface.co"
FILE_NAME = r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$"
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
StageName = Literal["tag", "ground", "caption", "embed"]
FamilyName = Literal["ram", "ram-plus", "tag2text", "groundingdino", "sam", "sam-hq", "blip2", "qwen-vl", "clip-text"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=NAME)


class Download(BaseModel):
    """How a source's pictures are fetched; part of the shard id, because it changes the bytes or the verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    timeout: int = Field(10, ge=1, description="Seconds one request may take")
    retries: int = Field(1, ge=0, description="Further requests for a url that failed")
    threads: int = Field(16, ge=1, le=256, description="Parallel requests of one shard")
    min_side: int = Field(16, ge=1, description="Shorter side in pixels below which a picture is too_small")
    max_pixels: int = Field(100_000_000, ge=1, description="Width x height above which a picture is too_large")
    max_bytes: int = Field(50_000_000, ge=1, description="Length of an answer above which it is too_large")
    allow_private_addresses: bool = Field(
        False, description="Let downloads reach loopback and private networks; for tests and in-house mirrors"
    )


class Source(_Entry):
    """A list of image urls."""

    kind: Literal["urls"] = "urls"
    uri: str = Field(description="The list: .parquet, .csv, .tsv, .jsonl or .txt; relative to the catalog's parent")
    url_column: str = "url"
    caption_column: str | None = None
    licence: str | None = None
    shard_size: int = Field(10_000, ge=1, le=10_000, description="Urls per shard")
    max_failed_share: float = Field(0.5, ge=0, le=1, description="Share of a shard's urls that may fail before red")
    max_failed_order_share: float = Field(
        0.5, ge=0, le=1, description="Share of an order's images that may fail in a stage before it stops and is undone"
    )
    download: Download = Download()
    models: dict[StageName, str] = Field(default_factory=dict, description="Model per stage; else the default one")
    nightly: bool = Field(True, description="Whether the nightly ingest run takes this source")


class Network(BaseModel):
    """One network of a model and where its weights come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    family: FamilyName = Field(description="What kind of network it is; etl.models.families says what each is for")
    weights: str = Field(
        pattern=r"^(packaged:[a-z0-9-]+/[a-z0-9-]+@[0-9a-f]{12}|file:.+|catalog:[a-z0-9][a-z0-9._-]{0,62})$",
        description="packaged:<pack>/<network>@<first digits of its sha256> (shipped with groundlake), "
        "catalog:<file of catalog/weights> (upstream's, by 'groundlake models pull' or 'add'), "
        "or file:<folder with config.json and safetensors>",
    )


class ModelEntry(_Entry):
    """What a stage runs: its networks and every option that changes a result."""

    stage: StageName
    default: bool = Field(False, description="The model a stage takes when nobody names one")
    untrained: bool = Field(False, description="Random weights: structure is real, answers mean nothing")
    networks: dict[str, Network]
    options: dict[str, Any] = Field(default_factory=dict, description="Validated by the stage (thresholds, prompt, …)")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: where a family stands it; GroundingDINO and what follows SAM's encoder do not"
    )
    batch_size: int = Field(
        8, ge=1, description="Images a network sees at once; part of the annotator id, except in float32"
    )
    batch_sizes: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="The same for a kind of device (a GPU's name, or cpu), as 'groundlake models tune' measured it; "
        "goes before batch_size there. No part of the annotator id: kernels in reduced precision differ between kinds "
        "of devices anyway, within the same tolerance, and 'runs' keeps the device and the batch of every try",
    )
    engine: Literal["groundlake", "reference"] = Field(
        "groundlake",
        description="reference: upstream's own packages in an environment of their own, with weights file:<folder> "
        "that holds upstream's files",
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="How attention is computed, where there is a choice"
    )
    compile: bool = Field(False, description="Whether networks go through torch.compile, which takes minutes at first")

    @property
    def switches(self) -> dict[str, Any]:
        """Arguments of the networks' loaders that differ from their defaults; each changes the last bits of answers."""
        eager = {"attention": self.attention} if self.attention != "sdpa" else {}
        return eager | ({"compiled": True} if self.compile else {})


class WeightsFile(BaseModel):
    """One file of a checkpoint as its authors publish it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=FILE_NAME, description="Path within the checkpoint; 'models add' looks for its last part")
    url: str | None = Field(
        None, pattern=r"^https?://[^\s@]+$", description="Where it is; else the source's repository"
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="As its publisher states it; null: recorded when it is first added"
    )
    bytes: int | None = Field(None, ge=1, description="Its length, where the publisher states it")


class WeightsSource(BaseModel):
    """The repository of a hub that holds files without a url of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    huggingface: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="Owner and name of the repository")
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", description="Commit; null: what 'main' is that day")


class WeightsEntry(_Entry):
    """An upstream checkpoint: what it is, where it comes from, and the digests that make it that one."""

    family: FamilyName
    licence: str = Field(min_length=1, description="SPDX name, or what the authors call it; printed before a download")
    source: WeightsSource | None = None
    files: tuple[WeightsFile, ...] = Field(min_length=1)
    allow_http: bool = Field(False, description="Let files come over plain http; for in-house mirrors")
    allow_private_addresses: bool = Field(
        False, description="Let downloads reach loopback and private networks; for in-house mirrors"
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        names = [file.name for file in self.files]
        if len({name.rpartition("/")[2] for name in names}) < len(names):
            raise ValueError(f"two files of one name in {names}")
        for file in self.files:
            if file.url is None and self.source is None:
                raise ValueError(f"{file.name} has no url, and there is no source.huggingface to take it from")
            if file.url is not None and file.url.startswith("http://") and not self.allow_http:
                raise ValueError(f"{file.url} is not https; set allow_http if that is meant")
        return self

    def file(self, name: str) -> WeightsFile:
        """The file called ``name``; raises UnknownNameError."""
        for file in self.files:
            if file.name == name:
                return file
        raise UnknownNameError(f"file of {self.name}", name, [file.name for file in self.files])

    def url(self, file: WeightsFile) -> str:
        """Where a file is downloaded from."""
        if file.url is not None or self.source is None:
            return str(file.url)
        return f"{HUGGING_FACE}/{self.source.huggingface}/resolve/{self.source.revision or 'main'}/{file.name}"

    @property
    def network(self) -> Network:
        """How model entries name these weights, and the key under which a lake's model store holds them."""
        return Network(family=self.family, weights=f"catalog:{self.name}")


class Split(BaseModel):
    """Shares of the image groups per split, by hash of the image id: growth never reshuffles."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    shares: dict[str, float] = Field(default_factory=lambda: {"train": 1.0})
    salt: str = ""


class ManifestSpec(_Entry):
    """A training manifest: SQL over the lake's views, and the format a trainer reads."""

    format: Literal["instancediffusion", "meta_json", "coco", "jsonl"]
    sql: str = Field(description="One SELECT that yields the column image_id, or instance_id too")
    options: dict[str, Any] = Field(default_factory=dict)
    split: Split = Split()
    on_new_annotations: bool = Field(True, description="Build when the annotate DAG has published new rows")


@dataclass(frozen=True)
class Catalog:
    """All entries by name."""

    sources: dict[str, Source] = field(default_factory=dict)
    models: dict[str, ModelEntry] = field(default_factory=dict)
    manifests: dict[str, ManifestSpec] = field(default_factory=dict)
    weights: dict[str, WeightsEntry] = field(default_factory=dict)

    def source(self, name: str) -> Source:
        """The source called ``name``; raises UnknownNameError."""
        return _get(self.sources, "source", name, "add catalog/sources/<name>.yaml, or pass --urls")

    def manifest(self, name: str) -> ManifestSpec:
        """The manifest called ``name``; raises UnknownNameError."""
        return _get(self.manifests, "manifest", name, "add catalog/manifests/<name>.yaml, or pass --sql")

    def checkpoint(self, name: str) -> WeightsEntry:
        """The upstream checkpoint called ``name``; raises UnknownNameError."""
        return _get(self.weights, "weights", name, "see 'groundlake models list', or add catalog/weights/<name>.yaml")

    def model(self, stage: str, name: str | None = None) -> ModelEntry:
        """The model ``name`` of ``stage``, or the stage's default one.

        Raises:
            UnknownNameError: No such model for this stage.
            ConfigurationError: No default, or more than one.
        """
        of_stage = {m.name: m for m in self.models.values() if m.stage == stage}
        if name is not None:
            return _get(of_stage, f"{stage} model", name, "see 'groundlake models list'")
        defaults = [m for m in of_stage.values() if m.default]
        if len(defaults) != 1:
            raise ConfigurationError(
                f"stage {stage!r} has {len(defaults)} default models ({[m.name for m in defaults]}), expected one",
                remedy="set 'default: true' in exactly one file of catalog/models, or name the model",
            )
        return defaults[0]


EntryT = TypeVar("EntryT", bound=_Entry)


def _get(entries: dict[str, EntryT], kind: str, name: str, remedy: str) -> EntryT:
    if name not in entries:
        raise UnknownNameError(kind, name, list(entries), remedy=remedy)
    return entries[name]


def load_catalog(folder: Path | None = None) -> Catalog:
    """Read the shipped catalog and, over it, the one in ``folder``.

    Args:
        folder: A folder with ``sources``, ``models``, ``weights`` and ``manifests``, or None.

    Raises:
        ConfigurationError: A file is not valid: the message names file, key, value and what is allowed.
    """
    folders = [SHIPPED] + ([folder] if folder else [])
    if folder and not folder.is_dir():
        raise ConfigurationError(f"the catalog folder {folder} does not exist", remedy="create it or correct the path")
    catalog = Catalog(
        sources=_load(folders, "sources", Source),
        models=_load(folders, "models", ModelEntry),
        weights=_load(folders, "weights", WeightsEntry),
        manifests=_load(folders, "manifests", ManifestSpec),
    )
    for model in catalog.models.values():
        _check_weights(model, catalog)
    return catalog


def _check_weights(model: ModelEntry, catalog: Catalog) -> None:
    """Every ``catalog:`` of a model names weights that there are, of the family it says."""
    for role, network in model.networks.items():
        kind, _, name = network.weights.partition(":")
        if kind != "catalog":
            continue
        where = f"weights in model {model.name!r}, networks.{role}:"
        entry = _get(catalog.weights, where, name, "correct the name, or add catalog/weights/<name>.yaml")
        if entry.family != network.family:
            raise ConfigurationError(
                f"model {model.name!r}: networks.{role}.family: got {network.family!r}, but the weights {name!r} are "
                f"of family {entry.family!r}",
                remedy="correct 'family', or name other weights",
            )


def _load(folders: list[Path], kind: str, model: type[EntryT]) -> dict[str, EntryT]:
    found: dict[str, EntryT] = {}
    for folder in folders:
        for file in sorted((folder / kind).glob("*.yaml")):
            entry = read_entry(file, model)
            found[entry.name] = entry
    return found


def read_entry(file: Path, model: type[EntryT]) -> EntryT:
    """The entry that a catalog file defines; raises ConfigurationError when it is not valid."""
    try:
        text = file.read_text()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not YAML: {error}") from error
    return parse_entry(text, file, model)


def parse_entry(text: str, file: Path, model: type[EntryT]) -> EntryT:
    """The entry that a catalog file with this text defines; ``file`` gives it a name where the text does not.

    Raises:
        ConfigurationError: It is not valid.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file}: expected a mapping of keys, got {type(content).__name__}")
    content.setdefault("name", file.stem)
    if model is Source and content.get("uri") and "://" not in str(content["uri"]):
        content["uri"] = str((file.parent.parent.parent / str(content["uri"])).resolve())
    return validated(model, content, str(file))


ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(model: type[ModelT], content: dict[str, Any], where: str) -> ModelT:
    """Validate ``content`` as ``model``; raises ConfigurationError naming ``where``, key, value and what is allowed."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = []
        for one in error.errors():
            key = ".".join(str(part) for part in one["loc"])
            allowed = f"; allowed keys: {', '.join(model.model_fields)}" if one["type"] == "extra_forbidden" else ""
            received = f"{key}: got {one['input']!r}: " if key else ""  # rules over several keys quote what they refuse
            lines.append(f"{where}: {received}{one['msg']}{allowed}")
        raise ConfigurationError("\n".join(lines), remedy="correct the file and run the command again") from error
