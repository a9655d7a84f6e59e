"""The one training loop: `fit`, and the `Recipe` it follows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
)

from oblivio.catalogue import unknown
from oblivio.choice import Chosen, frozen, restorer
from oblivio.core import Data, Progress, Run, convolves, derive, predict
from oblivio.data.arrays import batch_starts

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "step", "cosine", "one_cycle"]
Loss = Callable[[Float[Tensor, "b classes"], Int64[Tensor, " b"]], Float[Tensor, ""]]
AfterStep = Callable[[int, float], None]


@dataclass(frozen=True)
class Recipe:
    """How to train: optimiser, learning rate and its schedule, length, and batch size.

    A recipe can be called, `recipe(model, data, run)`, which is `fit` with cross-entropy.

    Args:
        epochs: Passes over the data.
        lr: The learning rate; with a schedule, its largest value.
        batch_size: Examples per step, over all processes together.
        optimizer: SGD with momentum, Adam, or AdamW.
        momentum: Of SGD.
        nesterov: Whether SGD looks ahead.
        weight_decay: The factor of ½‖θ‖², on all parameters.
        schedule: "step" multiplies by `gamma` at each of `milestones`; "cosine" falls to 0;
            "one_cycle" rises for 30 % of the steps, then falls (Smith 2018).
        milestones: As shares of the epochs; a half and three quarters stand for epochs 91 and 136
            of 182 (Jia et al. 2023).
        gamma: The factor of "step".
        augment: Whether the data's augmentation is used.

    Raises:
        ValueError: If a number is out of range, or there is no such optimiser or schedule.
    """

    epochs: int = 20
    lr: float = 0.1
    batch_size: int = 256
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: ScheduleName = "constant"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    augment: bool = True

    def __post_init__(self) -> None:
        for name, ok, range_ in (
            ("epochs", self.epochs >= 0, "0 or more"),
            ("lr", self.lr > 0, "above 0"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("gamma", self.gamma > 0, "above 0"),
            ("milestones", all(0 < m <= 1 for m in self.milestones), "shares from 0 to 1"),
        ):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} must be {range_}.")
        for name, kind in (("optimizer", OptimizerName), ("schedule", ScheduleName)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(unknown(name, getattr(self, name), get_args(kind)))

    def __call__(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """Train the model on the data; see `fit`."""
        return fit(model, data, self, run)


def fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    run: Run,
    *,
    loss: Loss = F.cross_entropy,
    stop: Callable[[float], bool] | None = None,
    after_step: AfterStep | None = None,
    validation: Data | None = None,
    only: Chosen | None = None,
    statistics: bool = True,
) -> nn.Module:
    """Train a model in place.

    Where the run has a mask, the weights that it removes are zero before the first step and after
    every one, whatever gradients, momentum and weight decay say. Likewise with `only`, all other
    weights are after every step what they were before the first, bit for bit.

    Args:
        model: Any module that gives one row of logits per example.
        data: What to train on.
        recipe: How.
        run: Where; its seed decides the order of the data and the augmentation.
        loss: Of logits and labels, a mean over the examples.
        stop: Hears the loss of every step, before it is taken, and may end the training there.
        after_step: Called after every step, before `only` and the mask are applied, with how many
            steps are taken and the learning rate of the last; may change the weights in place.
        validation: If given, the weights of the epoch with the best accuracy on it are kept (the
            earliest of equals), judged without augmentation.
        only: The weights that may change, by parameter name; None is all.
        statistics: Whether normalisation layers use the batch's statistics and update their running
            ones; if not, they stay in eval mode.

    Returns:
        The same module, in eval mode.

    Raises:
        FloatingPointError: If the loss is no longer a finite number at the end of an epoch.
        ValueError: If the run's mask or `only` does not fit the model, or nothing may change.
    """
    model.to(run.device).train()
    if not statistics:
        for module in model.modules():
            if isinstance(module, _NormBase):
                module.eval()
    with frozen(model, only):
        return _trained(model, data, recipe, run, loss, stop, after_step, validation, only)


def _trained(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    run: Run,
    loss: Loss,
    stop: Callable[[float], bool] | None,
    after_step: AfterStep | None,
    validation: Data | None,
    only: Chosen | None,
) -> nn.Module:
    """The loop, on a model that is in the mode it is to train in."""
    wide = convolves(model) if run.channels_last is None else run.channels_last
    if wide:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = _optimizer(recipe, model, run)
    schedule = _schedule(recipe, optimizer, len(batch_starts(len(data), recipe.batch_size)))
    learner: Any = torch.compile(model) if run.compile else model
    learner, stepper = run.fabric.setup(learner, optimizer)
    part = (run.fabric.global_rank, run.fabric.world_size)
    best = Best()
    hold = None if run.mask is None else run.mask.holder(model)
    if hold is not None:
        hold()
    if only is not None:
        hold = restorer(model, only, run.mask)
    taken = 0

    for epoch in range(recipe.epochs):
        seed = derive(run.seed, "epoch", epoch)
        value, share = torch.tensor(0.0), 1.0
        for inputs, labels, share in data.batches(
            recipe.batch_size, shuffle=seed, augment=recipe.augment, part=part
        ):
            inputs = inputs.to(run.device, non_blocking=True)
            if wide and inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            value = loss(learner(inputs), labels.to(run.device, non_blocking=True))
            if stop is not None and stop(_over_all(value, share, run)):
                return _finished(model, best)
            run.fabric.backward(value * share if part[1] > 1 else value)
            stepper.step()
            taken += 1
            if after_step is not None:
                after_step(taken, optimizer.param_groups[0]["lr"])
            if hold is not None:
                hold()
            stepper.zero_grad(set_to_none=True)
            schedule.step()
        last = _over_all(value, share, run)
        if not math.isfinite(last):
            raise FloatingPointError(
                f"The loss is {last} after epoch {epoch + 1} of {recipe.epochs}: the learning "
                f"rate {recipe.lr:g} is too high, or the data are not scaled."
            )
        run.tell(Progress(epoch + 1, recipe.epochs, last))
        if validation is not None:
            best.judge(model, validation, run)
    return _finished(model, best)


def count_steps(examples: int, recipe: Recipe) -> int:
    """How many steps a training on so many examples takes."""
    return recipe.epochs * len(batch_starts(examples, recipe.batch_size))


def _over_all(value: Tensor, share: float, run: Run) -> float:
    """The mean loss over the whole batch, of which this process may hold only a part."""
    value = value.detach()
    if run.fabric.world_size > 1:
        value = run.fabric.all_reduce(value * share, reduce_op="mean")  # pyright: ignore[reportAssignmentType]
    return float(value)


def _finished(model: nn.Module, best: Best) -> nn.Module:
    """The model with its best weights, laid out as usual, in eval mode."""
    if best.state is not None:
        model.load_state_dict(best.state)
    model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return model.eval()


@dataclass
class Best:
    """The weights of the epoch with the best validation accuracy so far."""

    accuracy: float = -1.0
    state: dict[str, Tensor] | None = None

    def judge(self, model: nn.Module, validation: Data, run: Run) -> None:
        """Keep the model's weights if they are better than any before, by the first process."""
        logits, truth = predict(model, validation)
        right = float((logits.argmax(1) == truth).double().mean())
        right = run.fabric.broadcast(right) if run.fabric.world_size > 1 else right
        if right > self.accuracy:
            self.accuracy, self.state = right, copy.deepcopy(model.state_dict())


def _optimizer(recipe: Recipe, model: nn.Module, run: Run) -> Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    # One fused kernel for all parameters, where the device and the types have one.
    fused = run.device.type in ("cpu", "cuda") and all(p.is_floating_point() for p in parameters)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    made = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return made(parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


def _schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The learning rate, set anew at every step; milestones fall on whole epochs."""
    total = max(1, recipe.epochs * steps)
    match recipe.schedule:
        case "step":
            at = [round(m * recipe.epochs) * steps for m in recipe.milestones]
            return MultiStepLR(optimizer, at, recipe.gamma)
        case "cosine":
            return CosineAnnealingLR(optimizer, total)
        case "one_cycle":
            return OneCycleLR(optimizer, recipe.lr, total_steps=total + 1, cycle_momentum=False)
        case _:
            return LambdaLR(optimizer, lambda _: 1.0)
