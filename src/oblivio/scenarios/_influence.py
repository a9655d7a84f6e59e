"""How much each class of the source harms a target, by the target's training data alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Data, Origin, Run, derive
from oblivio.curvature.gradients import mean_gradient, trainable
from oblivio.data.arrays import Arrays
from oblivio.fleet import make_many
from oblivio.train import Recipe
from oblivio.transfer import features, head, heads, probed

Harm = Float64[Tensor, " c"]
"""One number per class, in the order of `classes_of`; the larger, the more harmful."""


def classes_of(data: Data) -> Int64[Tensor, " c"]:
    """The classes that there are, ascending."""
    return data.labels.unique()


def leave_one_out(
    train: Data,
    target: Data,
    origins: Sequence[Origin],
    recipe: Recipe,
    run: Run,
    *,
    folds: int,
) -> Harm:
    r"""How much better the target is learned without a class: by a linear probe, cross-validated.

    harm(c) = mean_s [ L(A_s(D)) − L(A_s(D \ D_c)) ]

    where A_s is the training of a small model from seed s, and L(θ) = mean_i (1 − p_{y_i}(x_i)) how
    much a linear probe of θ's features errs on each fold of the target's training data, trained on
    the other folds. Unlike the cross-entropy, no single example can outweigh all others.

    Args:
        train: D, the source's training data.
        target: The target's training data.
        origins: A_s, one for each seed.
        recipe: Of the probes.
        run: Where.
        folds: How many.

    Returns:
        The harm, from −1 to 1, above 0 where the target is better off without the class.

    Source: Jain et al. 2023, "A data-based perspective on transfer learning", take the mean over
    thousands of models that have seen random halves of the classes (see `subsets`); here one is
    left out at a time, and the training data of the target judge.
    """
    classes = classes_of(train).tolist()
    without = [train.take(torch.where(train.labels != c)[0]) for c in classes]
    jobs = [(origin, data) for data in (train, *without) for origin in origins]
    models = make_many([origin for origin, _ in jobs], [data for _, data in jobs], run)
    losses = crossed([features(m, target) for m in models], recipe, run, folds=folds)
    whole, *rest = losses.view(-1, len(origins))
    return torch.stack([(whole - own).mean() for own in rest])


def subsets(
    train: Data,
    target: Data,
    origins: Sequence[Origin],
    recipe: Recipe,
    run: Run,
    *,
    folds: int,
) -> Harm:
    """How much worse the target is learned by models that have seen a class than by others.

    harm(c) = mean_{s: c ∈ C_s} L(A_s(D[C_s])) − mean_{s: c ∉ C_s} L(A_s(D[C_s]))

    where C_s is a random half of the classes, and A_s and L are as in `leave_one_out`. Every model
    has a say in every class, so that for the same number of models chance plays a smaller part.
    Halves come in pairs, each with the half that it leaves: every class is in one of the two.

    Args:
        train: D, the source's training data.
        target: The target's training data.
        origins: A_s, one for each half; an even number.
        recipe: Of the probes.
        run: Where, and with which seed.
        folds: How many.

    Returns:
        The harm, from −1 to 1, above 0 where the target is better off without the class.

    Source: Jain et al. 2023, "A data-based perspective on transfer learning", section 2, with
    thousands of models; judged by the target's training data.
    """
    seen = halves(len(classes_of(train)), len(origins), derive(run.seed, "halves"))
    place = torch.searchsorted(classes_of(train), train.labels)
    data = [train.take(torch.where(own[place])[0]) for own in seen]
    models = make_many(origins, data, run)
    losses = crossed([features(m, target) for m in models], recipe, run, folds=folds)
    inside = (seen * losses[:, None]).sum(0) / seen.sum(0)
    outside = (~seen * losses[:, None]).sum(0) / (~seen).sum(0)
    return inside - outside


def halves(classes: int, count: int, seed: int) -> Bool[Tensor, "models c"]:
    """Random halves of the classes, each followed by the half that it leaves."""
    draw = torch.Generator().manual_seed(seed)
    seen = torch.zeros(count, classes, dtype=torch.bool)
    for pair in range(count // 2):
        half = torch.randperm(classes, generator=draw)[: classes // 2]
        seen[2 * pair, half] = True
        seen[2 * pair + 1] = ~seen[2 * pair]
    return seen


def crossed(
    rows: Sequence[Arrays], recipe: Recipe, run: Run, *, folds: int
) -> Float64[Tensor, " models"]:
    """L(θ) of several models, from their features of the same examples."""
    labels = rows[0].labels
    fold, classes = fold_of(labels, folds, derive(run.seed, "folds")), int(labels.max()) + 1
    parts = [(own, k) for k in fold.unique() for own in rows]
    learnt = [own.take(torch.where(fold != k)[0]) for own, k in parts]
    total = torch.zeros(len(rows), dtype=torch.float64)
    for place, (layer, (own, k)) in enumerate(
        zip(heads(learnt, classes, recipe, run), parts, strict=True)
    ):
        left = fold == k
        logits = layer(own.inputs[left]).detach().double()
        p = logits.softmax(1).gather(1, labels[left][:, None])
        total[place % len(rows)] += (1 - p).sum()
    return total / len(labels)


def fold_of(labels: Int64[Tensor, " n"], folds: int, seed: int) -> Int64[Tensor, " n"]:
    """The fold of each example: every class is spread over all folds as equally as can be."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=draw)
    fold = torch.empty_like(order)
    grouped = order[labels[order].argsort(stable=True)]
    fold[grouped] = torch.arange(len(labels)) % folds
    return fold


def against_gradient(model: nn.Module, train: Data, target: Data, recipe: Recipe, run: Run) -> Harm:
    """How far a class pulls the shared body away from where the target pulls it.

    harm(c) = −cos(∇ L(θ; D_c), ∇ L(θ'; T)) over all parameters but the head's

    where L is the mean cross-entropy, T the target's training data, and θ' the model with a head
    that is trained on T beforehand (a linear probe), so that the gradient is the body's matter.

    Args:
        model: θ, trained on the source.
        train: D, the source's training data.
        target: T.
        recipe: Of the probe.
        run: Where, and with which seed.

    Returns:
        The harm, from −1 to 1.

    Raises:
        ValueError: If nothing but the head can be trained.
    """
    last = head(model, target)
    own = f"{last}." if last else ""
    sizes = {name: p.numel() for name, p in trainable(model).items()}
    shared = [name for name in sizes if last and not name.startswith(own)]
    if not shared:
        raise ValueError(
            f"{type(model).__name__} has no trainable parameters but its last layer's, so source "
            f'and target share none: rank by = "leave_one_out".'
        )

    def pull(at: nn.Module, data: Data) -> Tensor:
        parts = mean_gradient(at, data).split([p.numel() for p in trainable(at).values()])
        named = dict(zip(trainable(at), parts, strict=True))
        return torch.cat([named[name] for name in shared])

    goal = pull(probed(model, target, int(target.labels.max()) + 1, recipe, run), target)
    found = []
    for c in classes_of(train):
        own_pull = pull(model, train.take(torch.where(train.labels == c)[0]))
        found.append(-F.cosine_similarity(own_pull, goal, dim=0))
    return torch.stack(found).cpu()
