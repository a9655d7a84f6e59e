"""Slow truths for influence unlearning, in float64: dense matrices, one example at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oblivio.data.arrays import Arrays
from oblivio.train import Loss


def per_example(model: nn.Module, data: Arrays, loss: Loss) -> Tensor:
    """One gradient per row, from one forward and one backward pass per example."""
    rows = []
    for x, y in zip(data.inputs, data.labels, strict=True):
        slopes = torch.autograd.grad(loss(model(x[None]), y[None]), list(model.parameters()))
        rows.append(torch.cat([slope.flatten() for slope in slopes]))
    return torch.stack(rows)


def fisher(gradients: Tensor, damping: float) -> Tensor:
    """λI + (1/m) Σ g gᵀ, dense."""
    dense = damping * torch.eye(gradients.shape[1], dtype=torch.float64)
    for g in gradients.double():
        dense += torch.outer(g, g) / len(gradients)
    return dense


def gauss_newton(model: nn.Module, data: Arrays, damping: float) -> Tensor:
    """λI + (1/m) Σ_i J_iᵀ (diag(p_i) − p_i p_iᵀ) J_i for the cross-entropy, dense."""
    parameters = list(model.parameters())
    size = sum(p.numel() for p in parameters)
    dense = damping * torch.eye(size, dtype=torch.float64)
    for x in data.inputs:
        logits = model(x[None])[0]
        jacobian = torch.stack(
            [
                torch.cat(
                    [s.flatten() for s in torch.autograd.grad(z, parameters, retain_graph=True)]
                )
                for z in logits
            ]
        )
        p = logits.detach().softmax(0)
        dense += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian / len(data)
    return dense


def wood_fisher(gradients: Tensor, damping: float) -> Tensor:
    """F_m⁻¹ by the Sherman–Morrison formula, one example after the other.

    F_k⁻¹ = F_{k−1}⁻¹ − F_{k−1}⁻¹ g_k g_kᵀ F_{k−1}⁻¹ / (m + g_kᵀ F_{k−1}⁻¹ g_k), F_0⁻¹ = I / λ.

    Source: Singh and Alistarh 2020, equation 10.
    """
    m, inverse = len(gradients), torch.eye(gradients.shape[1], dtype=torch.float64) / damping
    for g in gradients.double():
        o = inverse @ g
        inverse = inverse - torch.outer(o, o) / (m + g @ o)
    return inverse


def ridge(inputs: Tensor, targets: Tensor, decay: float) -> Tensor:
    """The minimum of (1/n) Σ ½‖W x − y‖² + ½ λ ‖W‖², classes × features."""
    n, features = inputs.shape
    dense = inputs.T @ inputs / n + decay * torch.eye(features, dtype=torch.float64)
    return torch.linalg.solve(dense, inputs.T @ targets / n).T


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """½‖z − e_y‖², a mean over the examples."""
    truth = nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return (logits - truth).square().sum(1).mean() / 2


def logits_one_by_one(classes: int) -> Sequence[Loss]:
    """Columns whose Gauss–Newton matrix is the squared error's: L = I."""

    def column(c: int) -> Loss:
        return lambda logits, labels: logits[:, c].mean()

    return [column(c) for c in range(classes)]
