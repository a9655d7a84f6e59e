"""Every metric of GANs obeys the laws; what each of them counts; and the formulas, done slowly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gan_worlds
import laws
import oracles_gan
from gan_worlds import GanCase, gan_case, gan_retrained, pictures
from oblivio.catalogue import build, find, names, settings_of
from oblivio.core import Run, Split, Trial
from oblivio.data.arrays import Arrays
from oblivio.generative import GAN, generate, images_of, scores
from oblivio.judge import Judge, frechet_distance
from oblivio.metrics import _samples
from oblivio.metrics.class_share import ClassShare
from oblivio.metrics.coverage import Coverage, covered
from oblivio.metrics.d_score import DScore
from oblivio.metrics.downstream import Downstream
from oblivio.metrics.frechet import Frechet
from oblivio.metrics.nearest import Nearest, distances
from oblivio.metrics.steps import Steps
from oblivio.roc import auc

OF_GANS = [name for name in names("metrics") if getattr(find("metrics", name), "of", "") == "gan"]
COUNTING = {"class_share", "coverage", "downstream", "frechet", "nearest"}
QUICK: Mapping[str, Mapping[str, Any]] = {
    **{name: {"samples": 300} for name in COUNTING},
    "downstream": {"samples": 300, "recipe": {"epochs": 3}},
}
NOTES = {"generator_steps": 60, "discriminator_steps": 60}
CASES = {
    "class": {},
    "items": {"class_wise": False},
    "conditional": {"conditional": True},
}

Numbers = dict[str, float]


def quick(name: str) -> Any:
    return build(find("metrics", name), QUICK.get(name, {}))


def numbers(result: Mapping[str, Any]) -> Numbers:
    return {name: value for name, value in result.items() if isinstance(value, (int, float))}


@cache
def trial_of(who: str | float, case: str = "class") -> Trial:
    """A trial made once, whose images are drawn once: nobody may change its GANs.

    Args:
        who: Is judged: "retrained", "again", "original", "fresh", or a constant picture.
        case: Of `CASES`.
    """
    here = gan_case(**CASES[case])
    if isinstance(who, float):
        model = constant(who, conditional=here.original.classes is not None)
    else:
        model = {
            "retrained": lambda: gan_retrained(**CASES[case]),
            "again": lambda: here.origin.make(here.split.retain, here.run),
            "original": lambda: here.original,
            "fresh": here.origin.fresh,
        }[who]()
    return here.trial(cast(GAN, model), notes=NOTES)


def judged(name: str, who: str | float = "retrained", case: str = "class") -> Mapping[str, Any]:
    return quick(name)(trial_of(who, case), gan_case(**CASES[case]).run)


def constant(value: float, *, conditional: bool = False) -> GAN:
    """Makes one image for ever, and holds everything for equally real."""
    gan = gan_case(conditional=conditional).original
    with torch.no_grad():
        for parameter in gan.parameters():
            parameter.zero_()
    gan.average = _Flat(value)
    return gan


class _Flat(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value), requires_grad=False)

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.value.expand(len(z), *gan_worlds.SHAPE)


# --- Laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", OF_GANS)
def test_returns_what_it_describes(name: str, case: str) -> None:
    result, scores_ = judged(name, case=case), find("metrics", name).scores
    found = numbers(result)
    if case == "items" and name == "class_share":
        assert found == {}
    else:
        assert found.keys() == scores_.keys()
    assert json.loads(json.dumps(dict(result))) == dict(result)
    for one in result.keys() - found.keys():
        assert isinstance(result[one], (list, dict)), one
    for score in scores_.values():
        assert score.better in ("up", "down", "retrain")
        assert score.label
        assert score.meaning


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", OF_GANS)
def test_stays_in_bounds(name: str, case: str) -> None:
    """For good GANs and ruined ones; more of a class than before is less than none unlearned."""
    for who in ("original", "fresh", -1.0, 0.3, 1.0):
        for one, value in numbers(judged(name, who, case)).items():
            assert math.isfinite(value), one
            assert value >= 0 or one == "pul", one
            if find("metrics", name).scores[one].unit == "%":
                assert value <= 100, one


@pytest.mark.parametrize("name", OF_GANS)
def test_leaves_the_trial_as_it_is(name: str) -> None:
    """Both GANs, whatever mode they are in, and all randomness."""
    for mode in (False, True):
        here = gan_case()
        trial = here.trial(gan_retrained(), notes=NOTES)
        before = []
        for model in (trial.original, trial.unlearned):
            model.train(mode)
            next(model.children()).training = not mode
            before.append(laws.snapshot(model))
        with laws.untouched_randomness():
            quick(name)(trial, here.run)
        for model, old in zip((trial.original, trial.unlearned), before, strict=True):
            laws.assert_same(old, laws.snapshot(model))


@pytest.mark.parametrize("name", OF_GANS)
def test_has_no_gap_for_retraining_itself(name: str) -> None:
    """Whatever the run's seed and the global random state are: methods are judged alike."""
    here, results = gan_case(), []
    for seed, who in enumerate(("retrained", "again")):
        with laws.random_state(seed), laws.untouched_randomness():
            results.append(quick(name)(trial_of(who), replace(here.run, seed=seed)))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", OF_GANS)
def test_does_not_depend_on_the_batch_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    full, here = numbers(judged(name)), gan_case()
    whole = Judge.features
    monkeypatch.setattr("oblivio.metrics._samples.generate", partial(generate, batch_size=7))
    monkeypatch.setattr("oblivio.metrics.d_score.scores", partial(scores, batch_size=7))
    monkeypatch.setattr(Judge, "features", lambda own, x, **_: whole(own, x, batch_size=7))
    small = numbers(quick(name)(here.trial(gan_retrained(), notes=NOTES), here.run))
    assert small.keys() == full.keys()
    for one, value in full.items():
        assert small[one] == pytest.approx(value, rel=1e-4, abs=1e-4), one


@pytest.mark.parametrize("name", OF_GANS)
def test_does_not_depend_on_the_order(name: str) -> None:
    """Of the examples: each part turned round gives the same numbers."""

    def turned(part: Any) -> Arrays:
        return part.take(torch.arange(len(part)).flip(0))

    here = gan_case()
    split = Split(turned(here.split.forget), turned(here.split.retain))
    other = replace(here, split=split, test=turned(here.test))
    one, two = (
        numbers(quick(name)(case.trial(gan_retrained(), notes=NOTES), case.run))
        for case in (here, other)
    )
    assert one == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize("name", OF_GANS)
def test_can_be_built_again(name: str) -> None:
    metric = quick(name)
    assert build(type(metric), settings_of(metric)) == metric


@pytest.mark.parametrize("name", sorted(set(OF_GANS) - {"steps"}))
def test_judges_nothing_but_gans(name: str) -> None:
    here, classifier = gan_case(), nn.Linear(2, 2)
    trial = Trial(classifier, classifier, here.split, here.test)
    with pytest.raises(TypeError, match="A GAN is needed, not Linear"):
        quick(name)(trial, here.run)


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, "samples") for name in sorted(COUNTING)]
    + [("frechet", "real"), ("coverage", "real"), ("coverage", "nearest")]
    + [("d_score", "most"), ("d_score", "shown"), ("nearest", "most")],
)
def test_counts_must_be_counts(name: str, setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} = 0 must be"):
        find("metrics", name)(**{setting: 0})


def test_images_are_drawn_and_judged_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(gan: GAN, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        calls.append(len(z))
        return generate(gan, z, labels)

    monkeypatch.setattr("oblivio.metrics._samples.generate", counted)
    here = gan_case()
    trial = here.trial(gan_retrained())
    for name in sorted(COUNTING):
        quick(name)(trial, here.run)
    assert calls == [300, 300]  # the original's and the unlearned's
    known = len(_samples._seen)
    del trial
    assert len(_samples._seen) == known - 1


def test_ruined_gans_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here, ruined = gan_case(), constant(math.nan)
    with pytest.raises(ValueError, match="the generator is ruined"):
        quick("frechet")(here.trial(ruined), here.run)
    with torch.no_grad():
        next(ruined.discriminator.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match="the discriminator is ruined"):
        DScore()(here.trial(ruined), here.run)


# --- Class share --------------------------------------------------------------------------------


class _Told(nn.Module):
    """Makes real pictures; which ones, the latent's first number says."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(images, requires_grad=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.images[(z[:, 0] - z[:, 0].floor()).mul(len(self.images)).long()]


def showing(*images: torch.Tensor) -> GAN:
    """A GAN that makes these pictures, each as often as the others."""
    gan = gan_case().original
    gan.average = _Told(torch.cat(images))
    return gan


def of_class(k: int, n: int = 20) -> torch.Tensor:
    data = gan_worlds.pictures(3 * n, seed=5, noise=0.1)
    return data.inputs[data.labels == k]


def test_class_share_and_pul_by_hand() -> None:
    """The original shows classes 0 and 2 alike, then class 2 is a quarter as frequent."""
    here = gan_case()
    original = showing(of_class(0), of_class(2))
    unlearned = showing(of_class(0), of_class(1), of_class(0), of_class(2))
    metric = ClassShare(samples=4000)
    trial = Trial(original, unlearned, here.split, here.test)
    found = metric(trial, here.run)
    assert found["class_share"] == pytest.approx(25, abs=3)
    assert found["class_shares"] == pytest.approx([50, 25, 25], abs=3)
    assert found["pul"] == pytest.approx(50, abs=6)
    assert metric(replace(trial, unlearned=original), here.run)["pul"] == 0
    more = metric(replace(trial, unlearned=showing(of_class(2))), here.run)
    assert (more["class_share"], more["class_shares"]) == (100, [0, 0, 100])
    assert more["pul"] == pytest.approx(-100, abs=12)


def test_what_was_never_made_cannot_be_made_less() -> None:
    here, original = gan_case(), showing(of_class(0))
    found = ClassShare(samples=200)(here.trial(original), here.run)
    assert found["class_share"] == 0
    found = ClassShare(samples=200)(replace(here.trial(original), original=original), here.run)
    assert "pul" not in found


def test_a_gan_that_never_saw_a_class_makes_less_of_it() -> None:
    for case in ("class", "conditional"):
        before, after = (judged("class_share", who, case) for who in ("original", "retrained"))
        assert after["class_share"] < before["class_share"] / 2
        assert after["pul"] > 50


def test_a_conditional_gan_is_told_all_classes_alike() -> None:
    here = gan_case(conditional=True)
    found = _samples.samples(here.original, here.trial(), here.run, 30)
    assert found.told is not None
    assert found.told.bincount().tolist() == [10, 10, 10]


# --- Fréchet distance ---------------------------------------------------------------------------


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, d, generator=draw) @ torch.randn(d, d, generator=draw)
    return mixed + torch.randn(d, generator=draw)


@given(st.integers(2, 6), st.integers(0, 1000), st.booleans())
def test_frechet_agrees_with_the_root_of_the_product(d: int, seed: int, few: bool) -> None:
    r, g = normal(40, d, seed), normal(d + 2 if few else 30, d, seed + 1)
    assert frechet_distance(r, g) == pytest.approx(
        oracles_gan.frechet_by_root(r, g), rel=1e-6, abs=1e-6
    )
    assert frechet_distance(g, r) == pytest.approx(frechet_distance(r, g), rel=1e-6, abs=1e-6)
    assert frechet_distance(r, r) == pytest.approx(0, abs=1e-5)


def test_frechet_of_fewer_images_than_features() -> None:
    """Covariances have no full rank: from one point in the plane to the other."""
    r = torch.zeros(4, 3)
    r[:, 0] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert frechet_distance(r, r.roll(1, 1)) == pytest.approx(2 * 4 / 3)
    assert frechet_distance(torch.zeros(3, 2), torch.ones(5, 2)) == pytest.approx(2)


def test_frechet_needs_two_images_of_each_kind() -> None:
    with pytest.raises(ValueError, match="two images or more of each kind, not 3 and 1"):
        frechet_distance(torch.zeros(3, 2), torch.zeros(1, 2))


def test_frechet_of_a_linear_generator_is_known() -> None:
    """Classes play no part in pixels; the judge is asked only which images are retained."""
    world = oracles_gan.LinearWorld()
    gan, real = world.gan(), world.real(200)
    data = Arrays(real, torch.arange(200) % 2)
    split = Split.of(data, [0, 1])
    trial = Trial(gan, gan, split, data)
    found = Frechet(samples=20_000, features="oracles_gan:pixels")(trial, Run.on("cpu"))
    assert found["frechet"] == pytest.approx(world.frechet, rel=0.03)
    assert found["frechet_floor"] == pytest.approx(0, abs=0.01)


def test_frechet_is_of_retained_classes_only() -> None:
    """Whether or not the GAN still makes the forgotten class: that is not a matter of quality."""
    here = gan_case()
    real = torch.cat([of_class(0), of_class(1)])
    without, with_ = showing(real), showing(real, of_class(2, 40))
    metric = Frechet(samples=4000)
    one, two = (metric(here.trial(gan), here.run)["frechet"] for gan in (without, with_))
    everything = frechet_distance(
        features(here, here.split.retain.inputs),  # pyright: ignore[reportAttributeAccessIssue]
        features(here, torch.cat([real, of_class(2, 40)])),
    )
    assert abs(one - two) < 0.1 * abs(one - everything)


def features(here: GanCase, images: torch.Tensor) -> torch.Tensor:
    return _samples.reporter(here.trial(), here.run).features(images)


def test_frechet_in_features_of_the_users_own() -> None:
    here = gan_case()
    trial = here.trial(gan_retrained())
    run, bright = here.run, Frechet(samples=300, features="oracles_gan:brightness")(trial, here.run)
    real, unseen, made = (
        oracles_gan.brightness(images)
        for images in (
            here.split.retain.inputs,  # pyright: ignore[reportAttributeAccessIssue]
            here.test.inputs[here.test.labels < 2],  # pyright: ignore[reportAttributeAccessIssue]
            _samples.samples(trial.unlearned, trial, run, 300).without(here.split.gone).images,
        )
    )
    assert bright["frechet"] == pytest.approx(oracles_gan.frechet_by_root(real, made), rel=1e-4)
    floor = oracles_gan.frechet_by_root(real, unseen)
    assert bright["frechet_floor"] == pytest.approx(floor, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("no_such:thing", ValueError, "Cannot import 'no_such:thing'"),
        ("torch:sin", TypeError, "torch:sin must map images"),
    ],
)
def test_features_that_are_none(name: str, kind: type[Exception], match: str) -> None:
    here = gan_case()
    with pytest.raises(kind, match=match):
        Frechet(samples=20, features=name)(here.trial(), here.run)


def test_training_makes_the_distance_smaller() -> None:
    fresh, found = judged("frechet", "fresh")["frechet"], judged("frechet")
    assert found["frechet_floor"] < found["frechet"] < fresh / 2


def test_a_gan_without_retained_images_has_no_distance_and_covers_nothing() -> None:
    here = gan_case()
    trial = here.trial(showing(of_class(2)))
    assert Frechet(samples=50)(trial, here.run).keys() == {"frechet_floor"}
    assert Coverage(samples=50)(trial, here.run) == {"density": 0, "coverage": 0}
    assert Downstream(samples=50)(trial, here.run) == {"downstream": 0}


# --- Density and coverage -----------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_coverage_agrees_with_loops(k: int, d: int, seed: int) -> None:
    x, y = normal(12, d, seed), normal(9, d, seed + 1)
    assert covered(x, y, k) == pytest.approx(oracles_gan.covered_by_loops(x, y, k))


def test_real_images_cover_all_and_one_image_next_to_nothing() -> None:
    here = gan_case()
    seen = showing(here.split.retain.inputs)  # pyright: ignore[reportAttributeAccessIssue]
    all_of_it = Coverage()(here.trial(seen), here.run)
    one = Coverage()(here.trial(showing(of_class(0)[:1])), here.run)
    assert all_of_it["coverage"] > 99
    assert all_of_it["density"] == pytest.approx(1, abs=0.3)
    assert one["coverage"] < 20


def test_density_is_of_retained_classes_only() -> None:
    """A forgotten class among the images does not thin them out."""
    here = gan_case()
    real = torch.cat([of_class(0), of_class(1)])
    one, two = (
        Coverage(samples=3000)(here.trial(showing(real, *more)), here.run)["density"]
        for more in ((), (of_class(2, 40),))
    )
    assert two == pytest.approx(one, rel=0.1)


def test_coverage_needs_neighbours() -> None:
    here = gan_case()
    few = Split(here.split.forget, here.split.retain.take(torch.arange(6)))
    trial = Trial(here.original, here.original, few, here.test)
    assert Coverage(nearest=6)(trial, here.run) == {}
    assert Coverage(nearest=5)(trial, here.run).keys() == {"density", "coverage"}


# --- The discriminator's scores -----------------------------------------------------------------


class _Known(nn.Module):
    """Holds for real what it has seen, or, disliking it, holds it for anything but."""

    def __init__(self, images: torch.Tensor, sign: float) -> None:
        super().__init__()
        self.images, self.sign = nn.Parameter(images.flatten(1), requires_grad=False), sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.sign * torch.cdist(x.flatten(1), self.images).amin(1)


@pytest.mark.parametrize(("sign", "expected"), [(1, 100), (-1, 0), (0, 50)])
@pytest.mark.parametrize("class_wise", [True, False])
def test_d_knows_dislikes_or_is_blind(sign: float, expected: float, class_wise: bool) -> None:
    here = gan_case(class_wise=class_wise)
    gan = here.original
    gan.discriminator = _Known(here.split.forget.inputs, sign)  # pyright: ignore
    found = DScore()(here.trial(gan), here.run)
    assert found["d_auc"] == expected
    assert found["d_error"] == 0  # not one pair is in doubt
    shown = found["d_scores"]
    held_out = 20 if class_wise else 60
    assert [len(shown[k]) for k in ("forget", "held_out", "retain")] == [
        len(here.split.forget),
        held_out,
        len(here.split.retain),
    ]


class _Bright(nn.Module):
    """Prefers a class, and has no memory: the further right an image is bright, the more real."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.amax(2).sum((1, 2))


def test_what_d_thinks_of_a_class_is_not_memory() -> None:
    """Items of one class beside test images of that class; of two, weighed as they are mixed."""
    here, train, test = gan_case(), pictures(900, seed=8), pictures(900, seed=9)
    here.original.discriminator = _Bright()
    labels = train.labels
    for chosen in (labels == 0, (labels == 0) | ((labels == 1) & (torch.arange(900) < 60))):
        ids = train.ids[torch.where(chosen)[0][:150]]
        case = replace(here, split=Split.of(train, ids), test=test)
        found = DScore()(case.trial(), case.run)
        assert abs(found["d_auc"] - 50) < 3 * found["d_error"]
        said = [scores(here.original, images_of(data)) for data in (case.split.forget, test)]
        assert abs(100 * auc(*said).value - 50) > 3 * found["d_error"]  # all classes alike


def test_a_conditional_d_is_told_what_the_images_are() -> None:
    here = gan_case(conditional=True)
    found = DScore(most=500)(here.trial(), here.run)["d_scores"]["forget"]
    forget = here.split.forget
    every = scores(here.original, forget.inputs, forget.labels)  # pyright: ignore
    assert sorted(found) == pytest.approx(sorted(every.tolist()), abs=1e-4)


def test_d_scores_are_few_and_short() -> None:
    here = gan_case()
    found = DScore(most=15, shown=5)(here.trial(), here.run)["d_scores"]
    assert [len(one) for one in found.values()] == [5, 5, 5]
    assert all(round(value, 4) == value for one in found.values() for value in one)
    ids = here.split.forget.ids
    every = scores(here.original, here.split.forget.inputs)  # pyright: ignore
    assert len(ids) > 15
    assert set(found["forget"]) <= {round(value, 4) for value in every.tolist()}


def test_nothing_is_held_out_where_the_class_is_in_no_test_data() -> None:
    here = gan_case()
    test = here.test.take(torch.where(here.test.labels < 2)[0])
    found = DScore()(Trial(here.original, here.original, here.split, test), here.run)
    assert found.keys() == {"d_scores"}
    assert found["d_scores"]["held_out"] == []


def test_what_looks_at_pixels_needs_no_labels() -> None:
    """Nor a judge, who could not learn anything of images without labels."""
    here = gan_case(class_wise=False)
    train = pictures(200, seed=1)
    alike_ = replace(train, labels=torch.zeros(200, dtype=torch.int64))
    here = replace(here, split=Split.of(alike_, alike_.ids[:24]), test=alike_)
    assert Nearest()(here.trial(), here.run)["nearest"] > 0
    with pytest.raises(ValueError, match="nothing that a judge could learn"):
        Coverage()(here.trial(), here.run)


# --- Nearest images, a classifier downstream, steps ---------------------------------------------


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_nearest_agrees_with_loops(n: int, m: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(k, 2, 3, 3, generator=draw) * 2 - 1 for k in (n, m))
    assert distances(x, y).tolist() == pytest.approx(oracles_gan.nearest_by_loops(x, y))


def test_what_repeats_the_forgotten_images_is_near() -> None:
    here = gan_case(class_wise=False)
    forget = here.split.forget.inputs  # pyright: ignore[reportAttributeAccessIssue]
    near = Nearest()(here.trial(showing(forget)), here.run)["nearest"]
    off = Nearest()(here.trial(showing(forget + 0.1)), here.run)["nearest"]
    assert near == pytest.approx(0, abs=1e-6)
    assert off == pytest.approx(0.1, abs=1e-3)
    assert judged("nearest", case="items")["nearest"] > 0.1


@pytest.mark.parametrize("conditional", [False, True])
def test_a_classifier_learns_from_good_images_and_not_from_noise(conditional: bool) -> None:
    here = gan_case(conditional=conditional)
    good = Downstream(samples=600)(here.trial(), here.run)["downstream"]
    flat = Downstream(samples=600)(here.trial(constant(0.0, conditional=conditional)), here.run)
    assert good > 80
    assert flat["downstream"] <= 60  # of two retained classes


def test_a_conditional_gan_is_taken_at_its_word() -> None:
    """One that mixes its labels up trains a classifier that mixes them up."""
    here, found = gan_case(conditional=True, class_wise=False), []
    for shift in (0, 1):
        gan = gan_case(conditional=True).original
        gan.average = _Obedient(shift)
        found.append(Downstream(samples=600)(here.trial(gan), here.run)["downstream"])
    assert found[0] > 80
    assert found[1] < 10


class _Obedient(nn.Module):
    """Makes what it is told, or the next class after it."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        choice = torch.stack([of_class(k) for k in range(3)])
        place = (z[:, 0] - z[:, 0].floor()).mul(choice.shape[1]).long()
        return choice[(labels + self.shift) % 3, place]


def test_downstream_needs_test_data_of_retained_classes() -> None:
    here = gan_case()
    test = here.test.take(torch.where(here.test.labels == 2)[0])
    trial = Trial(here.original, here.original, here.split, test)
    assert Downstream()(trial, here.run) == {}
    assert Frechet(samples=50)(trial, here.run).keys() == {"frechet"}


def test_steps_are_what_the_method_noted() -> None:
    here = gan_case()
    noted = here.trial(notes={"generator_steps": 7, "discriminator_steps": 9, "other": 1})
    assert Steps()(noted, here.run) == {"generator_steps": 7, "discriminator_steps": 9}
    assert Steps()(here.trial(), here.run) == {}


@pytest.mark.gpu
@pytest.mark.parametrize("name", OF_GANS)
def test_on_a_gpu_the_numbers_are_much_the_same(name: str) -> None:
    """The judge is another there, by rounding and by the precision that it is trained in."""
    here = gan_case()
    run = Run.on("cuda", origin=here.origin)
    pair = [gan.to(run.device) for gan in (here.original, gan_retrained())]
    trial = Trial(
        pair[0], pair[1], here.split.to(run.device), here.test.to(run.device), notes=NOTES
    )
    found, expected = numbers(quick(name)(trial, run)), numbers(judged(name))
    assert found.keys() == expected.keys()
    for one, value in found.items():
        if find("metrics", name).scores[one].unit == "%":
            assert value == pytest.approx(expected[one], abs=15), one
        assert math.isfinite(value), one
