"""Slow truths about curvature: dense Hessians, and one gradient at a time, in float64."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.data.arrays import Arrays
from oblivio.mask import Mask


def hessian(model: nn.Module, data: Arrays, mask: Mask | None = None) -> Tensor:
    """The dense Hessian of the mean cross-entropy, row by row, then its kept rows and columns."""
    model = copy.deepcopy(model).eval().double()
    weights = dict(model.named_parameters())
    loss = F.cross_entropy(model(data.inputs.double()), data.labels)
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    rows = []
    for slope in torch.cat([s.flatten() for s in slopes]):
        row = torch.autograd.grad(slope, list(weights.values()), retain_graph=True)
        rows.append(torch.cat([r.flatten() for r in row]))
    keep = {} if mask is None else mask.keep
    kept = torch.cat([keep.get(n, torch.ones_like(w)).bool().flatten() for n, w in weights.items()])
    return torch.stack(rows)[kept][:, kept]


def fisher(model: nn.Module, data: Arrays, labels: Tensor) -> dict[str, Tensor]:
    """(1/n) Σ (∂ log p(y|x) / ∂w)²: one example at a time, its gradient squared, then averaged."""
    model = copy.deepcopy(model).eval().double()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    weights = [model.get_parameter(name) for name in total]
    for x, y in zip(data.inputs.double(), labels, strict=True):
        log_p = model(x[None]).log_softmax(1)[0, y]
        slopes = torch.autograd.grad(log_p, weights, materialize_grads=True)
        for name, slope in zip(total, slopes, strict=True):
            total[name] += slope**2 / len(labels)
    return total


def expected_fisher(model: nn.Module, data: Arrays) -> dict[str, Tensor]:
    """The mean over x and over y ~ p(y|x), every class with its probability."""
    model = copy.deepcopy(model).eval().double()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x in data.inputs.double():
        log_p = model(x[None]).log_softmax(1)[0]
        for one in log_p:
            slopes = torch.autograd.grad(one, list(model.parameters()), retain_graph=True)
            for name, slope in zip(total, slopes, strict=True):
                total[name] += one.detach().exp() * slope**2 / len(data)
    return total
