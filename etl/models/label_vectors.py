"""Vectors of own labels, kept in a lake's model store: thousands of labels take minutes, and once is enough.

They lie in ``models/label-vectors/<digest>.npy``; the digest is of the encoder's weights and of every sentence. The
first to make them is kept: a process on another device would make others in their last bits, and all use the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from etl.models.label_prompts import label_prompts
from etl.models.load import materialise
from etl.models.store import ModelStore
from etl.settings import Network
from etl.storage import NotFoundError

log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
FORMULA = 1  # raised when the same sentences come to give other vectors
_LENGTH_ERROR = 1e-3  # of a vector, which is 1 long


def kept_vectors(
    models: ModelStore, encoder: Network, labels: Sequence[str], templates: tuple[str, ...], make: Callable[[], Vectors]
) -> Vectors:
    """The labels' vectors [labels, width], from the model store, or made and put there.

    Args:
        models: The store.
        encoder: The label encoder.
        labels: The labels.
        templates: Sentences they are embedded in.
        make: Makes them; called only when the store has none that are whole.

    Raises:
        ConfigurationError: The encoder's weights are absent or wrong.
    """
    key = _key(models, encoder, labels, templates)
    kept = _read(models, key, len(labels))
    if kept is not None:
        return kept
    made = make()
    content = io.BytesIO()
    np.save(content, made, allow_pickle=False)
    if not models.store.put_if_absent(key, content.getvalue()):
        kept = _read(models, key, len(labels))
        if kept is not None:  # a twin was first
            return kept
        models.store.put(key, content.getvalue())
    return made


def _key(models: ModelStore, encoder: Network, labels: Sequence[str], templates: tuple[str, ...]) -> str:
    if models.weights_digest(encoder) is None:
        materialise(models, encoder)
    sentences = [label_prompts(label, templates) for label in labels]
    text = json.dumps([FORMULA, models.weights_digest(encoder), sentences])
    return f"models/label-vectors/{hashlib.sha256(text.encode()).hexdigest()}.npy"


def _read(models: ModelStore, key: str, count: int) -> Vectors | None:
    """What the store has under a key, or None when it has nothing or something that is not whole."""
    try:
        content = models.store.read(key)
    except NotFoundError:
        return None
    try:
        vectors = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        log.warning("%s is damaged and made anew: %s", models.store.join(key), error)
        return None
    good = vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == count
    if not good or not (np.abs(np.linalg.norm(vectors, axis=1) - 1) < _LENGTH_ERROR).all():  # NaN is not near 1 either
        log.warning("%s holds other numbers than vectors of %d labels: made anew", models.store.join(key), count)
        return None
    return vectors
