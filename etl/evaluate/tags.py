"""How many of the tags are right: precision, recall and F1 over all images together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Agreement:
    """Counts of tags over all images, and what follows from them.

    Attributes:
        truth: Tags of the truth, once per image.
        predicted: Tags of the prediction, once per image.
        correct: Tags that both give to the same image.
    """

    truth: int = 0
    predicted: int = 0
    correct: int = 0

    @property
    def precision(self) -> float | None:
        """Share of the predicted tags that are right; None when none was predicted."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the truth's tags that were predicted; None when there are none."""
        return self.correct / self.truth if self.truth else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of the two; None when neither side has a tag.

        >>> Agreement(truth=4, predicted=2, correct=2).f1
        0.6666666666666666
        """
        return 2 * self.correct / (self.truth + self.predicted) if self.truth + self.predicted else None


def agreement(truth: Collection[str], predicted: Collection[str]) -> Agreement:
    """The counts of one image, of tags without repetition."""
    return Agreement(len(truth), len(predicted), len(set(truth) & set(predicted)))


@dataclass(frozen=True)
class TagScores:
    """Micro averages: every tag of every image counts the same.

    The definition is that of Sebastiani 2002, "Machine learning in automated text categorization", section 7.1. A tag
    that the truth never names is wrong wherever it is predicted.

    Attributes:
        total: Over all tags.
        groups: Over the tags of each group of the class map.
        per_tag: Of each tag, by name.
        ignored: Predicted tags that the class map ignores; in no count above.
    """

    total: Agreement | None = None
    groups: Mapping[str, Agreement] = field(default_factory=dict)
    per_tag: Mapping[str, Agreement] = field(default_factory=dict)
    ignored: int = 0


class TagCounter:
    """Counts tags image by image."""

    def __init__(self) -> None:
        self._truth: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()
        self._correct: Counter[str] = Counter()

    def add(self, truth: Collection[str], predicted: Collection[str]) -> None:
        """Count one image, of tags without repetition."""
        self._truth.update(truth)
        self._predicted.update(predicted)
        self._correct.update(set(truth) & set(predicted))

    def scores(self, groups: Mapping[str, Collection[str]], ignored: int = 0) -> TagScores:
        """The scores of all images counted."""
        names = sorted({*self._truth, *self._predicted})
        return TagScores(
            total=self._over(names),
            groups={name: self._over(set(tags)) for name, tags in sorted(groups.items())},
            per_tag={name: self._over([name]) for name in names},
            ignored=ignored,
        )

    def _over(self, tags: Collection[str]) -> Agreement:
        counters = (self._truth, self._predicted, self._correct)
        return Agreement(*(sum(counter[tag] for tag in tags) for counter in counters))
