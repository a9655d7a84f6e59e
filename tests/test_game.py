"""The game of shadow models: who sees what, and that nobody sees what is not theirs."""

from dataclasses import replace

import pytest
import torch

from laws import assert_same_state, standard, untouched_randomness
from oblivio.catalogue import choose
from oblivio.core import Split, derive, predict
from oblivio.game import ask, deal, forgetful, originals, play, references
from oblivio.shadow import answers
from oblivio.train import Recipe


@pytest.fixture(scope="module")
def here():
    """A case whose originals are trained quickly."""
    made = standard("mlp")
    origin = replace(made.origin, train=Recipe(epochs=2, lr=0.05, batch_size=16))
    train = made.split.retain  # the whole training data of a smaller request
    split = Split.of(train, train.ids[:9])
    return train, split, made.test, replace(made.run, origin=origin), origin


def dealt(here, design="halves", models=6, **options):
    train, split, test, _, _ = here
    return deal(train, split, test, models=models, design=design, **options)


def test_halves_are_complementary_and_balanced(here):
    train, split, _, _, _ = here
    found = dealt(here)
    forget, everything = set(split.forget.ids.tolist()), set(train.ids.tolist())
    for one, two in zip(found.whole[::2], found.whole[1::2], strict=True):
        assert set(one.ids.tolist()) | set(two.ids.tolist()) == everything
        assert not set(one.ids.tolist()) & set(two.ids.tolist())
        assert abs(len(forget & set(one.ids.tolist())) - len(forget) / 2) <= 0.5
    assert found.splits[0].digest != found.splits[2].digest


def test_a_shadow_forgets_what_it_saw_of_the_request(here):
    _, split, _, _, _ = here
    found = dealt(here)
    for part, whole, seen in zip(found.splits, found.whole, found.seen, strict=True):
        own = set(whole.ids.tolist())
        assert set(part.forget.ids.tolist()) == own & set(split.forget.ids.tolist())
        assert set(part.retain.ids.tolist()) == own & set(split.retain.ids.tolist())
        asked = torch.cat([data.ids for data in found.points[:2]]).tolist()
        assert seen[: len(asked)].tolist() == [id_ in own for id_ in asked]
        assert not seen[len(asked) :].any()


def test_the_fixed_design_deals_all_the_same(here):
    train, split, _, _, _ = here
    found = dealt(here, "fixed", models=3)
    assert all(part.digest == split.digest for part in found.splits)
    assert torch.equal(found.whole[1].ids, train.ids)
    forget, retain, _ = found.counts
    assert found.seen[:, : forget + retain].all()


def test_points_are_all_of_the_request_and_some_of_the_rest(here):
    found = dealt(here, points=7, seed=3)
    assert found.counts == (9, 7, 7)
    assert torch.equal(found.ids, dealt(here, points=7, seed=3).ids)
    assert not torch.equal(found.ids, dealt(here, points=7, seed=4).ids)


def test_test_points_of_a_class_that_is_forgotten_as_a_whole_are_left_out():
    made = standard("mlp", class_wise=True)
    train = made.split.retain
    with_class = Split.of(train, train.ids[train.labels == 1])
    found = deal(train, with_class, made.test, models=2)
    assert 1 not in found.points[2].labels


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"models": 1, "design": "fixed"}, "2 or more"),
        ({"models": 5, "design": "halves"}, "even: every half has its complement"),
    ],
)
def test_too_few_or_odd_shadows_are_refused(here, options, said):
    with pytest.raises(ValueError, match=said):
        dealt(here, **options)


def test_a_request_of_one_cannot_be_halved(here):
    train, _, test, _, _ = here
    with pytest.raises(ValueError, match="halves need two of each"):
        deal(train, Split.of(train, train.ids[:1]), test, models=2, design="halves")


def test_models_are_those_of_their_own_seeds_and_data(here):
    _, _, _, run, origin = here
    found = dealt(here, models=4)
    first = originals(found, origin, run)
    known = references(first, found, origin, run)
    assert known.original.margins.shape == found.seen.shape
    # No two are alike: every one has its own seed, and again is not retrained.
    rows = torch.cat([known.original.margins, known.retrained.margins, known.again.margins])
    assert len(rows.unique(dim=0)) == 12
    again = originals(found, origin, run)
    for one, two in zip(first, again, strict=True):
        assert_same_state(one.state_dict(), two.state_dict())


def test_the_answers_are_those_of_each_model_alone(here):
    _, _, _, run, origin = here
    found = dealt(here, models=4)
    models = originals(found, origin, run)
    together = ask(models, found)
    for place, model in enumerate(models):
        for data, start in zip(found.points, (0, 9, 9 + found.counts[1]), strict=True):
            alone = answers(predict(model, data))
            part = together.margins[place, start : start + len(data)]
            torch.testing.assert_close(part, alone.margins[0], rtol=1e-4, atol=1e-4)


def test_retraining_as_a_method_has_never_seen_the_request(here):
    """What the method is handed is the shadow's own split and origin."""
    _, _, _, run, origin = here
    found = dealt(here, models=2)
    first = originals(found, origin, run)
    said, seconds = forgetful(choose("methods", {"name": "retrain"}), first, found, origin, run)
    assert seconds > 0
    for place, split in enumerate(found.splits):
        own = replace(run, origin=None)
        seeded = replace(origin, seed=derive(origin.seed, "shadow", "halves", "original", place))
        alone = seeded.make(split.retain, own)
        expected = answers(predict(alone, found.points[0])).margins[0]
        torch.testing.assert_close(said.margins[place, :9], expected, rtol=1e-4, atol=1e-4)


def test_a_whole_game(here):
    train, split, test, run, origin = here
    method = choose("methods", {"name": "fine_tune", "recipe": {"epochs": 1, "lr": 0.01}})
    with untouched_randomness():
        one = play(method, origin, train, split, test, run, models=2, design="halves")
    two = play(method, origin, train, split, test, run, models=2, design="halves")
    for kind in ("original", "unlearned", "retrained", "again"):
        assert torch.equal(getattr(one, kind).margins, getattr(two, kind).margins)
    assert not torch.equal(one.unlearned.margins, one.original.margins)


def test_a_method_that_does_nothing_is_at_the_ceiling(here):
    train, split, test, run, origin = here
    method = choose("methods", {"name": "original"})
    shadows = play(method, origin, train, split, test, run, models=2)
    torch.testing.assert_close(shadows.unlearned.margins, shadows.original.margins)
