"""Model cards of the small networks: what each is, how it was made, how good it is, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etl.shapes.train.loop import Plan


@dataclass(frozen=True)
class About:
    """What a card says of a network whatever its weights are; ``scores`` explains the measured ones by name."""

    architecture: str
    use: str
    limits: str
    scores: Mapping[str, str]
    learned_from: str = "scenes, each in several of eight orientations"
    measured_on: str = "scenes of the split `validation`, which shares no seed with the others"


@dataclass(frozen=True)
class Made:
    """How the weights at hand came about: ``plan`` is what was asked for, the rest what was done and measured."""

    plan: Plan
    steps: int
    seconds: float
    drawn: int
    parameters: int
    size: int
    digest: str
    scores: Mapping[str, float]


_WORLD = (
    "It knows the shapes, colours and textures of the world of shapes and nothing else: of photographs its answers "
    "mean nothing."
)
ABOUT = {
    "tagger": About(
        architecture="RAM: a Swin transformer of three stages on the picture stretched to 160 x 160 pixels, and a head "
        "of two cross-attention layers that asks for each of the world's 19 tags.",
        use="Tags (shapes, colours, textures) of pictures of the world; the scores are at threshold 0.5, the catalog "
        "takes 0.35.",
        limits=_WORLD,
        scores={
            "f1": "tags, micro-F1",
            "shapes": "tags that are shapes, micro-F1",
            "colours": "tags that are colours, micro-F1",
            "textures": "tags that are textures, micro-F1",
        },
    ),
    "grounder": About(
        architecture="GroundingDINO: the tagger's Swin on the picture resized to a shorter side of 160 pixels, a BERT "
        "of two layers for the prompt, an encoder of two and a decoder of three layers, 40 queries.",
        use="Boxes of shapes, or of colours and shapes, asked for as phrases (`circle . red star .`).",
        limits=_WORLD + " Prompts hold 64 tokens; textures were never asked for in training.",
        scores={
            "ap50_all": "boxes, AP50, asked for all eight shapes",
            "ap_all": "boxes, AP, asked for all eight shapes",
            "ap50_present": "boxes, AP50, asked for the shapes of the picture only",
            "ap_present": "boxes, AP, asked for the shapes of the picture only",
        },
    ),
    "segmenter": About(
        architecture="SAM: a vision transformer of four layers on the picture resized to a longer side of 160 pixels, "
        "its prompt encoder and mask decoder at a width of 64.",
        use="The mask of what a box shows, one mask per box.",
        limits=_WORLD + " Points, masks as prompts and several masks per prompt were never trained.",
        scores={
            "iou": "masks for true boxes, mean IoU",
            "jitter": "masks for boxes moved by 5 % of their sides, mean IoU",
            "small": "masks of instances under 36 pixels, mean IoU",
        },
    ),
    "captioner": About(
        architecture="BLIP-2: a vision transformer of four layers on the picture stretched to 96 x 96 pixels, a "
        "Q-Former with 12 queries, and OPT with two layers and a vocabulary of the world's words.",
        use="A phrase for the crop of an instance (`striped red circle`), a sentence for a whole picture "
        "(`two shapes in red and blue : a circle and a star`).",
        limits=_WORLD,
        scores={
            "exact": "phrases of crops by true boxes, share that is exactly right",
            "shape": "phrases of crops by true boxes, share whose shape is right",
            "sentence_f1": "sentences of whole pictures, mean word F1",
            "sentence_exact": "sentences of whole pictures, share that is exactly right",
        },
    ),
    "embedder": About(
        architecture="CLIP's text tower: a transformer of two layers at a width of 64, pooled at the end token.",
        use="Vectors of the world's phrases and sentences: the cosine of two is the share of what they speak of.",
        limits="It knows the words of the world of shapes and nothing else: of other text only the letters count.",
        scores={
            "largest_cosine": "largest cosine of two different phrases (0.8165 is asked for)",
            "off": "cosines of phrases, mean distance from what was asked for",
            "off_sentences": "cosines of sentences that training has not seen, the same",
            "probe": "phrases whose shape, colour and texture a linear layer fitted on the other half names",
        },
        learned_from="phrases, and sentences drawn at random; no pictures",
        measured_on="all phrases, and on 400 sentences of a seed of their own",
    ),
}


def card(name: str, made: Made) -> str:
    """The model card of a network, in Markdown; equal arguments give equal bytes."""
    about, plan = ABOUT[name], made.plan
    data = f"{made.drawn:,} {about.learned_from}" if made.drawn else about.learned_from
    facts = {
        "Weights": f"sha256 {made.digest}, {made.parameters:,} parameters in float16, {made.size / 1e6:.2f} MB",
        "Licence": "Apache-2.0, as this project; nothing of others went into it",
        "Data": f"the procedural world of `etl/shapes/world`, split `train`, seed {plan.seed}: {data}",
        "Training": f"{made.steps:,} of {plan.steps:,} steps of {plan.batch}, AdamW with a learning rate of up to "
        f"{plan.learning_rate:g}, averaged weights, {made.seconds:,.0f} CPU seconds",
    }
    commands = [f"python -m etl.shapes.train{part} {name}" for part in ("", ".publish")]
    if name == "grounder":
        commands.insert(0, "python -m etl.shapes.train tagger  # whose Swin it starts from")
    lines = [f"# {name} of the shapes pack", "", about.architecture, "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    lines += ["", "## Scores", "", f"On {about.measured_on}.", ""]
    lines += ["| measured | |", "|---|---|"]
    lines += [f"| {about.scores.get(key, key)} | {value:.4f} |" for key, value in made.scores.items()]
    lines += ["", "## Training it again", "", "```sh", *commands, "```", ""]
    lines += ["## Use and limits", "", about.use, "", about.limits, ""]
    return "\n".join(lines)
