"""Tokenizers of the small networks: every ASCII text has tokens, and the ids are those the networks need."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel, WordPiece
from transformers import BertTokenizer, PreTrainedTokenizerFast

# Ids of bert-base-uncased that GroundingDINO relies on, and those of the punctuation that tags may hold.
_BERT = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
_BERT |= {"'": 1005, "(": 1006, ")": 1007, ",": 1010, "-": 1011, ".": 1012, "/": 1013, "?": 1029}
PAD, UNKNOWN, START, END, OPT_END, IMAGE = "<pad>", "<unk>", "<start>", "<end>", "</s>", "<image>"
_CHARACTERS = string.ascii_lowercase + string.digits


def detector_tokenizer(words: Iterable[str]) -> BertTokenizer:
    """A BERT tokenizer with BERT's own ids for separators; words beyond ``words`` become single characters."""
    vocabulary = dict(_BERT)
    free = [number for number in range(1030) if number not in vocabulary.values()]
    vocabulary |= {f"[unused{number}]": number for number in free}
    return BertTokenizer(vocab=_append(vocabulary, words))


def encoder_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A CLIP-like tokenizer: start and end tokens, padding; the end token's id is not 2."""
    special = {PAD: 0, UNKNOWN: 1, "<unused>": 2, START: 3, END: 4}
    marks = {mark: number for number, mark in enumerate(string.punctuation, start=len(special))}
    tokenizer = Tokenizer(WordPiece(_append(special | marks, words), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, special[START]), (END, special[END])]
    )
    return _wrap(tokenizer, START, END)


def captioner_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Whole words, laid out as OPT's: padding 1, start and end 2; the image token is 3."""
    special = {UNKNOWN: 0, PAD: 1, OPT_END: 2, IMAGE: 3}
    vocabulary = special | {word: number for number, word in enumerate(words, start=len(special))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(tokenizer, OPT_END, OPT_END, [IMAGE])


def _wrap(tokenizer: Tokenizer, start: str, end: str, more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    wrapper: Any = PreTrainedTokenizerFast  # has no type information for its arguments
    wrapped: PreTrainedTokenizerFast = wrapper(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=start,
        eos_token=end,
        additional_special_tokens=list(more),
    )
    return wrapped


def _append(vocabulary: dict[str, int], words: Iterable[str]) -> dict[str, int]:
    pieces = [*_CHARACTERS, *(f"##{character}" for character in _CHARACTERS), *words]
    for piece in pieces:
        vocabulary.setdefault(piece, len(vocabulary))
    return vocabulary
