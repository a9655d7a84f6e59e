"""Slow truths: what fast code must agree with, one example and one number at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def crop_and_flip(image: Tensor, down: int, right: int, padding: int, flip: bool) -> Tensor:
    """One image, padded with zeros, cut out at (down, right), and mirrored, pixel by pixel."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                row = i + down - padding
                column = (width - 1 - j if flip else j) + right - padding
                if 0 <= row < height and 0 <= column < width:
                    out[c, i, j] = image[c, row, column]
    return out


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """The mean of log Σ_c exp(z_c) − z_y, one example at a time."""
    total = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        most = max(row)
        total += most + math.log(sum(math.exp(z - most) for z in row)) - row[label]
    return total / len(labels)


def percent_right(logits: Tensor, labels: Tensor) -> float:
    """The share of examples whose first largest logit is the true class's, in percent."""
    rows = logits.tolist()
    right = sum(
        row.index(max(row)) == label for row, label in zip(rows, labels.tolist(), strict=True)
    )
    return 100 * right / len(rows)


def gradient(model: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """∇ of the mean cross-entropy: the mean of one gradient per example, each taken alone."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, y in zip(inputs, labels, strict=True):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        alone = torch.autograd.grad(loss, list(model.parameters()))
        for name, part in zip(total, alone, strict=True):
            total[name] += part / len(labels)
    return total


class SGD:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013), spelled out.

    v ← μ v + g + λ θ;  θ ← θ − η v, or θ ← θ − η (g + λ θ + μ v) with Nesterov's look ahead.
    """

    def __init__(self, momentum: float, decay: float, nesterov: bool) -> None:
        self.momentum, self.decay, self.nesterov = momentum, decay, nesterov
        self.velocity: dict[int, Tensor] = {}

    def __call__(self, index: int, weight: Tensor, slope: Tensor, rate: float) -> Tensor:
        slope = slope + self.decay * weight
        before = self.velocity.get(index)
        self.velocity[index] = slope if before is None else self.momentum * before + slope
        ahead = slope + self.momentum * self.velocity[index]
        return weight - rate * (ahead if self.nesterov else self.velocity[index])


class Adam:
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019), spelled out.

    m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) g²;  θ ← θ − η m̂ / (√v̂ + ε); the decay is part of g,
    or, decoupled, θ ← θ − η λ θ beforehand.
    """

    def __init__(self, decay: float, decoupled: bool) -> None:
        self.decay, self.decoupled = decay, decoupled
        self.state: dict[int, tuple[Tensor, Tensor, int]] = {}

    def __call__(self, index: int, weight: Tensor, slope: Tensor, rate: float) -> Tensor:
        if self.decoupled:
            weight = weight - rate * self.decay * weight
        else:
            slope = slope + self.decay * weight
        zero = torch.zeros_like(weight)
        first, second, t = self.state.get(index, (zero, zero, 0))
        first, second, t = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2, t + 1
        self.state[index] = first, second, t
        return weight - rate * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)


def rates(schedule: str, top: float, epochs: int, steps: int) -> list[float]:
    """The learning rate of every step: milestones at ½ and ¾ of the epochs, factor 0.1."""
    total = epochs * steps

    def rate(t: int) -> float:
        if schedule == "step":
            return top * 0.1 ** sum(t // steps >= round(m * epochs) for m in (0.5, 0.75))
        if schedule == "cosine":
            return top * (1 + math.cos(math.pi * t / total)) / 2
        return top

    return [rate(t) for t in range(total)]


def train(
    model: nn.Module,
    passes: Iterable[Iterable[tuple[Tensor, Tensor, float]]],
    update: SGD | Adam,
    rates: Iterable[float],
    after: Callable[[nn.Module], None] = lambda model: None,
) -> nn.Module:
    """The bare loop: for every batch the gradient, then the update of every weight by hand."""
    rate = iter(rates)
    for batches in passes:
        model.train()
        for inputs, labels, _ in batches:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            slopes = torch.autograd.grad(loss, list(model.parameters()))
            now = next(rate)
            with torch.no_grad():
                for index, (weight, slope) in enumerate(
                    zip(model.parameters(), slopes, strict=True)
                ):
                    weight.copy_(update(index, weight, slope, now))
        after(model.eval())
    return model
