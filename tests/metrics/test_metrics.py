"""Every metric of classifiers obeys the laws; and what each of them counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import laws
import oracles
import worlds
from oblivio.catalogue import build, find, names
from oblivio.core import Metric, Outputs, Run, Split, Trial
from oblivio.data.arrays import Arrays
from oblivio.metrics.accuracy import Accuracy, accuracy
from oblivio.metrics.confidence import Confidence
from oblivio.metrics.confusion import Confusion
from oblivio.metrics.time import Time

RUN = Run.on("cpu")
OF_CLASSIFIERS = [n for n in names("metrics") if getattr(find("metrics", n), "of", "") != "gan"]


@pytest.mark.parametrize("law", laws.METRIC_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", OF_CLASSIFIERS)
def test_law(name: str, law: Callable[[Metric], None]) -> None:
    metric = build(find("metrics", name), laws.QUICK.get(name, {}))
    if law is laws.does_not_depend_on_the_order and name in laws.TRAINING:
        pytest.skip("it trains a model, whose order goes by position")
    if law is laws.points_in_the_right_direction and name in laws.ELSEWHERE:
        pytest.skip("it is not about memorised labels")
    law(metric)


def test_no_number_has_two_meanings() -> None:
    scores = [score for name in names("metrics") for score in find("metrics", name).scores]
    assert len(scores) == len(set(scores))


class Told(nn.Module):
    """Predicts what its input's first number says."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.arange(float(classes)))

    def forward(self, x: Tensor) -> Tensor:
        return -10 * (x[:, :1] - self.classes).square()


def told(labels: list[int], predictions: list[int], first: int = 0) -> Arrays:
    x = torch.tensor(predictions).float()[:, None]
    return Arrays(x, torch.tensor(labels), torch.arange(first, first + len(labels)))


FORGET = told([0, 1, 2, 3], [0, 1, 0, 0])
RETAIN = told([0, 1, 2, 3, 3], [0, 1, 2, 3, 0], 10)
TEST = told([0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 1, 2, 0, 3, 0])
TRIAL = Trial(Told(), Told(), Split(FORGET, RETAIN), TEST)


def test_accuracies_by_hand() -> None:
    assert Accuracy()(TRIAL, RUN) == {"ua": 50.0, "ra": 80.0, "ta": 62.5}


def test_test_accuracy_leaves_out_the_class_that_is_gone() -> None:
    gone = Split(told([3, 3], [3, 0]), told([0, 1, 2], [0, 1, 2], 10))
    found = Accuracy()(replace_split(gone), RUN)
    assert found["ta"] == pytest.approx(100 * 4 / 6)
    assert found["ua"] == 50.0


def replace_split(split: Split) -> Trial:
    return Trial(Told(), Told(), split, TEST)


@given(st.data())
def test_accuracy_agrees_with_a_loop(data: st.DataObject) -> None:
    n, classes = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 6))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    logits = torch.randn(n, classes, generator=draw)
    labels = torch.randint(classes, (n,), generator=draw)
    found = accuracy(Outputs(logits, labels))
    assert found == pytest.approx(oracles.percent_right(logits, labels))


def test_confusion_by_hand() -> None:
    expected = [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    assert Confusion()(TRIAL, RUN) == {"confusion": expected}
    gone = Split(told([3, 3], [3, 0]), told([0, 1, 2], [0, 1, 2], 10))
    assert Confusion()(replace_split(gone), RUN) == {"confusion": expected}


def test_confidence_counts_every_example_once() -> None:
    """Told is all but sure: right answers fall into the last bin, wrong ones into the first."""
    found = Confidence(bins=5)(TRIAL, RUN)["confidence"]
    assert found == {
        "forget": [2, 0, 0, 0, 2],
        "retain": [1, 0, 0, 0, 4],
        "test": [3, 0, 0, 0, 5],
    }


def test_confidence_puts_a_half_where_it_belongs() -> None:
    between = Arrays(torch.full((3, 1), 0.5), torch.tensor([0, 1, 0]), torch.arange(3))
    trial = Trial(Told(2), Told(2), Split(between, told([0], [0], 10)), told([0], [0]))
    assert Confidence(bins=4)(trial, RUN)["confidence"]["forget"] == [0, 0, 3, 0]


def test_time_is_what_was_measured() -> None:
    assert Time()(TRIAL, RUN) == {}
    timed = replace(TRIAL, seconds=2.5)
    assert Time()(timed, RUN) == {"seconds": 2.5}
    assert Time.scores["seconds"].better == "down"


def test_accuracies_aim_at_the_retrained_model() -> None:
    """The original's UA is 0: better than retraining's in no sense but that it is far from it."""
    here = laws.standard()
    original = Accuracy()(laws.trial(here.original), here.run)
    retrained = Accuracy()(laws.trial(), here.run)
    assert original["ua"] == 0
    assert retrained["ua"] > 50
    assert retrained["ra"] == original["ra"] == 100
    assert all(score.better == "retrain" and score.headline for score in Accuracy.scores.values())
    assert worlds.weights(here.original).isfinite().all()
