"""Influence unlearning's solve against WoodFisher's recursion, one example at a time.

Both solve (λI + (1/m) Σ g_k g_kᵀ) x = v for the same network, examples and v, on one thread, from
the weights on: the gradients are part of the work. The recursion is Singh and Alistarh's (2020,
equation 10) without its p × p matrix: o_k = F_{k−1}⁻¹ g_k is kept for every example, so that a step
costs two products of a matrix with a vector. It is timed once, ours is the median of five.
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Row, seconds
from oblivio import Arrays
from oblivio.curvature.gradients import mean_gradient
from oblivio.curvature.gram import solve
from oblivio.methods.influence import Influence
from oblivio.models.cnn import CNN

DAMPING = Influence().damping


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One example's."""
    parts = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def recursion(model: nn.Module, data: Arrays, v: Tensor) -> Tensor:
    """F_k⁻¹ = F_{k−1}⁻¹ − o_k o_kᵀ / (m + g_kᵀ o_k), F_0⁻¹ = I / λ, applied to vectors only."""
    m = len(data)
    o, scale = v.new_empty(m, len(v)), v.new_empty(m)
    for k in range(m):
        g = gradient(model, data.inputs[k : k + 1], data.labels[k : k + 1])
        o[k] = g / DAMPING - o[:k].T @ ((o[:k] @ g) / scale[:k])
        scale[k] = m + g @ o[k]
    return v / DAMPING - o.T @ ((o @ v) / scale)


def case(m: int, dtype: torch.dtype) -> tuple[nn.Module, Arrays, Tensor]:
    """A network of 105,914 weights after ten steps, examples, and the gradient over others."""
    torch.manual_seed(0)
    model = CNN((16, 32), 64)((1, 28, 28), 10)
    labels = torch.randint(10, (m + 100,))
    inputs = torch.randn(10, 1, 28, 28)[labels] + 2 * torch.randn(m + 100, 1, 28, 28)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    model.to(dtype).eval()
    data = Arrays(inputs.to(dtype), labels)
    v = mean_gradient(model, data.take(torch.arange(m, m + 100))).to(dtype)
    return model, data.take(torch.arange(m)), v


def difference(m: int, dtype: torch.dtype) -> float:
    """How far the two solutions are apart, relative to their length."""
    model, data, v = case(m, dtype)
    ours, theirs = solve(model, [data], v, DAMPING), recursion(model, data, v).double()
    return float((ours - theirs).norm() / theirs.norm())


def rows() -> list[Row]:
    model, data, v = case(1000, torch.float32)
    found: list[Tensor] = []
    slow = seconds(lambda: found.append(recursion(model, data, v).double()))
    solve(model, [data], v, DAMPING)
    fast = statistics.median(
        seconds(lambda: found.append(solve(model, [data], v, DAMPING))) for _ in range(5)
    )
    single = float((found[1] - found[0]).norm() / found[0].norm())
    double = difference(200, torch.float64)
    what = "influence, 105,914 weights, "
    return [
        {
            "what": f"{what}1,000 examples: faster than WoodFisher's recursion ({slow:.0f} s "
            f"against {fast:.2f} s)",
            "value": f"{slow / fast:.0f}×",
            "aim": "≥ 10×",
            "ok": slow / fast >= 10,
        },
        {
            "what": f"{what}1,000 examples: relative difference in float32",
            "value": f"{single:.1e}",
            "aim": "≤ 1e-4",
            "ok": single <= 1e-4,
        },
        {
            "what": f"{what}200 examples: relative difference in float64",
            "value": f"{double:.1e}",
            "aim": "≤ 1e-10",
            "ok": double <= 1e-10,
        },
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in rows():
        print(f"{row['what']}: {row['value']} (aim {row['aim']}) {'✓' if row['ok'] else '✗'}")
