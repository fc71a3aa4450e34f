"""What a checkpoint is, by its keys."""

from __future__ import annotations

from collections.abc import Iterable

# Keys that only this family has among those that were not recognised before it; upstream's layout first, then that of
# transformers. The order matters: SAM-HQ has every key of SAM, RAM++ every one of RAM's tagger.
_SIGNATURES: tuple[tuple[str, frozenset[str]], ...] = (
    ("sam-hq", frozenset({"mask_decoder.hf_token.weight"})),
    ("sam-hq", frozenset({"mask_decoder.hq_token.weight"})),
    ("sam", frozenset({"mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight"})),
    ("ram-plus", frozenset({"reweight_scale", "label_embed"})),
    ("tag2text", frozenset({"label_embed.weight", "fc.W"})),
    ("ram", frozenset({"label_embed", "wordvec_proj.weight"})),
    ("groundingdino", frozenset({"transformer.level_embed", "feat_map.weight"})),
    ("groundingdino", frozenset({"model.level_embed", "model.text_projection.weight"})),
    ("blip2", frozenset({"query_tokens", "language_projection.weight"})),
    ("qwen-vl", frozenset({"visual.patch_embed.proj.weight", "visual.merger.mlp.0.weight"})),
    ("qwen-vl", frozenset({"model.visual.patch_embed.proj.weight", "model.language_model.embed_tokens.weight"})),
    ("clip-text", frozenset({"text_model.embeddings.token_embedding.weight"})),
)


def recognise(keys: Iterable[str]) -> str | None:
    """The family that a checkpoint with these keys belongs to, or None when it is none that is known.

    >>> recognise(["mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight", "mask_decoder.hf_token.weight"])
    'sam-hq'
    >>> recognise(["layer1.0.conv1.weight"]) is None
    True
    """
    found = set(keys)
    return next((family for family, signature in _SIGNATURES if signature <= found), None)
