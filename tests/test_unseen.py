"""Held-out images beside those to forget: which count, and for how much."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_worlds import gan_case, pictures
from oblivio.core import Split
from oblivio.generative import alike, unseen

Labels = st.lists(st.integers(0, 5), min_size=1, max_size=30)


@given(Labels, Labels)
def test_classes_weigh_as_in_the_other_set(others: list[int], these: list[int]) -> None:
    """Of the classes that both have; counted by hand."""
    both = set(others) & set(these)
    if not both:
        with pytest.raises(ValueError, match="no class in common"):
            alike(torch.tensor(others), torch.tensor(these))
        return
    weights = alike(torch.tensor(others), torch.tensor(these)).tolist()
    total = sum(label in both for label in these)
    for label in set(others):
        found = sum(w for w, own in zip(weights, others, strict=True) if own == label)
        wanted = these.count(label) / total if label in both else 0.0
        assert found == pytest.approx(wanted, abs=1e-12)
        alone = {w for w, own in zip(weights, others, strict=True) if own == label}
        assert len(alone) == 1


def test_unseen_are_held_out_images_of_the_same_classes() -> None:
    here = gan_case()
    held = pictures(60, seed=3)
    found = unseen(here.original, here.split, held)
    assert found is not None
    assert torch.equal(found.ids, held.ids[held.labels == 2])
    train = pictures(200, seed=1)
    some = Split.of(train, train.ids[torch.isin(train.labels, torch.tensor([0, 1]))][:9])
    found = unseen(here.original, some, held)
    assert found is not None
    assert set(found.labels.tolist()) == {0, 1}


def test_there_may_be_none() -> None:
    here, held = gan_case(), pictures(60, seed=3)
    assert unseen(here.original, here.split, None) is None
    assert unseen(here.original, here.split, held.take(torch.arange(0))) is None
    others = held.take(torch.where(held.labels != 2)[0])
    assert unseen(here.original, here.split, others) is None


def test_what_is_to_be_forgotten_was_seen() -> None:
    here, held = gan_case(), pictures(60, seed=3)
    inputs = held.inputs.clone()
    inputs[7] = here.split.forget.take(torch.tensor([4])).inputs[0]  # pyright: ignore
    with pytest.raises(ValueError, match="hold one that is to be forgotten"):
        unseen(here.original, here.split, replace(held, inputs=inputs))
