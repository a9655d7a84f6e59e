"""Layers of many networks as one: weights with a leading dimension that counts the models.

A packed network is fed the models' batches one below another: K·b rows, of which the k-th b are the
k-th model's. What has no weights works example by example, and stays as it is; a layer with weights
takes each model's rows by that model's weights, all in one batched product:

    y_k = x_k W_kᵀ + b_k,  k = 1 … K

What a row becomes depends on one model's weights only. So the gradient of the summed losses is, in
each model's weights, the gradient of its own loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Values = Float[Tensor, "..."]


def stack(layers: Sequence[nn.Module], into: nn.Module) -> None:
    """Give a layer the parameters and buffers of many, the models counted first."""
    for name, value in layers[0]._parameters.items():
        parameter = None
        if value is not None:
            values = torch.stack([layer.get_parameter(name).detach() for layer in layers])
            parameter = nn.Parameter(values, value.requires_grad)
        into.register_parameter(name, parameter)
    for name, _ in layers[0].named_buffers():
        into.register_buffer(name, torch.stack([layer.get_buffer(name) for layer in layers]))


def lowered(x: Values, *others: Values | None) -> Any:
    """The same in the precision that autocast asks for, which does not reach into a Function."""
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return x, *others
    dtype = torch.get_autocast_dtype(device)
    return [None if value is None else value.to(dtype) for value in (x, *others)]


def product(x: Values, weight: Values, bias: Values | None) -> Values:
    """(K, r, i) by (K, o, i), plus (K, o): each model's rows by its weights."""
    if bias is None:
        return torch.bmm(x, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


class Linears(nn.Module):
    """Linear layers."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        stack(layers, self)

    def forward(self, x: Values) -> Values:
        """Rows, or rows of rows."""
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        y = cast(Tensor, Linear.apply(*lowered(rows, self.weight, self.bias)))
        return y.view(*x.shape[:-1], -1)


class Linear(torch.autograd.Function):
    """y_k = x_k W_kᵀ + b_k; autograd would leave the gradient of W_k transposed in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Of all models."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """∂x = ∂y W, ∂W = ∂yᵀ x, ∂b = Σ ∂y."""
        (g,), (x, weight), needed = gradients, ctx.saved_tensors, ctx.needs_input_grad
        return (
            torch.bmm(g, weight) if needed[0] else None,
            torch.bmm(g.mT, x) if needed[1] else None,
            g.sum(1) if needed[2] else None,
        )


class Convolutions(nn.Module):
    """Two-dimensional convolutions.

    On a CPU they are made one after another, with the channels last in memory: as one convolution
    with K times as many groups, or as a product with the windows under the kernel, all at once
    takes longer.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        stack(layers, self)
        one = layers[0]
        self.settings: Any = (one.stride, one.padding, one.dilation)

    def forward(self, x: Values) -> Values:
        """Images."""
        count, bias = len(self.weight), self.bias
        if x.device.type == "cpu":
            images = x.contiguous(memory_format=torch.channels_last).chunk(count)
            biases = [None] * count if bias is None else bias.unbind()
            each = zip(images, self.weight.unbind(), biases, strict=True)
            return torch.cat([F.conv2d(*values, *self.settings) for values in each])
        images = x.unflatten(0, (count, -1)).transpose(0, 1).flatten(1, 2)
        flat = None if bias is None else bias.flatten()
        y = F.conv2d(images, self.weight.flatten(0, 1), flat, *self.settings, groups=count)
        return y.unflatten(1, (count, -1)).transpose(0, 1).flatten(0, 1)


class Normalisations(nn.Module):
    """BatchNorm layers: each model's channels by the statistics of its own batch."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layers: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> None:
        super().__init__()
        stack(layers, self)
        self.eps, self.momentum = layers[0].eps, cast(float, layers[0].momentum)

    def forward(self, x: Values) -> Values:
        """Rows or images."""
        last = x.movedim(1, -1)
        rows = last.reshape(len(self.running_mean), -1, x.shape[1]).to(self.running_mean.dtype)
        weight = torch.ones_like(self.running_mean) if self.weight is None else self.weight
        bias = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        if self.training:
            y, mean, var = cast(Any, Normalisation.apply(rows, weight, bias, self.eps))
            self._remember(mean, var, rows.shape[1])
        else:
            scale = weight * (self.running_var + self.eps).rsqrt()
            shift = bias - self.running_mean * scale
            y = torch.addcmul(shift.unsqueeze(1), rows, scale.unsqueeze(1))
        return y.to(x.dtype).view(last.shape).movedim(-1, 1)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, n: int) -> None:
        """Move the running statistics towards those of a batch of n values each."""
        if n == 1:
            raise ValueError("BatchNorm needs more than one value per channel to train.")
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (n / (n - 1)), self.momentum)


class Normalisation(torch.autograd.Function):
    """y = w z + b, z = (x − μ) / s, s = √(σ² + ε): mean and variance over each model's rows.

    ∂w = Σ z ∂y, ∂b = Σ ∂y, ∂x = (w / s) (∂y − ∂b / r − z ∂w / r), with r rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:
        """Of (K, r, c), (K, c) and (K, c): y, and μ and σ² of shape (K, c)."""
        mean = x.mean(1)
        z = x - mean.unsqueeze(1)
        var = z.square().mean(1)
        inverse = (var + eps).rsqrt()
        ctx.save_for_backward(z.mul_(inverse.unsqueeze(1)), weight * inverse)
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(bias.unsqueeze(1), z, weight.unsqueeze(1)), mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The formulas."""
        g, (z, scale) = gradients[0], ctx.saved_tensors
        along, total, r = (g * z).sum(1), g.sum(1), g.shape[1]
        found = torch.addcmul((-scale * total / r).unsqueeze(1), g, scale.unsqueeze(1))
        found.addcmul_(z, (-scale * along / r).unsqueeze(1))
        return found, along, total, None


def plain(layer: nn.Module) -> bool:
    """Whether a layer with weights is one that can be packed, with such settings as are known."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros"
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.track_running_stats and layer.momentum is not None
    return True


PACKED: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Linear: Linears,
    nn.Conv2d: Convolutions,
    nn.BatchNorm1d: Normalisations,
    nn.BatchNorm2d: Normalisations,
}
"""What stands for many layers of a type, and of no type derived from it."""
