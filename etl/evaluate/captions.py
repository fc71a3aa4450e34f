"""How near captions come to those of the truth: exact matches, and F1 of their words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from etl.evaluate.matching import Match
from etl.evaluate.rows import Pair

TOO_SMALL = "label"  # flag of a caption that is only the label, because the crop was too small for the captioner


@dataclass(frozen=True)
class Texts:
    """Means over captions, each counting the same.

    Both measures are those of SQuAD (Rajpurkar et al. 2016, section 6.1) without its treatment of articles: words are
    runs of letters and digits in lower case, so spaces, punctuation and case do not count; with several captions in the
    truth the best counts.

    Attributes:
        exact: Share of captions with the truth's words in the truth's order; None when nothing was compared.
        word_f1: Mean F1 of the words of both, each word as often as it is there; None likewise.
        n: Captions compared.
        missing: Of these, captions that the prediction lacks; they count as wrong.
        too_small: Further matched instances that are not compared, because their crop was too small to be captioned.
    """

    exact: float | None = None
    word_f1: float | None = None
    n: int = 0
    missing: int = 0
    too_small: int = 0


@dataclass(frozen=True)
class CaptionScores:
    """Captions of matched instances, and of whole images."""

    instances: Texts = field(default_factory=Texts)
    images: Texts = field(default_factory=Texts)


def words(text: str) -> list[str]:
    """The words of a caption, as they are compared.

    >>> words("Two shapes, in red : a star")
    ['two', 'shapes', 'in', 'red', 'a', 'star']
    """
    return re.findall(r"\w+", text.casefold())


def word_f1(truth: str, predicted: str) -> float:
    """F1 of the words of two captions, each as often as it is there; 1 when both have none.

    >>> word_f1("a red star and a ring", "a red ring")  # 3 of 6 and of 3 words: a, red, ring
    0.6666666666666666
    """
    one, other = Counter(words(truth)), Counter(words(predicted))
    both = one.total() + other.total()
    return 2 * (one & other).total() / both if both else 1.0


class TextCounter:
    """Compares captions one by one."""

    def __init__(self) -> None:
        self._f1: list[float] = []
        self._exact = self._missing = self._too_small = 0

    def add(self, truth: Sequence[str], predicted: str | None) -> float:
        """Compare a caption with those of the truth, at least one; returns the F1 of its words."""
        best = 0.0
        if predicted is None:
            self._missing += 1
        else:
            best = max(word_f1(one, predicted) for one in truth)
            self._exact += any(words(one) == words(predicted) for one in truth)
        self._f1.append(best)
        return best

    def skip(self) -> None:
        """Count an instance whose crop was too small."""
        self._too_small += 1

    def texts(self) -> Texts:
        """The means over all captions compared."""
        n = len(self._f1)
        return Texts(
            exact=self._exact / n if n else None,
            word_f1=math.fsum(self._f1) / n if n else None,
            n=n,
            missing=self._missing,
            too_small=self._too_small,
        )


class CaptionCounter:
    """Compares the captions of images and of their matched instances."""

    def __init__(self) -> None:
        self._images, self._instances = TextCounter(), TextCounter()

    def add(self, pair: Pair, matches: Sequence[Match]) -> list[float]:
        """Compare all captions of one image; returns the F1 of the words of each."""
        return list(self._compared(pair, matches))

    def _compared(self, pair: Pair, matches: Sequence[Match]) -> Iterator[float]:
        if pair.truth.captions:
            yield self._images.add(pair.truth.captions, next(iter(pair.predicted.captions), None))
        for one in matches:
            if one.truth.caption is None:
                continue
            if one.predicted.flag == TOO_SMALL:
                self._instances.skip()
            else:
                yield self._instances.add([one.truth.caption], one.predicted.caption)

    def scores(self) -> CaptionScores:
        """The scores of all captions compared."""
        return CaptionScores(instances=self._instances.texts(), images=self._images.texts())
