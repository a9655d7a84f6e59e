"""Transfer: what a model has learned of one task, put to use for another.

h(x)      what goes into the last linear layer, the head, that is executed
probe     θ with a new head, trained on h(x) of the target's training data
full      θ with a new head, and then all of it trained on the target's training data
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oblivio.core import Data, Run, derive, predict, seeded
from oblivio.data.arrays import Arrays
from oblivio.fleet import fit_many
from oblivio.mask import Mask
from oblivio.train import Recipe, fit

ROUNDING = 1e-6
"""Below this share of their size, features differ by no more than rounding in float32."""


# --- The head -----------------------------------------------------------------------------------


def head(model: nn.Module, data: Data) -> str:
    """The name of the last linear layer that is executed, which gives the model's answers.

    Args:
        model: A classifier.
        data: One example of it is passed through a copy of the model.

    Returns:
        The name; empty if the model itself is that layer.

    Raises:
        ValueError: If no linear layer is executed, or the model's answers are not those of the
            last one.
    """
    copied, said = copy.deepcopy(model), dict[str, Tensor]()

    def listen(name: str, output: Any) -> None:
        said.pop(name, None)  # the last one said stands last
        said[name] = output

    for name, module in copied.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, __, output, name=name: listen(name, output))
    answers = predict(copied, data.take(torch.arange(1))).logits
    if not said:
        raise ValueError(
            f"{type(model).__name__} executes no nn.Linear layer, so there is none to replace for "
            f"the target: transfer needs a model that ends in one."
        )
    name, last = said.popitem()
    same = last.shape == answers.shape and torch.allclose(
        last.float().cpu(), answers, rtol=0, atol=0, equal_nan=True
    )
    if not same:
        raise ValueError(
            f"The last linear layer of {type(model).__name__} that is executed, {name or 'itself'},"
            f" does not give the model's answers, so it cannot be replaced for the target: transfer"
            f" needs a model that ends in an nn.Linear layer."
        )
    return name


def with_head(model: nn.Module, name: str, new: nn.Linear) -> nn.Module:
    """A copy of a model with another head.

    Args:
        model: The model, which is left as it is.
        name: The head's; see `head`.
        new: Takes its place, on its device and in its type; all of it may be trained.

    Returns:
        The copy; its other parameters are trainable where the model's are.
    """
    copied = copy.deepcopy(model)
    weight = copied.get_submodule(name).get_parameter("weight")
    new = copy.deepcopy(new).to(weight.device, weight.dtype)
    if not name:
        return new
    parent, _, own = name.rpartition(".")
    setattr(copied.get_submodule(parent), own, new)
    return copied


class _Heard(nn.Module):
    """A model that answers with what goes into one of its layers."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor) -> Float[Tensor, "n features"]:
        heard: list[Tensor] = []
        layer = self.model.get_submodule(self.name)
        hook = layer.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
        try:
            self.model(x)
        finally:
            hook.remove()
        return heard[-1]


def features(model: nn.Module, data: Data) -> Arrays:
    """What goes into the head, one row per example, in the place of the inputs.

    Returns:
        The features in float32, on the CPU, with labels and ids.

    Raises:
        ValueError: If the model has no head that could be replaced, or the features are not finite.
    """
    h = predict(_Heard(model, head(model, data)), data).logits
    if not bool(h.isfinite().all()):
        raise ValueError("The features hold NaN or infinity: the model is ruined.")
    return Arrays(h, data.labels.cpu(), data.ids.cpu())


# --- Two ways to transfer -----------------------------------------------------------------------


def heads(
    rows: Sequence[Arrays], classes: int, recipe: Recipe, run: Run, *, seed: int | None = None
) -> list[nn.Linear]:
    """Train a linear classifier on each of several sets of features, many at once.

    Each is trained on z = (h − mean) / standard deviation, so that one rate suits features of any
    scale, and then written in terms of h: W h + b = W_z z + b_z. All begin with the same weights
    and see their examples in the same order.

    Args:
        rows: Features with their labels; see `features`.
        classes: How many there are.
        recipe: How to train.
        run: Where.
        seed: Of the first weights and the order; the run's if none is given.

    Returns:
        The classifiers, on the CPU.
    """
    seed = run.seed if seed is None else seed
    ready, scales = [], []
    for own in rows:
        mean, deviation = own.inputs.mean(0), own.inputs.std(0, correction=0)
        varies = deviation > ROUNDING * own.inputs.abs().amax(0)
        scale = torch.where(varies, 1 / deviation, 0)
        ready.append(replace(own, inputs=(own.inputs - mean) * scale).to(run.device))
        scales.append((mean, scale))
    with seeded(derive(seed, "head")):
        first = nn.Linear(rows[0].inputs.shape[1], classes)
    made = [copy.deepcopy(first).to(run.device) for _ in rows]
    plain = replace(run, seed=derive(seed, "order"), mask=None, beside=None, compile=False)
    fit_many(made, ready, recipe, [plain] * len(rows))
    for layer, (mean, scale) in zip(made, scales, strict=True):
        layer.cpu().requires_grad_(True)
        with torch.no_grad():
            layer.weight.mul_(scale)
            layer.bias.sub_(layer.weight @ mean)
    return made


def probed(model: nn.Module, target: Data, classes: int, recipe: Recipe, run: Run) -> nn.Module:
    """A linear probe: a copy of the model with a new head, and nothing else, trained on the target.

    Returns:
        The copy, in eval mode.

    Raises:
        ValueError: If the model has no head that could be replaced.
    """
    (new,) = heads([features(model, target)], classes, recipe, run)
    return with_head(model, head(model, target), new).eval()


def tuned(
    model: nn.Module,
    target: Data,
    classes: int,
    recipe: Recipe,
    run: Run,
    *,
    sparse: bool = False,
) -> nn.Module:
    """Full fine-tuning: a copy of the model with a new head, all of it trained on the target.

    Args:
        model: Is left as it is.
        target: The target's training data.
        classes: How many the target has.
        recipe: How to train.
        run: Where; its seed decides the new head's first weights and the order of the data.
        sparse: Whether prunable weights that are zero are to stay zero.

    Returns:
        The fine-tuned copy, in eval mode.

    Raises:
        ValueError: If the model has no head that could be replaced.
    """
    name = head(model, target)
    wide = model.get_submodule(name).get_parameter("weight").shape[1]
    with seeded(derive(run.seed, "head")):
        copied = with_head(model, name, nn.Linear(wide, classes)).to(run.device)
    mask = Mask.of(copied) if sparse else None
    own = replace(run, seed=derive(run.seed, "order"), mask=mask, beside=None)
    with seeded(derive(run.seed, "training")):
        return fit(copied, target.to(run.device), recipe, own)


# --- Whether the target fits --------------------------------------------------------------------


def check_target(source: Data, target: Data) -> None:
    """See that a target has training data, and that its inputs are such as the source's.

    Raises:
        ValueError: If there are none, all are of one class, or the shapes differ.
    """
    if len(target) == 0:
        raise ValueError("The target has no training data: there is nothing to transfer to.")
    if len(target.labels.unique()) < 2:
        raise ValueError(
            f"All {len(target)} training examples of the target are of class "
            f"{int(target.labels[0])}: give examples of two classes or more."
        )
    shapes = [
        tuple(next(data.take(torch.arange(1)).batches(1)).inputs.shape[1:])
        for data in (source, target)
    ]
    if shapes[0] == shapes[1]:
        return
    mine, others = ("×".join(map(str, shape)) for shape in shapes)
    advice = "give data of the source's shape"
    if len(shapes[0]) == len(shapes[1]) == 3 and shapes[0][1] == shapes[0][2]:
        advice = (
            f'resize it: target = {{name = "part", of = {{...}}, size = {shapes[0][1]}, '
            f"channels = {shapes[0][0]}}}"
        )
    raise ValueError(
        f"The target's inputs are {others}, those of the source {mine} "
        f"({math.prod(shapes[0])} numbers): {advice}."
    )
