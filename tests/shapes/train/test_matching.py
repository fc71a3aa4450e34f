"""The grounder's losses, against cases worked out by hand."""

import math

import pytest
import torch

from etl.shapes.train.matching import (
    BEST,
    CLASS,
    CORNERS,
    OVERLAP,
    Truth,
    decoder_loss,
    encoder_loss,
    overlap,
    paired_overlap,
    to_centres,
    to_corners,
)

# Tokens of "[CLS] circle . star . [SEP]": the words are tokens 1 and 3.
COUNTED = torch.tensor([False, True, False, True, False, False])
CIRCLE, STAR = (torch.eye(6)[token] for token in (1, 3))
LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]


def truth(*instances: tuple[list[float], torch.Tensor]) -> Truth:
    boxes = torch.tensor([box for box, _ in instances]).reshape(-1, 4)
    wanted = torch.stack([word for _, word in instances]) if instances else torch.zeros(0, 6)
    return Truth(boxes, wanted, COUNTED)


class TestOverlap:
    @pytest.mark.parametrize(
        ("one", "other", "iou", "giou"),
        [
            ([0, 0, 2, 2], [0, 0, 2, 2], 1, 1),
            ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),
            ([0, 0, 1, 1], [2, 0, 3, 1], 0, -1 / 3),
            ([0, 0, 4, 4], [1, 1, 2, 3], 2 / 16, 2 / 16),
        ],
        ids=["equal", "a corner", "apart", "inside"],
    )
    def test_iou_and_generalised_iou(self, one: list[int], other: list[int], iou: float, giou: float):
        found = paired_overlap(torch.tensor([one]).float(), torch.tensor([other]).float())
        assert [float(value) for value in found] == pytest.approx([iou, giou])

    def test_all_pairs_are_rows_by_columns(self):
        rows = torch.tensor([[0, 0, 2, 2], [0, 0, 1, 1], [5, 5, 6, 6]]).float()
        columns = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 1]]).float()
        iou, giou = overlap(rows, columns)
        assert iou.tolist() == [[1.0, 0.5], [0.25, 0.5], [0.0, 0.0]]
        assert giou.shape == (3, 2)

    def test_corners_and_centres_are_each_others_inverse(self):
        centres, corners = torch.tensor([[0.5, 0.25, 0.25, 0.5]]), torch.tensor([[0.375, 0.0, 0.625, 0.5]])
        torch.testing.assert_close(to_corners(centres), corners)
        torch.testing.assert_close(to_centres(corners), centres)


class TestDecoder:
    def test_right_boxes_that_know_nothing_cost_their_words_only(self):
        boxes = to_centres(torch.tensor([[RIGHT, LEFT, [0.4, 0.4, 0.6, 0.6]]]))
        loss, watched = decoder_loss(torch.zeros(1, 3, 6), boxes, [truth((LEFT, CIRCLE), (RIGHT, STAR))])
        # Two words are asked for; of the other two words of these queries and both of the third, each weighs 0.75 / 4.
        words = (2 + 4 * 0.75 / 4) * math.log(2) / 2
        assert float(loss) == pytest.approx(CLASS * words)
        assert watched == pytest.approx({"words": words, "iou": 1.0})

    def test_a_box_that_is_off_costs_its_distance_and_its_overlap(self):
        boxes = torch.tensor([[[0.25, 0.5, 0.5, 0.5]]])  # the middle half of the left half
        logits = torch.full((1, 1, 6), -40.0)
        logits[0, 0, 1] = 0.0  # a probability of 0.5, which is what the IoU asks for
        loss, _ = decoder_loss(logits, boxes, [truth((LEFT, CIRCLE))])
        assert float(loss) == pytest.approx(CLASS * math.log(2) + CORNERS * 0.5 + OVERLAP * 0.5)

    def test_the_query_with_the_right_box_answers_and_no_other_moves(self):
        boxes = to_centres(torch.tensor([[[0.1, 0.1, 0.2, 0.2], [0.0, 0.0, 0.45, 1.0], [0.55, 0.0, 1.0, 1.0]]]))
        boxes.requires_grad_()
        loss, _ = decoder_loss(torch.zeros(1, 3, 6), boxes, [truth((RIGHT, STAR), (LEFT, CIRCLE))])
        loss.backward()
        assert boxes.grad[0].abs().sum(dim=1).gt(0).tolist() == [False, True, True]
        assert boxes.grad[0, 1:, 2].lt(0).all()  # both are too narrow

    def test_of_two_queries_with_one_box_the_one_that_says_the_word_answers(self):
        boxes = to_centres(torch.tensor([[LEFT, LEFT]]))
        logits = torch.full((1, 2, 6), -3.0)
        logits[0, 1, 1] = 3.0
        logits.requires_grad_()
        loss, _ = decoder_loss(logits, boxes, [truth((LEFT, CIRCLE))])
        loss.backward()
        assert logits.grad[0, 1, 1] < 0 < logits.grad[0, 0, 1]

    def test_what_lies_behind_a_prompts_end_is_not_looked_at(self):
        logits = torch.zeros(1, 1, 6)
        logits[..., 5] = -math.inf
        loss, _ = decoder_loss(logits, to_centres(torch.tensor([[LEFT]])), [truth((LEFT, CIRCLE))])
        assert math.isfinite(float(loss))

    def test_a_picture_without_instances_costs_what_is_said_about_it(self):
        quiet, loud = (
            decoder_loss(torch.full((1, 2, 6), value), torch.full((1, 2, 4), 0.5), [truth()])[0]
            for value in (-5.0, 5.0)
        )
        assert float(quiet) < 0.01 < float(loud)


class TestEncoder:
    LEVELS = ((4, 4), (2, 2))
    PLACES = 20

    def boxes(self) -> torch.Tensor:
        """As logits: every place proposes the middle of the picture."""
        return torch.zeros(1, self.PLACES, 4)

    def moved(self, boxes: torch.Tensor, logits: torch.Tensor, *truths: Truth) -> list[int]:
        """Places whose boxes the loss pulls at."""
        boxes.requires_grad_()
        encoder_loss(logits, boxes, self.LEVELS, truths).backward()
        return torch.nonzero(boxes.grad[0].abs().sum(dim=1)).flatten().tolist()

    def test_a_few_places_inside_the_box_answer_for_it(self):
        moved = self.moved(self.boxes(), torch.zeros(1, self.PLACES, 6), truth((LEFT, CIRCLE)))
        left = {0, 1, 4, 5, 8, 9, 12, 13, 16, 18}  # rows of four, then rows of two
        assert len(moved) == BEST
        assert set(moved) <= left

    def test_a_place_that_may_not_answer_never_does(self):
        boxes = self.boxes()
        boxes[0, 16:] = math.inf
        moved = self.moved(boxes, torch.zeros(1, self.PLACES, 6), truth((LEFT, CIRCLE)))
        assert len(moved) == BEST
        assert max(moved) < 16

    def test_of_the_places_inside_those_that_say_the_word_answer(self):
        logits = torch.full((1, self.PLACES, 6), -6.0)
        logits[0, [4, 5, 8, 9], 1] = 2.0
        assert self.moved(self.boxes(), logits, truth((LEFT, CIRCLE))) == [4, 5, 8, 9]
