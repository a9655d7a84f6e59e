"""Networks that use their parameters in unusual ways."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torchvision.models import VisionTransformer


class Net(nn.Module):
    """A function, and the layers and bare parameters that it uses."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.work = forward
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(torch.zeros(part)) if type(part) is tuple else part)

    def forward(self, x: Tensor) -> Tensor:
        return self.work(self, x)


class Square(torch.autograd.Function):
    """x w², with a gradient of its own."""

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return x * w**2

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return slopes[0] * w**2, (slopes[0] * 2 * x * w).sum_to_size(w.shape)


class Case(NamedTuple):
    """A network, the shape of an example, and the parameters that one pass cannot do."""

    network: nn.Module
    shape: tuple[int, ...]
    slow: set[str]

    def copy(self) -> nn.Module:
        return copy.deepcopy(self.network)


NETWORKS: dict[str, Case] = {}


def add(name: str, shape: tuple[int, ...], network: nn.Module, *slow: str) -> None:
    """Put a network into the table; `all` stands for all its parameters."""
    own = {name for name, p in network.named_parameters() if p.requires_grad}
    NETWORKS[name] = Case(network, shape, own if slow == ("all",) else set(slow))


def net(name: str, shape: tuple[int, ...], *slow: str, **parts: Any) -> Callable[[Any], Any]:
    """The decorated function is what a network of these parts does."""

    def decorate(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
        add(name, shape, Net(forward, **parts), *slow)
        return forward

    return decorate


# --- Parameters that are used by hand -----------------------------------------------------------


@net(
    "by hand",
    (3, 6),
    "one",
    token=(1, 1, 6),
    positions=(1, 4, 6),
    scale=(),
    weight=(6, 3),
    bias=(3,),
    all=(1, 1, 3),
    one=(1,),
    gain=(3,),
)
def by_hand(net: Any, x: Tensor) -> Tensor:
    """A class token, positions, scales of several shapes; 2 + w has no examples."""
    tokens = torch.cat([net.token.expand(len(x), -1, -1), x * net.scale], 1) + net.positions
    h = (tokens @ net.weight + net.bias).tanh() * net.all
    return (h / (2 + net.one)).mean(1).mul(net.gain)


@net("einsum", (4, 6), "w", line=nn.Linear(6, 3), w=(3, 4))
def einsum(net: Any, x: Tensor) -> Tensor:
    return torch.einsum("btc,ck->bk", net.line(x), net.w)


@net("addmm", (6,), "w", "bias", line=nn.Linear(6, 3), w=(3, 4), bias=(4,))
def addmm(net: Any, x: Tensor) -> Tensor:
    return torch.addmm(net.bias, net.line(x), net.w)


@net("parameter as input", (3,), "all", line=nn.Linear(6, 3), w=(4, 6))
def parameter_as_input(net: Any, x: Tensor) -> Tensor:
    return x @ net.line(net.w).T


@net("own function", (6,), "w", line=nn.Linear(6, 3), w=(3,))
def own_function(net: Any, x: Tensor) -> Tensor:
    return Square.apply(net.line(x), net.w)  # pyright: ignore[reportReturnType]


@net("unused", (6,), line=nn.Linear(6, 3), other=nn.Linear(6, 3), w=(3,))
def unused(net: Any, x: Tensor) -> Tensor:
    return net.line(x)


@net("computed in vain", (6,), line=nn.Linear(6, 3), other=nn.Linear(6, 3), w=(3,))
def computed_in_vain(net: Any, x: Tensor) -> Tensor:
    net.other(x).mul_(net.w)
    return net.line(x)


# --- Layers that are used several times ---------------------------------------------------------


@net("twice", (6,), line=nn.Linear(6, 6), last=nn.Linear(6, 3))
def twice(net: Any, x: Tensor) -> Tensor:
    return net.last(net.line(net.line(x).tanh()))


@net("twice, at other positions", (4, 6), line=nn.Linear(6, 3))
def twice_apart(net: Any, x: Tensor) -> Tensor:
    return net.line(x).sum(1) + net.line(x[:, 0])


@net("layer and by hand", (6,), "line.weight", line=nn.Linear(6, 3))
def layer_and_by_hand(net: Any, x: Tensor) -> Tensor:
    return net.line(x) + F.linear(x, net.line.weight.square())


@net("recurrent", (4, 6), inner=nn.Linear(6, 5), outer=nn.Linear(5, 5), last=nn.Linear(5, 3))
def recurrent(net: Any, x: Tensor) -> Tensor:
    state = x.new_zeros(len(x), 5)
    for step in x.unbind(1):
        state = (net.inner(step) + net.outer(state)).tanh()
    return net.last(state)


# --- Where the examples are ---------------------------------------------------------------------


@net(
    "windows",
    (2, 6, 6),
    conv=nn.Conv2d(2, 3, 2),
    norm=nn.BatchNorm2d(3),
    line=nn.Linear(12, 2),
    last=nn.Linear(8, 3),
)
def windows(net: Any, x: Tensor) -> Tensor:
    """Four quarters of each image, as so many images."""
    quarters = x.unflatten(2, (2, 3)).unflatten(4, (2, 3)).permute(0, 2, 4, 1, 3, 5)
    seen = net.norm(net.conv(quarters.flatten(0, 2))).tanh()
    return net.last(net.line(seen.flatten(1)).view(len(x), -1))


@net("time first, two steps", (2, 6), "all", line=nn.Linear(6, 3))
@net("time first, four steps", (4, 6), "all", line=nn.Linear(6, 3))
def time_first(net: Any, x: Tensor) -> Tensor:
    return net.line(x.transpose(0, 1)).tanh().sum(0)


@net("mixed by the mean", (6,), "all", line=nn.Linear(6, 3))
def mixed(net: Any, x: Tensor) -> Tensor:
    return net.line(x - x.mean(0)) + net.line(x)


add(
    "mixed by BatchNorm",
    (2, 3, 3),
    nn.Sequential(
        nn.Conv2d(2, 3, 2, bias=False),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.Flatten(),
        nn.Linear(12, 3),
    ),
    "all",
)


@net("branch", (6,), "all", line=nn.Linear(6, 3))
def branch(net: Any, x: Tensor) -> Tensor:
    return torch.stack([net.line(row if float(row.sum()) > 0 else 2 * row) for row in x])


@net("experts", (6,), "all", one=nn.Linear(6, 3), two=nn.Linear(6, 3))
def experts(net: Any, x: Tensor) -> Tensor:
    """The sign of the first number decides which layer is used."""
    out, first = x.new_zeros(len(x), 3), x[:, 0] > 0
    for layer, rows in ((net.one, first), (net.two, ~first)):
        if rows.any():
            out[rows] = layer(x[rows])
    return out


# --- Memory -------------------------------------------------------------------------------------


@net("in place", (6,), one=nn.Linear(6, 6), norm=nn.BatchNorm1d(6), two=nn.Linear(6, 3), bias=(6,))
def in_place(net: Any, x: Tensor) -> Tensor:
    h = net.one(x)
    shortcut = h * 2
    h = net.norm(h)
    h += shortcut
    return net.two(h.add_(net.bias).relu_()).relu_()


def forgetful(net: Any, x: Tensor) -> Tensor:
    """Changes what a layer took, as it may where that layer's weight is frozen."""
    h = net.norm(x)
    out = net.line(h)
    h.zero_()
    return out


_forgetful = Net(forgetful, norm=nn.LayerNorm(6), line=nn.Linear(6, 3))
_forgetful.get_parameter("line.weight").requires_grad_(False)
add("input changed in place", (6,), _forgetful, "all")


@net("viewed", (2, 6, 6), conv=nn.Conv2d(2, 4, 3), line=nn.Linear(16, 3))
def viewed(net: Any, x: Tensor) -> Tensor:
    """`view` minds how images lie in memory."""
    h = F.max_pool2d(net.conv(x).tanh(), 2)
    return net.line(h.view(h.size(0), -1))


# --- Layers that consist of others --------------------------------------------------------------

HEADS = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")


@net("attention", (4, 6), attend=nn.MultiheadAttention(6, 2, batch_first=True))
def attention(net: Any, x: Tensor) -> Tensor:
    return net.attend(x, x, x, need_weights=False)[0].sum(1)


@net("attention, time first", (4, 6), attend=nn.MultiheadAttention(6, 2))
def attention_time_first(net: Any, x: Tensor) -> Tensor:
    tokens = x.transpose(0, 1)
    return net.attend(tokens, tokens, tokens, need_weights=False)[0].sum(0)


@net(
    "attention with its weights",
    (4, 6),
    *(f"attend.{name}" for name in HEADS),
    attend=nn.MultiheadAttention(6, 2, batch_first=True),
)
def attention_with_weights(net: Any, x: Tensor) -> Tensor:
    return net.attend(x, x, x)[0].sum(1)


@net(
    "LSTM",
    (5, 6),
    *(f"cells.{kind}_{of}_l0" for kind in ("weight", "bias") for of in ("ih", "hh")),
    cells=nn.LSTM(6, 4, batch_first=True),
    last=nn.Linear(4, 3),
)
def lstm(net: Any, x: Tensor) -> Tensor:
    return net.last(net.cells(x)[0][:, -1])


add(
    "encoder",
    (4, 6),
    nn.Sequential(
        nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(24, 3)
    ),
)
add(
    "weight norm",
    (6,),
    nn.Sequential(nn.Linear(6, 4), nn.Tanh(), weight_norm(nn.Linear(4, 3))),
    *(f"2.parametrizations.weight.original{i}" for i in (0, 1)),
)
add("ViT", (3, 8, 8), VisionTransformer(8, 4, 2, 2, 8, 12, num_classes=3))
