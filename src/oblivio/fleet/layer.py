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
Shape = tuple[int, ...]


def stacked(layers: Sequence[nn.Module], name: str, order: Shape = ()) -> nn.Parameter | None:
    """A parameter of all layers, the models counted first.

    Args:
        layers: One of each model.
        name: The parameter's.
        order: How its dimensions lie in memory. If that is as the product takes and gives them, its
            gradient needs no transposing copy.

    Returns:
        The parameter; None if the layers have none.
    """
    first = getattr(layers[0], name)
    if first is None:
        return None
    values = torch.stack([getattr(layer, name).detach() for layer in layers])
    if order:
        back = sorted(range(len(order)), key=order.__getitem__)
        values = values.permute(order).contiguous().permute(back)
    return nn.Parameter(values, first.requires_grad)


def product(rows: Values, weight: Values, bias: Values | None) -> Values:
    """Each model's rows times its weight, (K, r, i) by (K, i, o), plus its bias."""
    if bias is None:
        return torch.bmm(rows, weight)
    return torch.baddbmm(bias.unsqueeze(1), rows, weight)


class Linears(nn.Module):
    """Linear layers."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.register_parameter("weight", stacked(layers, "weight", (0, 2, 1)))
        self.register_parameter("bias", stacked(layers, "bias"))

    def forward(self, x: Values) -> Values:
        """Rows, or rows of rows."""
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        y = product(rows, self.weight.transpose(1, 2), self.bias)
        return y.view(*x.shape[:-1], -1)


class Convolutions(nn.Module):
    """Two-dimensional convolutions, as products of the windows under the kernel with its weights.

    The images go through with their channels last in memory. A single convolution with K groups
    would be the other way; on a CPU it is slower than K convolutions.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.register_parameter("weight", stacked(layers, "weight", (0, 3, 4, 2, 1)))
        self.register_parameter("bias", stacked(layers, "bias"))
        one = layers[0]
        self.geometry = (one.kernel_size, one.stride, one.padding, one.dilation)

    def forward(self, x: Values) -> Values:
        """Images."""
        weight = self.weight.permute(0, 3, 4, 2, 1).flatten(1, 3)
        windows: Any = Windows.apply(x.permute(0, 2, 3, 1), *self.geometry)
        rows = windows.reshape(len(weight), -1, weight.shape[1])
        y = product(rows, weight, self.bias)
        return y.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)


class Windows(torch.autograd.Function):
    """What stands under the kernel at each of its places: (n, h, w, c) to (n, h', w', k k c)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Shape, stride: Shape, pad: Shape, step: Shape) -> Any:
        """Copy the windows out of the padded images."""
        x = F.pad(x, (0, 0, pad[1], pad[1], pad[0], pad[0])).contiguous()
        places = [(x.shape[1 + d] - step[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in (0, 1)]
        ctx.shape, ctx.pad = x.shape, pad
        ctx.size = (len(x), *places, *kernel, x.shape[3])
        a, b, c, d = x.stride()
        ctx.stride = (a, b * stride[0], c * stride[1], b * step[0], c * step[1], d)
        return x.as_strided(ctx.size, ctx.stride).reshape(*ctx.size[:3], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Each pixel's gradient is the sum over the windows that it stands in."""
        given = gradients[0].reshape(ctx.size)
        found = given.new_zeros(ctx.shape)
        for i in range(ctx.size[3]):
            for j in range(ctx.size[4]):
                start = i * ctx.stride[3] + j * ctx.stride[4]
                places = (*ctx.size[:3], ctx.size[5]), (*ctx.stride[:3], ctx.stride[5]), start
                found.as_strided(*places).add_(given[:, :, :, i, j])
        top, left = ctx.pad
        inside = found[:, top : ctx.shape[1] - top, left : ctx.shape[2] - left]
        return inside, None, None, None, None


class Normalisations(nn.Module):
    """BatchNorm layers: each model's channels by the statistics of its own batch."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layers: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> None:
        super().__init__()
        self.register_parameter("weight", stacked(layers, "weight"))
        self.register_parameter("bias", stacked(layers, "bias"))
        for name, _ in layers[0].named_buffers():
            self.register_buffer(name, torch.stack([layer.get_buffer(name) for layer in layers]))
        self.eps, self.momentum = layers[0].eps, cast(float, layers[0].momentum)

    def forward(self, x: Values) -> Values:
        """Rows or images."""
        last = x.movedim(1, -1)
        rows = last.reshape(len(self.running_mean), -1, x.shape[1])
        rows = rows.to(torch.promote_types(rows.dtype, self.running_mean.dtype))
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = self._of_batch(rows)
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        y = (rows - mean.unsqueeze(1)) * scale.unsqueeze(1)
        if self.bias is not None:
            y = y + self.bias.unsqueeze(1)
        return y.to(x.dtype).view(last.shape).movedim(-1, 1)

    def _of_batch(self, rows: Values) -> tuple[Tensor, Tensor]:
        """Mean and variance of each model's rows; the running ones move towards them."""
        n = rows.shape[1]
        if n == 1:
            raise ValueError("BatchNorm needs more than one value per channel to train.")
        mean = rows.mean(1)
        var = (rows - mean.unsqueeze(1)).square().mean(1)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (n / (n - 1)), self.momentum)
        return mean, var


def plain(layer: nn.Module) -> bool:
    """Whether a layer with weights is one that can be packed, with such settings as are known."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding != "same"
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
