"""The adaptive unlearning score by hand, for samples and for classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oblivio.core import Run, Split, Trial
from oblivio.data.arrays import Arrays
from oblivio.metrics.aus import AUS

RUN = Run.on("cpu")


class Told(nn.Module):
    """Predicts what one of its input's numbers says: the first of an original, else the second."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column
        self.classes = nn.Parameter(torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, self.column : self.column + 1] - self.classes).square()


def told(labels: Sequence[int], before: Sequence[int], after: Sequence[int], first: int) -> Arrays:
    ids = torch.arange(first, first + len(labels))
    return Arrays(torch.tensor([before, after]).T.float(), torch.tensor(labels), ids)


def score(forget: Arrays, retain: Arrays, test: Arrays) -> float:
    return AUS()(Trial(Told(0), Told(1), Split(forget, retain), test), RUN)["aus"]


RETAIN = told([0, 1, 2], [0, 1, 2], [0, 1, 2], 100)
TEST = told([0, 1, 2, 2], [0, 1, 2, 2], [0, 1, 2, 0], 200)  # from 4 of 4 right to 3 of 4


def test_samples_should_be_answered_as_test_data_are() -> None:
    half = told([0, 1], [0, 1], [0, 2], 0)
    assert score(half, RETAIN, TEST) == pytest.approx((1 - 0.25) / (1 + 0.25))
    known = told([0, 1], [0, 1], [0, 1], 0)
    assert score(known, RETAIN, TEST) == pytest.approx((1 - 0.25) / (1 + 0.25))
    never = told([0, 1], [0, 1], [1, 2], 0)
    assert score(never, RETAIN, TEST) == pytest.approx((1 - 0.25) / (1 + 0.75))


def test_a_class_should_never_be_answered() -> None:
    """And its test examples, all wrong here, play no part."""
    test = told([0, 1, 2, 2, 3, 3], [0, 1, 2, 2, 3, 3], [0, 1, 2, 0, 1, 1], 200)
    forgotten, known = (told([3, 3], [3, 3], after, 0) for after in ([0, 1], [3, 3]))
    assert score(forgotten, RETAIN, test) == pytest.approx(0.75)
    assert score(known, RETAIN, test) == pytest.approx(0.75 / 2)
    partly = told([3, 0], [3, 0], [0, 0], 0)  # class 0 is still there
    assert score(partly, RETAIN, test) == pytest.approx(0.75 / (1 + 0.25))


def test_a_perfect_model_has_one_and_a_better_one_more() -> None:
    right, wrong = told([0, 1], [0, 1], [0, 1], 200), told([0, 1], [0, 0], [0, 1], 200)
    assert score(told([0], [0], [0], 0), RETAIN, right) == 1
    assert score(told([3], [3], [0], 0), RETAIN, right) == 1
    assert score(told([0], [0], [0], 0), RETAIN, wrong) == 1.5


rows = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=12)


@given(rows, rows, rows)
def test_agrees_with_a_count(forget: list, retain: list, test: list) -> None:
    def share(examples: list, column: int) -> float:
        return sum(one[0] == one[column] for one in examples) / len(examples)

    kept = {one[0] for one in retain}
    gone = {one[0] for one in forget} - kept
    unseen = [one for one in test if one[0] not in gone]
    parts = [told(*zip(*p, strict=True), 100 * i) for i, p in enumerate((forget, retain, test))]
    if not unseen:
        with pytest.raises(ValueError, match="give test data of other classes too"):
            score(*parts)
        return
    ta, of_forget = share(unseen, 2), share(forget, 2)
    delta = of_forget if not kept & {one[0] for one in forget} else abs(ta - of_forget)
    expected = (1 - (share(unseen, 1) - ta)) / (1 + delta)
    assert score(*parts) == pytest.approx(expected)
    assert 0 <= expected <= 2


def test_it_needs_no_origin() -> None:
    trial = Trial(Told(0), Told(1), Split(told([0], [0], [0], 0), RETAIN), TEST)
    assert AUS()(trial, replace(RUN, origin=None))["aus"] > 0
