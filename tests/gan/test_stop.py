"""When unlearning stops: what is looked at, when, and what is said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import laws
from gan_worlds import GanCase, gan_case
from oblivio.adversarial import Adversarial, Duel
from oblivio.core import Note, Run, derive
from oblivio.gan import _stop
from oblivio.gan._stop import Stop
from oblivio.generative import generate, scores
from oblivio.judge import frechet_distance, judge, whole
from oblivio.roc import Area, auc


class Watched:
    """A case whose unlearning is watched, and what was noted meanwhile."""

    def __init__(self, stop: Stop, *, held_out: bool = True, **case: bool) -> None:
        self.here: GanCase = gan_case(**case)
        self.noted: list[Any] = []
        self.run: Run = replace(self.here.run, seed=4, tell=self.noted.append)
        if not held_out:
            self.run = replace(self.run, held_out=None)
        self.duel = Duel(self.here.original, Adversarial(steps=10, batch_size=16), self.run)
        self.enough: Callable[[int], bool] = stop.watch(self.duel, self.here.split)

    @property
    def images(self) -> torch.Tensor:
        """What is looked at: 200 images of the average."""
        gan, seed = self.duel.gan, derive(4, "stop")
        return generate(gan, gan.latents(200, seed), gan.labels(200, seed))

    @property
    def judge(self) -> Any:
        return judge(whole(self.here.split.forget, self.here.split.retain), self.run, "method")

    def share(self) -> float:
        return 100 * sum(label == 2 for label in self.judge.classes_of(self.images).tolist()) / 200


# --- What is looked at --------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_a_class_is_forgotten_once_its_share_is_small(conditional: bool) -> None:
    """As the method's judge sees images of the average: at most so many, to the last one."""
    share = Watched(Stop(), conditional=conditional).share()
    assert 5 < share < 95
    for most, stops in ((share, True), (share - 0.1, False)):
        here = Watched(Stop(share=most, every=1, samples=200), conditional=conditional)
        assert here.enough(1) == stops
        said = [Note("stopped", f"after round 1: {share:.1f} % are called so")]
        assert here.noted == (said if stops else [])


@pytest.mark.parametrize("conditional", [False, True])
def test_items_are_forgotten_once_d_cannot_tell_them(conditional: bool) -> None:
    """From held-out images, by the AUC's distance from 50, on either side."""
    first = Watched(Stop(), class_wise=False, conditional=conditional)
    forget, held = first.here.split.forget, first.run.held_out
    scored = [
        scores(first.duel.gan, data.inputs, data.labels if conditional else None)  # pyright: ignore
        for data in (forget, held)
    ]
    area = 100 * auc(*scored).value
    assert area != 50
    for most, stops in ((abs(area - 50) + 0.01, True), (abs(area - 50) - 0.01, False)):
        here = Watched(Stop(auc=most, every=1), class_wise=False, conditional=conditional)
        assert here.enough(1) == stops
        said = [Note("stopped", f"after round 1: the AUC is {area:.1f}")]
        assert here.noted == (said if stops else [])


def test_an_auc_below_50_is_a_tell_tale_too(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Watched(Stop(auc=3, every=1), class_wise=False)
    for area, stops in ((46.9, False), (47.1, True), (52.9, True), (53.1, False)):
        found = Area(area / 100, None)
        monkeypatch.setattr(_stop, "auc", lambda *_, found=found: found)
        assert here.enough(1) == stops


def test_quality_is_that_of_retained_classes() -> None:
    """In the features of the method's judge; it stops once the distance has grown by the share."""
    here = Watched(Stop(worse=0.5, every=1, samples=200))
    retain: Any = here.here.split.retain
    real = here.judge.features(retain.inputs)

    def distance() -> float:
        features = here.judge.features(here.images)
        return frechet_distance(real, features[here.judge.called(features) != 2])

    first = distance()
    assert not here.enough(1)
    with torch.no_grad():
        here.duel.gan.average.blocks[-2].bias.add_(0.05)  # pyright: ignore: everything is brighter
    while distance() <= 1.5 * first:
        assert not here.enough(2)
        with torch.no_grad():
            here.duel.gan.average.blocks[-2].bias.add_(0.05)  # pyright: ignore
    assert here.enough(3)
    (note,) = here.noted
    assert (
        note.value == f"after round 3: the distance of {distance():.3g} exceeds {1.5 * first:.3g}"
    )


def test_it_stops_where_nothing_retained_is_made_any_more() -> None:
    here = Watched(Stop(worse=10.0, every=1, samples=200))
    shown = here.judge.classes_of(here.images)
    image = here.images[shown == 2][:1]

    def ours(z: torch.Tensor) -> torch.Tensor:
        return image.expand(len(z), -1, -1, -1)

    here.duel.gan.average.forward = ours
    assert here.enough(1)
    assert "the distance of inf exceeds" in here.noted[0].value


def test_samples_are_so_many_of_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        _stop, "generate", lambda gan, z, y: (seen.append(z), generate(gan, z, y))[1]
    )
    here = Watched(Stop(share=0.0, every=1, samples=30))
    here.enough(1)
    here.enough(2)
    assert len(seen) == 2
    assert torch.equal(seen[0], here.duel.gan.latents(30, derive(4, "stop")))
    assert torch.equal(seen[0], seen[1])


# --- When ---------------------------------------------------------------------------------------


def test_it_is_looked_after_every_so_many_rounds() -> None:
    here = Watched(Stop(share=100.0, every=3, samples=50))
    assert [here.enough(number) for number in range(1, 8)] == [
        False, False, True, False, False, True, False,
    ]  # fmt: skip


def test_where_nothing_is_asked_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class's share does not stop items, nor their AUC a class."""
    monkeypatch.setattr(_stop, "generate", None)
    monkeypatch.setattr(_stop, "scores", None)
    for stop, class_wise in ((Stop(), True), (Stop(share=100.0), False), (Stop(auc=50.0), True)):
        here = Watched(replace(stop, every=1), class_wise=class_wise)
        assert not here.enough(1)
        assert here.noted == []


def test_several_conditions_may_stop_it() -> None:
    here = Watched(Stop(share=0.0, worse=1e9, every=1, samples=100))
    assert not here.enough(1)
    here = Watched(Stop(share=100.0, worse=1e9, every=1, samples=100))
    assert here.enough(1)


def test_looking_changes_nothing() -> None:
    here = Watched(Stop(share=0.0, worse=0.0, every=1, samples=100))
    before = laws.snapshot(here.duel.gan)
    with laws.untouched_randomness():
        here.enough(1)
    laws.assert_same(before, laws.snapshot(here.duel.gan))
    assert here.duel.generator_steps == here.duel.discriminator_steps == 0


# --- What makes no sense ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"share": -1.0}, "stop.share = -1.0 must be 0 or more"),
        ({"auc": -0.1}, "stop.auc = -0.1 must be 0 or more"),
        ({"worse": math.nan}, "stop.worse = nan must be 0 or more"),
        ({"every": 0}, "stop.every must be 1 or more"),
        ({"samples": 1}, "stop.samples 2 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Stop(**values)


def test_an_auc_needs_images_that_were_held_out() -> None:
    with pytest.raises(ValueError, match=r"stop.auc compares .* give the run held_out images"):
        Watched(Stop(auc=3.0), class_wise=False, held_out=False)
    Watched(Stop(auc=3.0), held_out=False)  # a class does not look at it
