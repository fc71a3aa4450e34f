"""The auxiliary loss asks every token for what its own pixels show."""

import numpy as np
import pytest
import torch
from handmade_samples import sample

from etl.shapes.train.dense import DenseHead, dense_targets
from etl.shapes.world.words import COLOUR_NAMES, SHAPES, TEXTURES

CORNER = sample(((4, 2, 1), (0, 0, 50, 20)), width=100, height=80)  # the upper left eighth


def test_targets_are_the_kinds_at_the_middle_of_each_cell_and_none_elsewhere():
    classes, _ = dense_targets([CORNER], 4, 2)
    expected = np.zeros((3, 4, 2), int)
    expected[:, 0, 0] = 5, 3, 2  # 0 is none
    np.testing.assert_array_equal(classes[0], expected)


def test_a_small_instance_weighs_as_much_in_all_as_the_square_root_of_its_cells():
    _, weights = dense_targets([CORNER], 8, 4)
    assert weights[0, :2, :2].flatten().tolist() == pytest.approx([0.5] * 4)
    assert weights[0, 2:].flatten().tolist() == pytest.approx([28**-0.5] * 24)


def test_rows_are_down_and_columns_across_in_pictures_of_any_shape():
    wide = sample(((0, 0, 0), (90, 0, 100, 20)), width=100, height=20)
    classes, _ = dense_targets([wide], 2, 10)
    assert torch.nonzero(classes[0, 0]).tolist() == [[0, 9], [1, 9]]


def test_a_sub_cell_is_answered_by_the_token_it_lies_in():
    torch.manual_seed(0)
    head, tokens = DenseHead(width=6, cells=2), torch.randn(1, 2 * 3, 6, requires_grad=True)
    weights = torch.zeros(1, 4, 6)
    weights[0, 3, 2] = 1.0  # in the lower row of tokens, in its second column
    loss, _ = head(tokens, (2, 3), torch.zeros(1, 3, 4, 6, dtype=torch.long), weights)
    loss.backward()
    assert tokens.grad[0].abs().sum(dim=1).gt(0).tolist() == [False, False, False, False, True, False]


def test_a_head_that_knows_the_answer_loses_nothing_and_is_right():
    head = DenseHead(width=3, cells=1)
    classes, weights = dense_targets([CORNER], 4, 2)
    # Tokens tell the class numbers; logits are highest where they are met: -(class - token)^2 without its constant.
    rows, biases = [], []
    for kind, count in enumerate((len(SHAPES) + 1, len(COLOUR_NAMES) + 1, len(TEXTURES) + 1)):
        for number in range(count):
            rows.append([200.0 * number * (column == kind) for column in range(3)])
            biases.append(-100.0 * number**2)
    head.linear.weight.data, head.linear.bias.data = torch.tensor(rows), torch.tensor(biases)
    loss, right = head(classes[0].permute(1, 2, 0).reshape(1, 8, 3).float(), (4, 2), classes, weights)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert float(right) == 1.0
