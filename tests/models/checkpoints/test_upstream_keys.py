"""Every key of every published checkpoint, at its real size: kept by the network's own name, or dropped for a reason.

The key lists come from upstream's code; no weights are needed.
"""

from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch
from upstream_facts import FACTS, fact, upstream_state

from etl.models.checkpoints import groundingdino, ram, ram_plus, recognise, sam, sam_hq, tag2text
from etl.models.checkpoints.errors import WrongKeysError
from etl.models.checkpoints.keys import Sizes, map_keys

# Checkpoint, family, keys upstream, parameters kept, what is dropped.
WINDOWS, PICTURES = "follows from the window size", "follows from the window and picture size"
COUNTED, POOLED = "counted, not learned", "the text backbone's tokens are read, not its pooled vector"
CASES = [
    ("sam_vit_h_4b8939", sam, 594, 595, {}),
    ("sam_vit_l_0b3195", sam, 482, 483, {}),
    ("sam_vit_b_01ec64", sam, 314, 315, {}),
    ("sam_hq_vit_h", sam_hq, 619, 620, {}),
    ("sam_hq_vit_l", sam_hq, 507, 508, {}),
    ("sam_hq_vit_b", sam_hq, 339, 340, {}),
    ("groundingdino_swint_ogc", groundingdino, 938, 1044, {WINDOWS: 12, POOLED: 2}),
    ("groundingdino_swinb_cogcoor", groundingdino, 1106, 1248, {WINDOWS: 24, POOLED: 2}),
    ("ram_swin_large_14m", ram, 1042, 462, {WINDOWS: 24, PICTURES: 11, ram.CAPTIONS: 641}),
    ("ram_plus_swin_large_14m", ram_plus, 402, 463, {WINDOWS: 24, PICTURES: 11}),
    ("tag2text_swin_14m", tag2text, 1038, 1097, {WINDOWS: 24, PICTURES: 11, COUNTED: 2}),
]


@pytest.mark.parametrize(("name", "module", "count", "kept", "dropped"), CASES, ids=[case[0] for case in CASES])
def test_every_key_of_a_published_checkpoint_is_accounted_for(
    name: str, module: ModuleType, count: int, kept: int, dropped: dict[str, int]
):
    state = upstream_state(name)
    assert len(state) == fact(name)["count"] == count
    plan = module.plan(Sizes(Path(name), module.FAMILY, state))
    # map_keys itself refuses what is missing, not known, or of another shape than the network of that configuration.
    tensors, report = map_keys(Path(name), module.FAMILY, state, plan.keys, plan.wanted)
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == dict(plan.wanted)
    assert len(tensors) == kept
    assert report.renamed.keys() | report.dropped.keys() == state.keys()
    assert Counter(report.dropped.values()) == dropped
    assert recognise(state) == module.FAMILY


def test_there_is_a_fact_for_every_case_and_a_case_for_every_fact():
    assert {path.stem for path in FACTS.glob("*.json")} == {case[0] for case in CASES}


@pytest.mark.parametrize("name", [case[0] for case in CASES])
def test_a_fact_says_where_it_comes_from(name: str):
    content = fact(name)
    assert content["repository"].startswith("https://github.com/")
    assert len(content["revision"]) == 40
    assert "meta device" in content["made"]


def test_keys_that_published_files_have_beyond_their_code_are_dropped_for_a_reason():
    keys = groundingdino.KEYS  # both files hold these: IDEA-Research/GroundingDINO issue 271
    assert keys.reason("label_enc.weight") == "labels of the denoising in training"
    assert keys.reason("bert.embeddings.position_ids") == COUNTED


@pytest.mark.parametrize(
    ("name", "module"),
    [("ram_swin_large_14m", ram), ("ram_plus_swin_large_14m", ram_plus), ("tag2text_swin_14m", tag2text)],
)
def test_what_only_a_taggers_training_needed_is_left_out_and_listed(name: str, module: ModuleType):
    # Its authors load these files with strict=False; nobody states every key of them.
    state = {**upstream_state(name), "text_proj.weight": torch.empty(256, 768, device="meta")}
    plan = module.plan(Sizes(Path(name), module.FAMILY, state))
    tensors, report = map_keys(Path(name), module.FAMILY, state, plan.keys, plan.wanted)
    assert tensors.keys() == plan.wanted.keys()
    assert report.unexpected == ("text_proj.weight",)
    assert {*report.renamed, *report.dropped, *report.unexpected} == state.keys()


def test_the_old_name_of_the_tagging_head_is_known():
    state = upstream_state("ram_swin_large_14m")
    old = {key.replace("tagging_head.", "vision_multi."): tensor for key, tensor in state.items()}
    plan = ram.plan(Sizes(Path("old"), "ram", old))
    tensors, _ = map_keys(Path("old"), "ram", old, plan.keys, plan.wanted)
    assert tensors.keys() == plan.wanted.keys()


# Parameters of equal shape that a wrong rule would silently exchange, by what upstream's forward does with them.
@pytest.mark.parametrize(
    ("module", "key", "becomes"),
    [
        (
            groundingdino,
            "transformer.decoder.layers.3.norm1.weight",
            "model.decoder.layers.3.encoder_attn_layer_norm.weight",
        ),
        (
            groundingdino,
            "transformer.decoder.layers.3.norm2.bias",
            "model.decoder.layers.3.self_attn_layer_norm.bias",
        ),
        (
            groundingdino,
            "transformer.decoder.layers.3.catext_norm.bias",
            "model.decoder.layers.3.encoder_attn_text_layer_norm.bias",
        ),
        (
            groundingdino,
            "transformer.encoder.layers.0.norm1.bias",
            "model.encoder.layers.0.deformable_layer.self_attn_layer_norm.bias",
        ),
        (
            groundingdino,
            "transformer.encoder.text_layers.0.norm1.bias",
            "model.encoder.layers.0.text_enhancer_layer.layer_norm_before.bias",
        ),
        (
            groundingdino,
            "transformer.encoder.fusion_layers.2.attn.values_l_proj.weight",
            "model.encoder.layers.2.fusion_layer.attn.values_text_proj.weight",
        ),
        (
            groundingdino,
            "backbone.0.norm1.weight",
            "model.backbone.conv_encoder.model.hidden_states_norms.stage2.weight",
        ),
        (
            ram,
            "visual_encoder.layers.2.blocks.9.norm2.weight",
            "visual_encoder.encoder.layers.2.blocks.9.layernorm_after.weight",
        ),
        (sam, "image_encoder.neck.3.bias", "vision_encoder.neck.layer_norm2.bias"),
        (
            sam,
            "mask_decoder.output_hypernetworks_mlps.1.layers.1.weight",
            "mask_decoder.output_hypernetworks_mlps.1.layers.0.weight",
        ),
        (sam_hq, "mask_decoder.embedding_maskfeature.0.weight", "mask_decoder.mask_conv1.weight"),
    ],
)
def test_names_go_by_what_a_parameter_does(module: ModuleType, key: str, becomes: str):
    name = next(case[0] for case in CASES if case[1] is module)
    tensor = upstream_state(name)[key]
    assert [target for target, _ in module.KEYS.targets(key, tensor)] == [becomes]


@pytest.mark.parametrize(("name", "module"), [("sam_vit_b_01ec64", sam), ("ram_plus_swin_large_14m", ram_plus)])
def test_one_key_less_is_missing(name: str, module: ModuleType):
    state = upstream_state(name)
    key = next(key for key in reversed(state) if key.endswith("bias"))
    (target,) = [target for target, _ in module.KEYS.targets(key, state.pop(key))]
    plan = module.plan(Sizes(Path(name), module.FAMILY, state))
    with pytest.raises(WrongKeysError) as refused:
        map_keys(Path(name), module.FAMILY, state, plan.keys, plan.wanted)
    assert refused.value.missing == (target,)
    assert not refused.value.unexpected
