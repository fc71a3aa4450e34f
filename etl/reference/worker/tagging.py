"""RAM, RAM++ and Tag2Text by ``ram``: a checkout of xinyu1205/recognize-anything, which no package index has.

Upstream's constructors read their sizes and thresholds from files beside their code; here they read them from a folder
that is made for one network: upstream's own sizes, or those of ``sizes.json``, and the lists of the network's folder.
One picture at a time: upstream's beams are right for no other number.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from .frames import Arrays, Message
from .weights import State, network_of

SIDE = 384
SWINS = {128: "swin_b", 192: "swin_l"}  # by the width of the first stage
SWIN_FILES = {"swin_b": "config_swinB_384.json", "swin_l": "config_swinL_384.json"}
LIST, THRESHOLDS, TAG2TEXT_LIST = "ram_tag_list.txt", "ram_tag_list_threshold.txt", "tag2text_ori_tag_list.txt"
VOCABULARY = "vocab.txt"
# For a network whose tags alone are asked: upstream makes a tokenizer that only its captions use.
STAND_IN = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "of")
BEAMS, MAX_LENGTH = 3, 50  # of upstream's inference_tag2text
# What ``ram`` imports and its inference never calls: activation checkpoints, and tables of another window size.
UNUSED = {
    "fairscale": ("fairscale.nn.checkpoint.checkpoint_activations", "checkpoint_wrapper"),
    "scipy": ("scipy.interpolate", "interp2d"),
}
OFF = 1.0


class _Enough(Exception):  # noqa: N818 - it is no error
    """Upstream's tags are there; its caption is not asked for."""


class Ram:
    """Scores of all tags, and the tags that upstream gives."""

    module: ClassVar[str] = "ram"
    name: ClassVar[str] = "RAM"
    tag_list: ClassVar[str] = LIST

    def __init__(self, folder: Path, device: str, seed: int | None) -> None:
        stand_ins()
        self.folder = folder
        with tempfile.TemporaryDirectory(prefix="groundlake-ram-") as name:
            self.beside = Path(name)
            self.network = network_of(folder, device, seed, self._build)
        self.device = device
        self.see = import_module("ram").get_transform(image_size=SIDE)
        self.network.fc.register_forward_hook(self._keep)
        self.logits = torch.zeros(0)

    def facts(self) -> dict[str, Any]:
        thresholds = self.network.class_threshold.numpy().astype(np.float64)
        thresholds[list(self.network.delete_tag_index)] = OFF
        return {"tags": self.network.tag_list.tolist(), "thresholds": np.round(thresholds, 6).tolist()}

    def answer(self, asked: Message) -> Arrays:
        """``scores`` of all tags, ``tags`` that upstream gives; and, if asked for, its ``caption``."""
        pixels = self.see(Image.fromarray(asked.arrays["picture"]))[None].to(self.device)
        words = self._said(pixels)
        scores: Any = torch.sigmoid(self.logits)
        return {"scores": scores} | words

    def _said(self, pixels: torch.Tensor) -> Arrays:
        tags, _ = self.network.generate_tag(pixels)
        return {"tags": split_tags(tags[0])}

    def _keep(self, _module: Any, _given: Any, output: torch.Tensor) -> None:
        self.logits = output.flatten()

    def _build(self, sizes: dict[str, Any], state: State | None) -> Any:
        module: Any = import_module(f"ram.models.{self.module}")
        package = Path(str(import_module("ram").__file__)).parent
        swin = sizes.get("upstream", "swin_b")
        if state is not None and "swin" not in sizes:
            swin = SWINS[state["visual_encoder.patch_embed.proj.weight"].shape[0]]
        write_files(package, self.beside, self.folder, swin, sizes)
        # Upstream takes the files of its network from below a constant of the module.
        before, module.CONFIG_PATH = module.CONFIG_PATH, self.beside
        try:
            return getattr(module, self.name)(
                med_config=str(self.beside / "configs/med_config.json"),
                image_size=SIDE,
                text_encoder_type=str(self.beside),
                vit=swin,
                tag_list=str(self.folder / self.tag_list),
                **self._more(),
            )
        finally:
            module.CONFIG_PATH = before

    def _more(self) -> dict[str, Any]:
        return {"tag_list_chinese": str(self.folder / self.tag_list)}  # a second name of each tag, not asked for


class RamPlus(Ram):
    """The same of RAM++."""

    module: ClassVar[str] = "ram_plus"
    name: ClassVar[str] = "RAM_plus"


class Tag2Text(Ram):
    """The same of Tag2Text, and its captions."""

    module: ClassVar[str] = "tag2text"
    name: ClassVar[str] = "Tag2Text"
    tag_list: ClassVar[str] = TAG2TEXT_LIST

    def answer(self, asked: Message) -> Arrays:
        self.stop = not asked.header.get("caption")
        return super().answer(asked)

    def _said(self, pixels: torch.Tensor) -> Arrays:
        try:
            captions, tags = self.network.generate(
                pixels, num_beams=BEAMS, max_length=MAX_LENGTH, return_tag_predict=True
            )
        except _Enough:
            return {}
        return {"tags": split_tags(tags[0]), "caption": np.asarray(captions[0])}

    def _keep(self, module: Any, given: Any, output: torch.Tensor) -> None:
        super()._keep(module, given, output)
        if self.stop:
            raise _Enough

    def _more(self) -> dict[str, Any]:
        return {}


def split_tags(text: str) -> npt.NDArray[np.str_]:
    """Upstream's tags, which it joins to one text."""
    return np.asarray(text.split(" | ") if text else [], dtype=np.str_)


def write_files(package: Path, beside: Path, folder: Path, swin: str, sizes: dict[str, Any]) -> None:
    """Write the files that a constructor reads.

    Args:
        package: Upstream's, whose own sizes are taken.
        beside: Where to.
        folder: The network's: its thresholds and its vocabulary.
        swin: Name of the Swin.
        sizes: Of a network that is not upstream's: ``swin``, ``head`` and ``text`` replace parts of those files.
    """
    for name, part in ((f"swin/{SWIN_FILES[swin]}", "swin"), ("q2l_config.json", "head"), ("med_config.json", "text")):
        content = json.loads((package / "configs" / name).read_text()) | sizes.get(part, {})
        target = beside / "configs" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content))
    (beside / "data").mkdir()
    if (folder / THRESHOLDS).is_file():
        shutil.copyfile(folder / THRESHOLDS, beside / "data" / THRESHOLDS)
    words = (folder / VOCABULARY).read_text() if (folder / VOCABULARY).is_file() else "\n".join(STAND_IN)
    (beside / VOCABULARY).write_text(words)


def stand_ins() -> None:
    """Let ``ram`` be imported without packages of which it uses nothing here; what they would do, fails."""
    import_module("transformers")  # it looks for the same packages, and is not to see these
    for package, (module, name) in UNUSED.items():
        if find_spec(package) is None:
            parts = module.split(".")
            paths = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            made = [module_from_spec(ModuleSpec(path, None)) for path in paths]
            for above, part, below in zip(made, parts[1:], made[1:], strict=False):
                setattr(above, part, below)
            setattr(made[-1], name, None)
            sys.modules.update(zip(paths, made, strict=True))
