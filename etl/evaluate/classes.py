"""How the labels of an annotator are called in the truth, and which of them are scored together."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from etl.errors import ConfigurationError
from etl.settings.catalog import validated

Label = Annotated[str, Field(min_length=1)]
_REMEDY = "for example: {classes: {person: human, grass: null}, groups: {animals: [cat, dog]}}"


class ClassMap(BaseModel):
    """Another name for the tags and labels of an annotator; the truth is never renamed.

    Attributes:
        classes: Name in the truth per label of the annotator; None: the label is ignored, neither right nor wrong.
        groups: Labels of the truth whose tags are also scored apart, by the name of the group.
        others: What becomes of labels that ``classes`` does not name: kept under their own name, or ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    classes: dict[Label, Label | None] = Field(default_factory=dict)
    groups: dict[Label, tuple[Label, ...]] = Field(default_factory=dict)
    others: Literal["keep", "ignore"] = "keep"

    @classmethod
    def read(cls, path: Path) -> ClassMap:
        """The map of a YAML file with the keys ``classes``, ``groups`` and ``others``, none of them needed.

        Raises:
            ConfigurationError: The file cannot be read, is no YAML, names a key twice, or holds something else.
        """
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=_NoKeyTwice)  # noqa: S506 - a safe loader
        except OSError as error:
            raise ConfigurationError(f"cannot read the class map {path}: {error}", remedy=_REMEDY) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the class map {path} is not YAML: {error}", remedy=_REMEDY) from error
        if not isinstance(content, dict):
            raise ConfigurationError(
                f"the class map {path}: expected a mapping of keys, got {type(content).__name__}", remedy=_REMEDY
            )
        return validated(cls, content, f"the class map {path}")

    def of(self, label: str) -> str | None:
        """What the truth calls a label of the annotator; None when it is to be ignored.

        >>> ClassMap(classes={"person": "human", "grass": None}).of("person"), ClassMap().of("cat")
        ('human', 'cat')
        """
        return self.classes.get(label, label if self.others == "keep" else None)

    def targets(self) -> frozenset[str]:
        """Every label of the truth that the map speaks of."""
        named = (label for label in self.classes.values() if label is not None)
        return frozenset((*named, *(label for group in self.groups.values() for label in group)))


class _NoKeyTwice(yaml.SafeLoader):
    """YAML takes the last of two equal keys without a word: here it would rename a label in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, Hashable) and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name if isinstance(name, Hashable) else id(key))
        return super().construct_mapping(node, deep)
