r"""The game of shadow models: who sees what, who forgets what, and what they say of it.

`deal` decides what each shadow is trained on and must forget; `originals` and `references` train
the models; `forgetful` lets a method forget in each. `play` is the four in one.

Every shadow has three seeds of its own, none of which depends on another: of the original's
training, of the retrained models', and of unlearning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from oblivio.core import Data, Method, Origin, Run, Split, derive, predict, unlearn
from oblivio.fleet import answers_many, make_many
from oblivio.shadow import Answers, Design, Shadows, answers

Positions = Int64[Tensor, " _"]


@dataclass(frozen=True, eq=False)
class Deal:
    r"""What each shadow is trained on, and the points that all are asked about.

    Args:
        design: What H_t is; see `oblivio.shadow`.
        splits: F_t and H_t \ F_t of each shadow.
        whole: H_t of each shadow, in the order of the training data.
        points: The forget, retain and test points.
        seen: Whether H_t holds the point.
    """

    design: Design
    splits: tuple[Split, ...]
    whole: tuple[Data, ...]
    points: tuple[Data, Data, Data]
    seen: Bool[Tensor, "models points"]

    def __len__(self) -> int:
        """How many shadows there are."""
        return len(self.splits)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many points are of D_f, of D_r, and test points."""
        forget, retain, test = map(len, self.points)
        return forget, retain, test

    @cached_property
    def ids(self) -> Int64[Tensor, " points"]:
        """The points' ids; those of test points are the test data's own."""
        return torch.cat([data.ids for data in self.points])

    @cached_property
    def labels(self) -> Int64[Tensor, " points"]:
        """The points' true classes."""
        return torch.cat([data.labels.cpu() for data in self.points])


def deal(
    train: Data,
    split: Split,
    test: Data,
    *,
    models: int,
    design: Design = "fixed",
    points: int = 2000,
    seed: int = 0,
) -> Deal:
    """Decide what each of the shadows is trained on and must forget.

    Args:
        train: D, what the original is trained on.
        split: The request.
        test: Data that no model is trained on.
        models: How many shadows; even for "halves".
        design: "fixed" trains all on D, "halves" on complementary halves of D_f and D_r.
        points: The most points of D_r, and the most test points, that the shadows are asked about;
            all of D_f always.
        seed: What the halves and the points derive from.

    Returns:
        The deal.

    Raises:
        ValueError: If there are fewer than two shadows, an odd number for "halves", or fewer than
            two examples to halve.
    """
    if models < 2 or (design == "halves" and models % 2):
        even = " and even: every half has its complement" if design == "halves" else ""
        raise ValueError(f"There are to be {models} shadow models; it must be 2 or more{even}.")
    forget = torch.where(torch.isin(train.ids, split.forget.ids))[0]
    retain = torch.where(torch.isin(train.ids, split.retain.ids))[0]
    if design == "halves" and min(len(forget), len(retain)) < 2:
        raise ValueError(
            f"There are {len(forget)} examples to forget and {len(retain)} to retain; "
            'halves need two of each: use measures of the design "fixed".'
        )
    keep = torch.where(~torch.isin(test.labels, split.gone))[0]
    draw = torch.Generator().manual_seed(derive(seed, "points"))
    asked = (forget, _some(retain, points, draw), _some(keep, points, draw))
    hands = _hands(forget, retain, 1 if design == "fixed" else models, design, seed)
    splits = [Split(train.take(mine), train.take(kept)) for mine, kept in hands]
    own = [torch.cat(hand).sort().values for hand in hands]
    whole = [train.take(positions) for positions in own]
    inside = torch.stack([torch.isin(torch.cat(asked[:2]), positions) for positions in own])
    seen = torch.cat([inside, torch.zeros(len(own), len(asked[2]), dtype=torch.bool)], 1)
    if design == "fixed":  # all are dealt the same
        splits, whole, seen = splits * models, whole * models, seen.expand(models, -1)
    data = (train.take(asked[0]), train.take(asked[1]), test.take(asked[2]))
    return Deal(design, tuple(splits), tuple(whole), data, seen)


def _some(positions: Positions, most: int, draw: torch.Generator) -> Positions:
    """At most so many of the positions, in their order."""
    if len(positions) <= most:
        return positions
    return positions[torch.randperm(len(positions), generator=draw)[:most]].sort().values


def _hands(
    forget: Positions, retain: Positions, models: int, design: Design, seed: int
) -> list[tuple[Positions, Positions]]:
    """Each shadow's part of D_f and of D_r."""
    if design == "fixed":
        return [(forget, retain)] * models
    hands = []
    for pair in range(models // 2):
        draw = torch.Generator().manual_seed(derive(seed, "half", pair))
        one, two = [], []
        for part in (forget, retain):
            order = part[torch.randperm(len(part), generator=draw)]
            middle = len(part) // 2
            one.append(order[:middle].sort().values)
            two.append(order[middle:].sort().values)
        hands += [(one[0], one[1]), (two[0], two[1])]
    return hands


class References(NamedTuple):
    """What the models that any method is compared with say of the points."""

    original: Answers
    retrained: Answers
    again: Answers


def originals(dealt: Deal, origin: Origin, run: Run) -> list[nn.Module]:
    """Train each shadow's original on its H_t.

    Returns:
        The models, in the order of the shadows.
    """
    return make_many(_seeded(origin, dealt, "original"), dealt.whole, run)


def references(models: Sequence[nn.Module], dealt: Deal, origin: Origin, run: Run) -> References:
    r"""Retrain on each shadow's H_t \ F_t, twice, and ask all.

    Args:
        models: The originals.
        dealt: Who sees what.
        origin: How an original comes to be.
        run: Where.

    Returns:
        What originals and retrained models say of the points.
    """
    kept = [split.retain for split in dealt.splits]
    one, two = (
        ask(make_many(_seeded(origin, dealt, name), kept, run), dealt)
        for name in ("retrained", "again")
    )
    return References(ask(models, dealt), one, two)


def forgetful(
    method: Method, models: Sequence[nn.Module], dealt: Deal, origin: Origin, run: Run
) -> tuple[Answers, float]:
    """Let a method forget F_t in each shadow's original, one after another, and ask the results.

    Returns:
        What the unlearned models say of the points, and the method's seconds for all of them.
    """
    own = _seeded(origin, dealt, "original")
    said, seconds = [], 0.0
    for place, (model, split) in enumerate(zip(models, dealt.splits, strict=True)):
        seed = derive(origin.seed, "unlearning", dealt.design, place)
        knowing = replace(run, seed=seed, origin=own[place], beside=None)
        outcome = unlearn(method, model, split, knowing)
        seconds += outcome.seconds
        said.append(ask([outcome.model], dealt))
    return Answers.joined(said), seconds


def play(
    method: Method,
    origin: Origin,
    train: Data,
    split: Split,
    test: Data,
    run: Run,
    *,
    models: int = 32,
    design: Design = "fixed",
    points: int = 2000,
) -> Shadows:
    """Train the shadows of a request, let a method forget in each, and ask all models.

    Args:
        method: What forgets.
        origin: How an original comes to be.
        train: D, what the original is trained on.
        split: The request.
        test: Data that no model is trained on.
        run: Where.
        models: How many shadows.
        design: What they are trained on; a measure's `design` says which it needs.
        points: The most points of D_r, and the most test points.

    Returns:
        What measures look at.
    """
    train, split, test = train.to(run.device), split.to(run.device), test.to(run.device)
    dealt = deal(train, split, test, models=models, design=design, points=points, seed=origin.seed)
    first = originals(dealt, origin, run)
    known = references(first, dealt, origin, run)
    return assembled(dealt, known, forgetful(method, first, dealt, origin, run)[0])


def assembled(dealt: Deal, known: References, unlearned: Answers) -> Shadows:
    """What measures look at.

    Returns:
        The case of a method.
    """
    return Shadows(
        dealt.design,
        dealt.ids,
        dealt.labels,
        dealt.counts,
        dealt.seen,
        original=known.original,
        unlearned=unlearned,
        retrained=known.retrained,
        again=known.again,
    )


def ask(models: Sequence[nn.Module], dealt: Deal) -> Answers:
    """What models say of the points."""
    parts = [data for data in dealt.points if len(data)]
    if len(models) > 1:
        each = [answers_many(models, data) for data in parts]
    else:
        each = [
            Answers.joined([answers(predict(model, data)) for model in models]) for data in parts
        ]
    return Answers(
        torch.cat([one.margins for one in each], 1), torch.cat([one.right for one in each], 1)
    )


def _seeded(origin: Origin, dealt: Deal, name: str) -> list[Origin]:
    """An origin for each shadow, alike in all but the seed."""
    return [
        replace(origin, seed=derive(origin.seed, "shadow", dealt.design, name, place))
        for place in range(len(dealt))
    ]
