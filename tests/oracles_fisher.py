"""Slow truths about curvature: dense Hessians, and one gradient at a time, in float64."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence
from typing import get_args

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Batch, Run
from oblivio.curvature import moment
from oblivio.curvature.fisher import diagonal, sensitivity
from oblivio.curvature.gradients import at_rest
from oblivio.curvature.moment import MEMORY
from oblivio.curvature.rule import Measure
from oblivio.data.arrays import Arrays
from oblivio.mask import Mask
from oblivio.train import Loss


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


def unsettled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64 and eval mode, where no weight or statistic is anything special."""
    draw = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.5, generator=draw)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(generator=draw)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=draw)
    return model


def examples(shape: Sequence[int], n: int = 7, *, tokens: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs, which are whole numbers below `tokens` if there are any, and labels."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, generator=draw, dtype=torch.float64)
    if tokens:
        x = torch.randint(tokens, (n, *shape), generator=draw)
    return x, torch.arange(n) % 3


def apart(model: nn.Module, x: Tensor, y: Tensor) -> set[str]:
    """The parameters that are not taken from a single pass."""
    route = moment._route(at_rest(model), x, y, F.cross_entropy)
    return {name for name, p in model.named_parameters() if p.requires_grad} - set(route)


def moments(
    model: nn.Module, inputs: Tensor, labels: Tensor, loss: Loss, measure: Measure
) -> dict[str, Tensor]:
    """Σ_i g_i² or Σ_i |g_i|: a loop over single examples, in the model's own type."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    weights = [model.get_parameter(name) for name in total]
    for x, y in zip(inputs, labels, strict=True):
        value = loss(model(x[None]), y[None])
        slopes = torch.autograd.grad(value, weights, materialize_grads=True)
        for name, slope in zip(total, slopes, strict=True):
            total[name] += slope**2 if measure == "square" else slope.abs()
    return total


def assert_moments(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    loss: Loss = F.cross_entropy,
    *,
    chunks: Sequence[int] = (1, 3, 100),
    error: float = 1e-10,
    memory: int = MEMORY,
) -> None:
    """The package's sums are those of a loop, relative to the largest number of a parameter."""
    for measure in get_args(Measure):
        expected = moments(model, inputs, labels, loss, measure)
        for size in chunks:
            pairs = zip(inputs.split(size), labels.split(size), strict=True)
            found = moment.moments(
                model, [Batch(x, y, 1.0) for x, y in pairs], loss, measure, memory
            )
            assert list(found) == list(expected)
            for name, values in expected.items():
                assert found[name].dtype == torch.float64
                assert found[name].shape == values.shape
                worst = float((found[name] - values).abs().max())
                assert worst <= error * float(values.abs().max()), (name, measure, size, worst)


def small(n: int) -> tuple[nn.Module, Arrays]:
    """A network with convolution and BatchNorm, in float64, and examples."""
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 3))
    return unsettled(network), Arrays(*examples((2, 3, 3), n))


def diagonals_in_process(fabric: Fabric, sizes: list[int]) -> list[list[list[float]]]:
    """In one of several processes: for every number of examples, the diagonals it is told."""
    torch.set_num_threads(1)
    found = []
    for n in sizes:
        model, data = small(n)
        kinds = (
            diagonal(model, data, run=Run(fabric), chunk=3),
            sensitivity(model, data, run=Run(fabric)),
        )
        found.append(
            [torch.cat([part.flatten() for part in kind.values()]).tolist() for kind in kinds]
        )
    fabric.barrier()  # who exits while another still talks to it may abort
    gc.collect()
    torch.distributed.destroy_process_group()
    return found
