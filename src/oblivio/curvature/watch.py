"""Sees every use of a parameter while a model runs, and notes how its gradients come about.

Watching functions rather than modules makes no difference between a layer that is called twice, a
parameter that two layers share, and one that a model uses by hand. What is not known to `USES` is
left alone: its gradient then reaches the parameter itself, where it can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from oblivio.curvature.rule import (
    Affine,
    Convolution,
    Differentiated,
    Lookup,
    Merged,
    Outer,
    Rule,
    Scale,
    Sum,
)

Weight = Float[Tensor, "..."]
Make = Callable[[Tensor], Rule]
"""The rule of a use, from the gradient at its output."""


class Use(NamedTuple):
    """How a parameter is used: by which function, and by how many rows of the batch per example."""

    function: str
    factor: int


class Watch(TorchFunctionMode):
    """Runs what a model calls, and notes each use of its parameters.

    Parameters are detached where a use of them is noted, so that the backward pass does not compute
    their gradients; what is backpropagated from depends on `start` instead.

    Args:
        own: The parameters to watch, by name.
        count: Examples in the batch.
        start: A tensor that requires a gradient, to be differentiated by.
        hear: Called in the backward pass, with a parameter's name and the rule of a use of it.
        channels_last: Whether the weights of convolutions are to have their channels last.
    """

    def __init__(
        self,
        own: Mapping[str, Weight],
        count: int,
        start: Weight,
        hear: Callable[[str, Rule], None],
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.names = {id(weight): name for name, weight in own.items()}
        self.count, self.start, self.hear = count, start, hear
        self.channels_last = channels_last
        self.uses: dict[str, list[Use]] = {name: [] for name in own}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.channels_last and func is Tensor.view and _is_shape(args[1:]) and not kwargs:
            func = Tensor.reshape  # a model may count on it that channels come first
        use = None
        if any(id(value) in self.names for value in _tensors((*args, *kwargs.values()))):
            use = USES.get(func) or BY_NAME.get(getattr(func, "__name__", ""))
        result = NotImplemented if use is None else use(self, func, *args, **kwargs)
        return func(*args, **kwargs) if result is NotImplemented else result

    def name(self, weight: object) -> str | None:
        """The name of a parameter that is watched."""
        return self.names.get(id(weight))

    def still(self, weight: Any) -> Any:
        """A parameter without its gradient; anything else as it is."""
        if self.name(weight) is None:
            return weight
        layout = self.channels_last and weight.ndim == 4
        found = weight.detach()
        return found.to(memory_format=torch.channels_last) if layout else found

    def factor(self, value: Tensor) -> int:
        """How many rows of a tensor belong to one example; 0 if that cannot be said."""
        rows = len(value) if value.ndim else 0
        return 0 if rows % self.count else rows // self.count

    def tap(
        self,
        function: str,
        output: Tensor,
        made: Sequence[tuple[Any, Make]],
        inputs: Tensor | None = None,
        *,
        merge: bool = False,
    ) -> Tensor:
        """Note the uses of some parameters by one call.

        Args:
            function: What was called.
            output: What came out, whose gradient the rules are made of.
            made: Parameters and their rules; those that are not watched play no part.
            inputs: What must not change before the backward pass.
            merge: Whether the rules are of rows of the batch, not of examples.

        Returns:
            What the model is to go on with.
        """
        output = _Rooted.apply(output, self.start)  # pyright: ignore[reportAssignmentType]
        version, factor = (None, 1) if inputs is None else (inputs._version, self.factor(inputs))
        wanted = [(name, make) for weight, make in made if (name := self.name(weight))]
        for name, _ in wanted:
            self.uses[name].append(Use(function, factor))

        def heard(slopes: Tensor) -> None:
            if inputs is not None and inputs._version != version:
                raise RuntimeError(f"The input of {function} was changed in place afterwards.")
            for name, make in wanted:
                rule = make(slopes)
                self.hear(name, Merged(rule, factor) if merge and factor > 1 else rule)

        # A hook on the tensor hears its gradient as it is now, before any change in place.
        output.register_hook(heard)
        return output


class _Rooted(torch.autograd.Function):
    """A value as it is, but so that it depends on the start."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, start: Tensor) -> Tensor:
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        return slopes[0], slopes[0].new_zeros(())


def _is_shape(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, tuple, list)) for value in values)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


# --- Layers -------------------------------------------------------------------------------------


def _linear(
    watch: Watch, func: Callable[..., Tensor], input: Tensor, weight: Any, bias: Any = None
) -> Any:
    if not watch.factor(input) or input.ndim < 2:
        return NotImplemented
    n, x = watch.count, input.detach()

    def rows(value: Tensor) -> Tensor:
        return value.reshape(n, -1, value.shape[-1])

    output = func(input, watch.still(weight), watch.still(bias))
    made = [
        (weight, lambda s: Outer(rows(s), rows(x))),
        (bias, lambda s: Sum(rows(s), bias.shape)),  # pyright: ignore[reportOptionalMemberAccess]
    ]
    return watch.tap("linear", output, made, input)


def _matmul(watch: Watch, func: Callable[..., Tensor], input: Any, other: Any) -> Any:
    if watch.name(input) or not watch.factor(input) or input.ndim < 2 or other.ndim != 2:
        return NotImplemented
    n, x = watch.count, input.detach()

    def rows(value: Tensor) -> Tensor:
        return value.reshape(n, -1, value.shape[-1])

    output = func(input, watch.still(other))
    return watch.tap("matmul", output, [(other, lambda s: Outer(rows(x), rows(s)))], input)


def _convolution(
    watch: Watch,
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    spatial = weight.ndim - 2
    if input.ndim != weight.ndim or not watch.factor(input):
        return NotImplemented
    output = func(input, watch.still(weight), watch.still(bias), stride, padding, dilation, groups)
    x, kernel = input.detach(), _each(tuple(weight.shape[2:]), spatial)
    strides, dilations = _each(stride, spatial), _each(dilation, spatial)
    around = _around(padding, kernel, dilations)

    def rule(slopes: Tensor) -> Rule:
        if spatial == 2:
            return Convolution(slopes, x, kernel, strides, around, dilations, groups)
        return Convolution(  # a line is an image of one row
            slopes.unsqueeze(2),
            x.unsqueeze(2),
            (1, *kernel),
            (1, *strides),
            (0, 0, *around),
            (1, *dilations),
            groups,
        )

    made = [(weight, rule), (bias, lambda s: Sum(s, bias.shape, 1))]
    return watch.tap("convolution", output, made, input, merge=True)


def _each(value: Any, count: int) -> Any:
    """A setting that may be given once for all dimensions."""
    return (
        tuple(value)
        if isinstance(value, (tuple, list)) and len(value) == count
        else ((value[0] if isinstance(value, (tuple, list)) else value,) * count)
    )


def _around(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Any:
    """Padding before and after each dimension."""
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(part for total in totals for part in (total // 2, total - total // 2))
    pads = _each(0 if padding == "valid" else padding, len(kernel))
    return tuple(part for pad in pads for part in (pad, pad))


def _batch_norm(
    watch: Watch,
    func: Callable[..., Tensor],
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if training or running_mean is None or not watch.factor(input) or not input.ndim > 1:
        return NotImplemented
    spread, mean, x = (running_var + eps).sqrt(), running_mean, input.detach()
    scale = 1 / spread if weight is None else weight.detach() / spread
    shift = (0 if bias is None else bias.detach()) - mean * scale
    along = (-1, *[1] * (input.ndim - 2))
    output = torch.addcmul(shift.view(along), input, scale.view(along))
    made: list[tuple[Any, Make]] = [
        (weight, lambda s: Affine(s, x, mean, spread)),
        (bias, lambda s: Sum(s, mean.shape, 1)),
    ]
    return watch.tap("batch_norm", output, made, input, merge=True)


def _layer_norm(
    watch: Watch,
    func: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    output = func(input, normalized_shape, watch.still(weight), watch.still(bias), eps)
    return _scaled(
        watch, output, input, weight, bias, None, lambda x: func(x, normalized_shape, eps=eps)
    )


def _rms_norm(
    watch: Watch,
    func: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Any = None,
    eps: float | None = None,
) -> Any:
    output = func(input, normalized_shape, watch.still(weight), eps)
    return _scaled(
        watch, output, input, weight, None, None, lambda x: func(x, normalized_shape, eps=eps)
    )


def _group_norm(
    watch: Watch,
    func: Callable[..., Tensor],
    input: Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    output = func(input, num_groups, watch.still(weight), watch.still(bias), eps)
    return _scaled(watch, output, input, weight, bias, 1, lambda x: func(x, num_groups, eps=eps))


def _scaled(
    watch: Watch,
    output: Tensor,
    input: Tensor,
    weight: Any,
    bias: Any,
    dim: int | None,
    normalise: Callable[[Tensor], Tensor],
) -> Any:
    """A normalisation: its weight multiplies what it gives without one."""
    if not watch.factor(input):
        return NotImplemented
    x = input.detach()
    made = [
        (weight, lambda s: Scale(s, x, normalise, weight.shape, dim)),
        (bias, lambda s: Sum(s, bias.shape, dim)),
    ]
    return watch.tap("normalisation", output, made, input, merge=True)


def _embedding(
    watch: Watch,
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    if max_norm is not None or scale_grad_by_freq or not watch.factor(input):
        return NotImplemented
    n, keys, columns = watch.count, input.detach(), weight.shape[1]
    padding = None if padding_idx is None else padding_idx % len(weight)

    def rule(slopes: Tensor) -> Rule:
        rows = slopes.reshape(n, -1, columns)
        return Lookup(rows, keys.reshape(n, -1), weight.shape, padding)

    return watch.tap("embedding", func(input, watch.still(weight), padding_idx), [(weight, rule)])


def _layer(
    watch: Watch,
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    *rest: Any,
    **more: Any,
) -> Any:
    """A layer without a rule of its own, whose bias is one number per channel."""
    if not watch.factor(input):
        return NotImplemented
    x, w, options = input.detach(), weight.detach(), () if bias is None else (None, *rest)

    def rule(slopes: Tensor) -> Rule:
        return Differentiated(slopes, x, w, lambda one, values: func(one, values, *options, **more))

    known = () if bias is None else (watch.still(bias), *rest)
    output = func(input, watch.still(weight), *known, **more)
    made: list[tuple[Any, Make]] = [(weight, rule)]
    if bias is not None:
        made.append((bias, lambda s: Sum(s, bias.shape, 1)))
    return watch.tap(func.__name__, output, made, input, merge=True)


def _attention(
    watch: Watch,
    func: Callable[..., Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    **_: Any,
) -> Any:
    """Self-attention without masks, as the two linear layers that it consists of."""
    special = (bias_k, bias_v, key_padding_mask, attn_mask)
    itself = query is key is value and query.ndim == 3
    if not itself or any(x is not None for x in special) or add_zero_attn or need_weights:
        return NotImplemented
    if use_separate_proj_weight or training or query.shape[1] != watch.count:
        return NotImplemented
    with watch:
        packed = F.linear(query.transpose(0, 1), in_proj_weight, in_proj_bias)
        b, t, width = packed.shape[0], packed.shape[1], packed.shape[2] // 3
        heads = packed.view(b, t, 3, num_heads, width // num_heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        joined = seen.transpose(1, 2).reshape(b, t, width)
        return F.linear(joined, out_proj_weight, out_proj_bias).transpose(0, 1), None


# --- Parameters that are used by hand -----------------------------------------------------------


def _broadcast(watch: Watch, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
    """A sum, a product and so on: each example gets a copy of w, whose gradient is g_i."""
    values = list(_tensors((*args, *kwargs.values())))
    own = [value for value in values if watch.name(value)]
    shape = torch.broadcast_shapes(*(value.shape for value in values))
    if (
        len(own) != 1
        or kwargs
        or not shape
        or shape[0] != watch.count
        or not _stretched(own[0], shape)
    ):
        return NotImplemented
    if func.__name__.endswith("_") and args[0] is own[0]:
        return NotImplemented  # changes the parameter itself
    copies = _copies(watch, func.__name__, own[0], own[0].detach().expand(shape))
    return func(*(copies if value is own[0] else value for value in args))


def _expand(watch: Watch, func: Callable[..., Tensor], input: Any, *sizes: Any, **more: Any) -> Any:
    """One copy of a parameter for each example, such as a class token."""
    if not watch.name(input):
        return NotImplemented
    found = func(input.detach(), *sizes, **more)
    shape = found.shape
    if not shape or shape[0] != watch.count or not _stretched(input, shape):
        return NotImplemented
    return _copies(watch, func.__name__, input, found)


def _stretched(weight: Tensor, shape: torch.Size) -> bool:
    """Whether the first dimension is one of examples, and the others line up with the weight's."""
    if weight.ndim == len(shape) and weight.shape[0] != 1:
        return False
    rest = weight.shape[1:] if weight.ndim == len(shape) else weight.shape
    return all(a in (1, b) for a, b in zip(reversed(rest), reversed(shape), strict=False))


def _copies(watch: Watch, function: str, weight: Tensor, stretched: Tensor) -> Tensor:
    copies = stretched.clone(memory_format=torch.contiguous_format)
    return watch.tap(function, copies, [(weight, lambda s: Sum(s, _examples(weight, s)))])


def _examples(weight: Tensor, slopes: Tensor) -> torch.Size:
    """A weight's shape without the dimension of examples, if it has one."""
    return weight.shape[1:] if weight.ndim == slopes.ndim else weight.shape


USES: dict[Callable[..., Any], Callable[..., Any]] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    F.conv1d: _convolution,
    F.conv2d: _convolution,
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.embedding: _embedding,
    F.prelu: _layer,
    F.conv3d: _layer,
    F.conv_transpose1d: _layer,
    F.conv_transpose2d: _layer,
    F.conv_transpose3d: _layer,
    F.multi_head_attention_forward: _attention,
}
"""How uses of parameters are noted, by the function that is called."""

_POINTWISE = ("add", "sub", "mul", "div", "rsub", "true_divide", "maximum", "minimum")
BY_NAME: dict[str, Callable[..., Any]] = {
    **{f"{name}": _broadcast for name in _POINTWISE},
    **{f"{name}_": _broadcast for name in _POINTWISE},
    **{
        f"__{kind}{name}__": _broadcast
        for name in ("add", "sub", "mul", "truediv")
        for kind in "ri"
    },
    **{f"__{name}__": _broadcast for name in ("add", "sub", "mul", "truediv")},
    **dict.fromkeys(("expand", "expand_as", "repeat", "broadcast_to"), _expand),
    "matmul": _matmul,
    "__matmul__": _matmul,
}
"""The same for what is both a function and a method."""
