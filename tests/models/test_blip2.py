"""BLIP-2: captions without their prompt, in any batch."""

import json
import shutil
from pathlib import Path

import pytest
from real_models import picture

from etl.errors import ConfigurationError
from etl.models.blip2 import Captioner


@pytest.fixture(scope="module")
def captioner(weights: dict[str, Path]) -> Captioner:
    return Captioner(weights["blip2"], "cpu", "float32")


def test_captions_do_not_depend_on_batch_mates(captioner: Captioner):
    pictures = [picture(seed, 40 + 30 * seed, 90) for seed in range(6)]
    together = captioner.captions(pictures, batch_size=6, beams=3, max_new_tokens=8)
    backwards = captioner.captions(pictures[::-1], batch_size=4, beams=3, max_new_tokens=8)[::-1]
    alone = [captioner.captions([one], batch_size=1, beams=3, max_new_tokens=8)[0] for one in pictures]
    assert [one.text for one in together] == [one.text for one in alone] == [one.text for one in backwards]
    assert [one.score for one in together] == pytest.approx([one.score for one in alone], abs=1e-4)


def test_captions_differ_between_pictures(captioner: Captioner):
    texts = captioner.captions([picture(seed) for seed in range(12)], batch_size=12, beams=2, max_new_tokens=8)
    assert len({one.text for one in texts}) > 2


def test_a_score_is_a_mean_log_probability_and_greedy_search_has_none(captioner: Captioner):
    (beam,) = captioner.captions([picture(0)], batch_size=1, beams=2, max_new_tokens=4)
    (greedy,) = captioner.captions([picture(0)], batch_size=1, beams=1, max_new_tokens=4)
    assert beam.score is not None
    assert -20 < beam.score < 0
    assert greedy.score is None


def test_the_prompt_steers_but_is_not_in_the_caption(captioner: Captioner):
    (plain,) = captioner.captions([picture(0)], batch_size=1, beams=1, max_new_tokens=3)
    (prompted,) = captioner.captions([picture(0)], batch_size=1, beams=1, max_new_tokens=3, prompt="a small dog near")
    assert len(prompted.text.split()) <= 3
    assert prompted.text != plain.text


def test_a_checkpoint_without_an_image_token_is_refused(weights: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(weights["blip2"], tmp_path / "captioner"))
    config = json.loads((folder / "config.json").read_text())
    config.pop("image_token_index", None)
    config.pop("image_token_id", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="image_token_index"):
        Captioner(folder, "cpu", "float32")
