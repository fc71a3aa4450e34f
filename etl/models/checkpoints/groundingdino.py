"""GroundingDINO: ``groundingdino_swint_ogc.pth``, ``groundingdino_swinb_cogcoor.pth``, with the tokenizer of BERT.

Source of names and sizes: ``groundingdino/config/`` and ``groundingdino/models/`` of IDEA-Research/GroundingDINO,
revision 856dde2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

from etl.models.checkpoints import swin
from etl.models.checkpoints.keys import KeyMap, Report, Sizes
from etl.models.checkpoints.network import parts
from etl.models.checkpoints.plan import Plan, convert_by
from etl.models.pixels import BILINEAR, IMAGENET
from etl.models.reading import TOKENIZER_FILES

FAMILY = "groundingdino"
HEADS = 8
BERT_HEAD = 64  # width of one attention head of BERT
SHORTEST, LONGEST = 800, 1333
_BACKBONE = "model.backbone.conv_encoder.model"
_PARTS = ("query", "key", "value")


def _in_proj(name: str, becomes: str) -> tuple[str, tuple[str, ...]]:
    return rf"\.{name}\.in_proj_(weight|bias)$", tuple(rf".{becomes}.{part}.\1" for part in _PARTS)


_ENCODER, _DECODER = r"^transformer\.encoder\.", r"^(transformer\.decoder\.layers\.\d+)\."
KEYS = KeyMap(
    drops=(
        *swin.DROPS,
        (r"^label_enc\.weight$", "labels of the denoising in training"),
        (r"^bert\.pooler\.", "the text backbone's tokens are read, not its pooled vector"),
        (r"\.position_ids$", "counted, not learned"),
    ),
    splits=(*swin.SPLITS, _in_proj("self_attn", "self_attn"), _in_proj("ca_text", "encoder_attn_text")),
    names=(
        # Decoder layers: upstream numbers its norms, transformers names them by what they follow.
        (_DECODER + r"norm1\.", r"\1.encoder_attn_layer_norm."),
        (_DECODER + r"norm2\.", r"\1.self_attn_layer_norm."),
        (_DECODER + r"norm3\.", r"\1.final_layer_norm."),
        (_DECODER + r"catext_norm\.", r"\1.encoder_attn_text_layer_norm."),
        (_DECODER + r"ca_text\.", r"\1.encoder_attn_text."),
        (_DECODER + r"cross_attn\.", r"\1.encoder_attn."),
        (_DECODER + r"linear([12])\.", r"\1.fc\2."),
        (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
        (r"^transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
        # Encoder layers: three lists upstream, one list of layers of three parts in transformers.
        (_ENCODER + r"layers\.(\d+)\.norm1\.", r"model.encoder.layers.\1.deformable_layer.self_attn_layer_norm."),
        (_ENCODER + r"layers\.(\d+)\.norm2\.", r"model.encoder.layers.\1.deformable_layer.final_layer_norm."),
        (_ENCODER + r"layers\.(\d+)\.linear([12])\.", r"model.encoder.layers.\1.deformable_layer.fc\2."),
        (_ENCODER + r"layers\.(\d+)\.self_attn\.", r"model.encoder.layers.\1.deformable_layer.self_attn."),
        (_ENCODER + r"text_layers\.(\d+)\.norm1\.", r"model.encoder.layers.\1.text_enhancer_layer.layer_norm_before."),
        (_ENCODER + r"text_layers\.(\d+)\.norm2\.", r"model.encoder.layers.\1.text_enhancer_layer.layer_norm_after."),
        (_ENCODER + r"text_layers\.(\d+)\.linear([12])\.", r"model.encoder.layers.\1.text_enhancer_layer.fc\2."),
        (_ENCODER + r"text_layers\.(\d+)\.self_attn\.", r"model.encoder.layers.\1.text_enhancer_layer.self_attn."),
        (_ENCODER + r"fusion_layers\.(\d+)\.gamma_v$", r"model.encoder.layers.\1.fusion_layer.vision_param"),
        (_ENCODER + r"fusion_layers\.(\d+)\.gamma_l$", r"model.encoder.layers.\1.fusion_layer.text_param"),
        (_ENCODER + r"fusion_layers\.(\d+)\.", r"model.encoder.layers.\1.fusion_layer."),
        (r"(\.fusion_layer\.)layer_norm_v\.", r"\1layer_norm_vision."),
        (r"(\.fusion_layer\.)layer_norm_l\.", r"\1layer_norm_text."),
        (r"(\.fusion_layer\.attn\.(?:values_|out_)?)v_proj\.", r"\1vision_proj."),
        (r"(\.fusion_layer\.attn\.(?:values_|out_)?)l_proj\.", r"\1text_proj."),
        (r"^transformer\.tgt_embed\.", "model.query_position_embeddings."),
        (r"^transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
        (r"^transformer\.enc_output\.", "model.enc_output."),
        (r"^transformer\.enc_output_norm\.", "model.enc_output_norm."),
        (r"^transformer\.", "model."),
        (r"^bert\.", "model.text_backbone."),
        (r"^feat_map\.", "model.text_projection."),
        (r"^input_proj\.", "model.input_proj_vision."),
        *(
            (rf"^backbone\.0\.norm{level}\.", f"{_BACKBONE}.hidden_states_norms.stage{level + 1}.")
            for level in range(4)
        ),
        (r"^backbone\.0\.", f"{_BACKBONE}."),
        *swin.NAMES,
    ),
)


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of a GroundingDINO checkpoint; raises CheckpointError when it is none."""
    return convert_by(plan, FAMILY, files, out, needed=(TOKENIZER_FILES,))


def plan(sizes: Sizes) -> Plan:
    """What a GroundingDINO checkpoint becomes."""
    config = groundingdino_config(sizes)
    wanted = parts(lambda: GroundingDinoForObjectDetection(GroundingDinoConfig(**config))).shapes
    return Plan(config, wanted, KEYS, PREPROCESSOR)


PREPROCESSOR = {
    **IMAGENET,
    "size": {"shortest_edge": SHORTEST, "longest_edge": LONGEST},
    "resample": BILINEAR,
    "rescale_factor": 1 / 255,
}


def groundingdino_config(sizes: Sizes) -> dict[str, Any]:
    """The sizes of GroundingDINO, from the shapes of a checkpoint."""
    queries, width = sizes.of("transformer.tgt_embed.weight", 2)
    levels, _ = sizes.of("transformer.level_embed", 2)
    norms = sizes.numbers(r"backbone\.0\.norm(\d)\.weight$")
    return {
        "model_type": "grounding-dino",
        "backbone_config": {
            "model_type": "swin",
            **swin.swin_config(sizes, "backbone.0."),
            "out_indices": [level + 1 for level in norms],
        },
        "text_config": {"model_type": "bert", **_bert(sizes)},
        "num_queries": queries,
        "d_model": width,
        "num_feature_levels": levels,
        "encoder_layers": sizes.count(r"transformer\.encoder\.layers\.(\d+)\."),
        "encoder_ffn_dim": sizes.of("transformer.encoder.layers.0.linear1.weight", 2)[0],
        "encoder_attention_heads": HEADS,
        "encoder_n_points": _points(sizes, "transformer.encoder.layers.0.self_attn", levels),
        "decoder_layers": sizes.count(r"transformer\.decoder\.layers\.(\d+)\."),
        "decoder_ffn_dim": sizes.of("transformer.decoder.layers.0.linear1.weight", 2)[0],
        "decoder_attention_heads": HEADS,
        "decoder_n_points": _points(sizes, "transformer.decoder.layers.0.cross_attn", levels),
        "query_dim": 4,
        "max_text_len": 256,
        "activation_function": "relu",
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "sine",
        "positional_embedding_temperature": 20,
        "two_stage": True,
        "two_stage_bbox_embed_share": False,
        "decoder_bbox_embed_share": True,
        "embedding_init_target": True,
        **dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "fusion_dropout"), 0.0),
        **dict.fromkeys(("text_enhancer_dropout", "fusion_droppath"), 0.0),
    }


def _points(sizes: Sizes, attention: str, levels: int) -> int:
    rows, _ = sizes.of(f"{attention}.attention_weights.weight", 2)  # one per head, level and point
    return rows // (HEADS * levels)


def _bert(sizes: Sizes) -> dict[str, Any]:
    vocabulary, width = sizes.of("bert.embeddings.word_embeddings.weight", 2)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": sizes.count(r"bert\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, width // BERT_HEAD),
        "intermediate_size": sizes.of("bert.encoder.layer.0.intermediate.dense.weight", 2)[0],
        "max_position_embeddings": sizes.of("bert.embeddings.position_embeddings.weight", 2)[0],
        "type_vocab_size": sizes.of("bert.embeddings.token_type_embeddings.weight", 2)[0],
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
