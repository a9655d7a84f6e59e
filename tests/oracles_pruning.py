"""Slow truths of pruning: every weight sorted, every round begun from the whole model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

Scores = Mapping[str, Tensor]
Keep = dict[str, Tensor]


def keep_best(scores: Scores, count: int, among: Keep | None = None) -> Keep:
    """The `count` best of all layers together by a whole sort; of equal ones, the last."""
    rows = [
        (float(value), layer, place)
        for layer, (name, score) in enumerate(scores.items())
        for place, value in enumerate(score.flatten().tolist())
        if among is None or bool(among[name].flatten()[place])
    ]
    keep = {name: torch.zeros(score.numel(), dtype=torch.bool) for name, score in scores.items()}
    names = list(scores)
    for _, layer, place in sorted(rows)[len(rows) - count :]:
        keep[names[layer]][place] = True
    return {name: keep[name].view_as(score) for name, score in scores.items()}


def count_kept(sparsity: float, total: int) -> int:
    """N less the share that is removed, to the nearest weight; one stays at least."""
    return max(1, total - round(sparsity * total))


def magnitude(model: nn.Module, names: Sequence[str], sparsity: float) -> Keep:
    """|w|, all layers together."""
    sizes = {name: model.get_parameter(name).detach().abs() for name in names}
    return keep_best(sizes, count_kept(sparsity, sum(s.numel() for s in sizes.values())))


def synflow(
    model: nn.Module, names: Sequence[str], shape: Sequence[int], sparsity: float, rounds: int
) -> Keep:
    """Tanaka et al. 2020, algorithm 1, in float64: a fresh copy of the model in each round."""
    keep = {name: torch.ones_like(model.get_parameter(name), dtype=torch.bool) for name in names}
    total = sum(k.numel() for k in keep.values())
    for i in range(1, rounds + 1):
        positive = copy.deepcopy(model).double().eval()
        with torch.no_grad():
            for value in positive.state_dict().values():
                value.copy_(value.abs())
            for name in names:
                positive.get_parameter(name).mul_(keep[name])
        positive(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
        scores: dict[str, Tensor] = {}
        for name in names:
            weight = positive.get_parameter(name)
            assert weight.grad is not None
            scores[name] = (weight.detach() * weight.grad).abs()
        gone = 1 - (1 - sparsity) ** (i / rounds) if i < rounds else sparsity
        keep = keep_best(scores, count_kept(gone, total), keep)
    return keep


def iterative(
    dense: nn.Module,
    start: nn.Module,
    names: Sequence[str],
    sparsity: float,
    rate: float,
    train: Callable[[nn.Module, Keep], nn.Module],
) -> Keep:
    """Prune a share of what is left, go back to the start, train with the mask; until enough."""
    keep = {name: torch.ones_like(dense.get_parameter(name), dtype=torch.bool) for name in names}
    total, share, trained = sum(k.numel() for k in keep.values()), 1.0, dense
    while True:
        share *= 1 - rate
        last = 1 - share >= sparsity - 1e-12
        sizes = {name: trained.get_parameter(name).detach().abs() for name in names}
        keep = keep_best(sizes, count_kept(sparsity if last else 1 - share, total), keep)
        if last:
            return keep
        trained = copy.deepcopy(start)
        with torch.no_grad():
            for name in names:
                trained.get_parameter(name).mul_(keep[name])
        trained = train(trained, keep)
