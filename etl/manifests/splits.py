"""Which split an image falls into: by the hash of its id, so that growth never moves an image."""

from __future__ import annotations

import math
import re

from etl.errors import ConfigurationError
from etl.lake.ids import digest
from etl.settings.catalog import Split

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")


class Splitter:
    """Shares of the hash range per split, in the order of the names.

    Raises:
        ConfigurationError: A name cannot be a file name, a share is not positive, or they do not add up to one.
    """

    def __init__(self, split: Split) -> None:
        for name, share in split.shares.items():
            if not _NAME.fullmatch(name) or not 0 < share <= 1:
                raise ConfigurationError(
                    f"split {name!r} with share {share}: expected a name of a-z, 0-9, _ and -, and a share in 0..1",
                    remedy="for example --split train=0.9,val=0.1",
                )
        if not math.isclose(sum(split.shares.values()), 1.0, abs_tol=1e-6):
            raise ConfigurationError(
                f"the shares {split.shares} add up to {sum(split.shares.values()):g}, expected 1",
                remedy="for example --split train=0.9,val=0.1",
            )
        self.names = sorted(split.shares)
        self._split = split

    def of(self, image_id: str) -> str:
        """The split of an image."""
        position = int(digest("split", self._split.salt, image_id)[:13], 16) / 16**13
        for name in self.names[:-1]:
            position -= self._split.shares[name]
            if position < 0:
                return name
        return self.names[-1]
