"""How a layer's output gradients become its parameters' gradients, example by example.

For one use of a parameter w in a network, with x_i what came in and s_i = ∂ℓ_i/∂y_i the gradient
at what went out, a rule gives the examples' gradients g_i = ∂ℓ_i/∂w (`each`), and Σ_i g_i² or
Σ_i |g_i| over all of them (`total`), for which no more than a few g_i are kept, and often none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.func import vjp, vmap
from torch.nn import functional as F

Measure = Literal["square", "absolute"]
"""What is summed over the examples: g² or |g|."""

Each = Float[Tensor, "b ..."]
Weight = Float[Tensor, "..."]

PAIRS = 4
"""Up to so many positions, products of all pairs of positions are the shorter way."""
NARROW = 4
"""Images of fewer channels are unfolded with the channels first."""


@runtime_checkable
class Rule(Protocol):
    """One use of one parameter by some examples."""

    @property
    def size(self) -> int:
        """Bytes of memory that one example's gradient takes to compute."""
        ...

    def each(self, span: slice) -> Each:
        """The gradients of some of the examples."""
        ...


@runtime_checkable
class Direct(Rule, Protocol):
    """A rule that knows a shorter way than one gradient after another."""

    def total(self, measure: Measure, step: int) -> Weight:
        """Σ_i g_i² or Σ_i |g_i| over all examples, with room for `step` gradients."""
        ...


def add_measured(total: Weight, each: Each, measure: Measure) -> None:
    """Add Σ_i g_i² or Σ_i |g_i| to a total; `each` is overwritten."""
    if measure == "square" and each[0].numel() > 16384:
        for one in each:
            total.addcmul_(one, one)  # one pass over memory instead of three
    else:
        total += (each.square_() if measure == "square" else each.abs_()).sum(0)


def measured(each: Each, measure: Measure) -> Weight:
    """Σ_i g_i² or Σ_i |g_i|; `each` is overwritten."""
    return (each.square_() if measure == "square" else each.abs_()).sum(0)


def spans(count: int, step: int) -> Iterator[slice]:
    """Slices of at most `step` that make up `count`."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


# --- Sums over positions ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sum:
    """w is added at every position: g_i is s_i, summed to the shape of w.

    Args:
        slopes: s.
        shape: Of w.
        dim: Which dimension of s, counted from 1 for the first after the examples', w's first one
            stands at; None lines the last dimensions up, as broadcasting does.
    """

    slopes: Float[Tensor, "b ..."]
    shape: torch.Size
    dim: int | None = None

    @property
    def size(self) -> int:
        """Bytes of one example."""
        return self.slopes[:1].numel() * self.slopes.element_size()

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""
        slopes = self.slopes[span]
        first = slopes.ndim - len(self.shape) if self.dim is None else self.dim
        lined = range(first, first + len(self.shape))
        kept = [at for at, n in zip(lined, self.shape, strict=True) if n == slopes.shape[at]]
        summed = [at for at in range(1, slopes.ndim) if at not in kept]
        return (slopes.sum(summed) if summed else slopes.clone()).reshape(-1, *self.shape)

    def total(self, measure: Measure, step: int) -> Weight:
        """All at once: the gradients take no more than the slopes do."""
        return measured(self.each(slice(None)), measure)


@dataclass(frozen=True, eq=False)
class Scale:
    """w multiplies a normalised x̂ at every position: g_i = Σ s_i x̂_i, to the shape of w.

    Args:
        slopes: s.
        inputs: x.
        normalise: Makes x̂ of x, for any examples.
        shape: Of w.
        dim: As for `Sum`.
    """

    slopes: Float[Tensor, "b ..."]
    inputs: Float[Tensor, "b ..."]
    normalise: Callable[[Tensor], Tensor]
    shape: torch.Size
    dim: int | None = None

    @property
    def size(self) -> int:
        """Bytes of one example."""
        return 3 * self.slopes[:1].numel() * self.slopes.element_size()

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""
        product = self.normalise(self.inputs[span]).mul_(self.slopes[span])
        return Sum(product, self.shape, self.dim).each(slice(None))

    def total(self, measure: Measure, step: int) -> Weight:
        """The sum over all examples."""
        found = self.slopes.new_zeros(self.shape)
        for span in spans(len(self.slopes), step):
            found += measured(self.each(span), measure)
        return found


@dataclass(frozen=True, eq=False)
class Affine:
    """y = w (x − μ) / σ + b per channel, with μ and σ constants: g_i = (Σ s_i x_i − μ Σ s_i) / σ.

    Args:
        slopes: s.
        inputs: x.
        mean: μ.
        spread: σ.
    """

    slopes: Float[Tensor, "b c ..."]
    inputs: Float[Tensor, "b c ..."]
    mean: Float[Tensor, " c"]
    spread: Float[Tensor, " c"]

    @property
    def size(self) -> int:
        """Bytes of one example."""
        return 2 * self.slopes[:1].numel() * self.slopes.element_size()

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""
        slopes, shape = self.slopes[span], self.mean.shape
        product = Sum(slopes * self.inputs[span], shape, 1).each(slice(None))
        return (product - self.mean * Sum(slopes, shape, 1).each(slice(None))) / self.spread

    def total(self, measure: Measure, step: int) -> Weight:
        """The sum over all examples."""
        found = torch.zeros_like(self.mean)
        for span in spans(len(self.slopes), step):
            found += measured(self.each(span), measure)
        return found


# --- Products of matrices -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Outer:
    """y = x wᵀ at every position t: g_i = Σ_t s_it ⊗ x_it.

    With one position, g_i² = s_i² ⊗ x_i², and the sum over examples is one product of matrices.
    With few, so it is by g_i² = Σ_tu (s_it s_iu) ⊗ (x_it x_iu).
    """

    slopes: Float[Tensor, "b t o"]
    inputs: Float[Tensor, "b t i"]

    @property
    def size(self) -> int:
        """Bytes of one example's gradient."""
        return self.slopes.shape[2] * self.inputs.shape[2] * self.slopes.element_size()

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""
        return torch.bmm(self.slopes[span].transpose(1, 2), self.inputs[span])

    def total(self, measure: Measure, step: int) -> Weight:
        """The sum over all examples."""
        s, x = self.slopes, self.inputs
        count, positions = s.shape[:2]
        if positions == 1:
            power = torch.square if measure == "square" else torch.abs
            return power(s[:, 0]).T @ power(x[:, 0])
        if measure == "square" and positions <= PAIRS:
            t, u = torch.triu_indices(positions, positions, device=s.device)
            twice = torch.where(t == u, 1, 2).to(s)[:, None]
            pairs = (s[:, t] * s[:, u] * twice).flatten(0, 1)
            return pairs.T @ (x[:, t] * x[:, u]).flatten(0, 1)
        found = s.new_zeros(s.shape[2], x.shape[2])
        block = s.new_empty(step, *found.shape)
        for span in spans(count, step):
            part = block[: span.stop - span.start]
            torch.bmm(s[span].transpose(1, 2), x[span], out=part)
            add_measured(found, part, measure)
        return found


@dataclass(frozen=True, eq=False)
class Convolution:
    """g_i[o, c, a, d] = Σ_hv s_i[o, h, v] x_i[c, σ h + δ a − π, σ v + δ d − π].

    Images are copied into a padded buffer, where a strided view shows what each position of the
    output looks at. Usually, channels last, the kernel's columns are set side by side, and for each
    of its rows there is one product of matrices. Where channels are few or come in groups, all of
    the kernel is unfolded, channels first.

    Args:
        slopes: s.
        inputs: x.
        kernel: Height and width.
        stride: σ.
        padding: π above and below, left and right.
        dilation: δ.
        groups: Into how many groups channels are split.
    """

    slopes: Float[Tensor, "b o h v"]
    inputs: Float[Tensor, "b c hh vv"]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def size(self) -> int:
        """Bytes of one example's gradient and of its unfolded image."""
        (a, d), (_, o, h, v) = self.kernel, self.slopes.shape
        c = self.inputs.shape[1]
        rows = h * a if self._narrow else self._padded[0]
        gradient = a * d * c * o // self.groups
        return (gradient + rows * v * d * c) * self.slopes.element_size()

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""
        parts = [part.clone() for _, part in self._parts([span], span.stop - span.start)]
        return self._in_order(torch.stack(parts, 1))

    def total(self, measure: Measure, step: int) -> Weight:
        """The sum over all examples."""
        (count, o, h, v), (a, d), c = self.slopes.shape, self.kernel, self.inputs.shape[1]
        if measure == "square" and h * v <= PAIRS and self.groups == 1:
            padded = F.pad(self.inputs, (*self.padding[2:], *self.padding[:2]))
            unfolded = F.unfold(padded, self.kernel, stride=self.stride, dilation=self.dilation)
            pairs = Outer(self.slopes.flatten(2).mT, unfolded.mT)
            return pairs.total(measure, step).view(o, c, a, d)
        rows, columns = (1, a * d * c // self.groups) if self._narrow else (a, d * c)
        found = self.slopes.new_zeros(rows, o, columns)
        for row, part in self._parts(spans(count, step), step):
            add_measured(found[row], part, measure)
        return self._in_order(found[None])[0]

    @property
    def _narrow(self) -> bool:
        return self.groups > 1 or self.inputs.shape[1] < NARROW

    @property
    def _padded(self) -> tuple[int, int]:
        """Height and width of a padded image."""
        top, bottom, left, right = self.padding
        return self.inputs.shape[2] + top + bottom, self.inputs.shape[3] + left + right

    def _parts(self, wanted: Iterable[slice], step: int) -> Iterator[tuple[int, Each]]:
        """A row of the kernel and its gradients, span by span; the next overwrites them."""
        return (self._unfolded if self._narrow else self._side_by_side)(wanted, step)

    def _in_order(self, found: Float[Tensor, "b rows o columns"]) -> Each:
        """Kernel rows as (b, o, c, a, d)."""
        (a, d), c = self.kernel, self.inputs.shape[1]
        if self._narrow:
            return found.view(*found.shape[::2], c // self.groups, a, d)
        return found.unflatten(3, (d, c)).permute(0, 2, 4, 1, 3)

    def _side_by_side(self, wanted: Iterable[slice], step: int) -> Iterator[tuple[int, Each]]:
        (_, o, h, v), (a, d), c = self.slopes.shape, self.kernel, self.inputs.shape[1]
        (high, wide), (down, along) = self._padded, self.stride
        image = self.inputs.new_zeros(step, high, wide, c)
        n, row, column, _ = image.stride()
        seen = image.as_strided(
            (step, high, v, d, c), (n, row, along * column, self.dilation[1] * column, 1)
        )
        beside = torch.empty_like(seen, memory_format=torch.contiguous_format)
        product = self.slopes.new_empty(step, o, d * c)
        top, _, left, _ = self.padding
        for span in wanted:
            inputs, slopes = self.inputs[span], self.slopes[span]
            count, _, hh, vv = inputs.shape
            image[:count, top : top + hh, left : left + vv] = inputs.permute(0, 2, 3, 1)
            beside[:count].copy_(seen[:count])
            slopes = slopes.permute(0, 2, 3, 1).reshape(count, h * v, o).mT
            for at in range(a):
                first = at * self.dilation[0]
                lines = beside[:count, first : first + down * (h - 1) + 1 : down]
                part = product[:count]
                torch.bmm(slopes, lines.reshape(count, h * v, d * c), out=part)
                yield at, part

    def _unfolded(self, wanted: Iterable[slice], step: int) -> Iterator[tuple[int, Each]]:
        (_, o, h, v), (a, d), c = self.slopes.shape, self.kernel, self.inputs.shape[1]
        (high, wide), (down, along) = self._padded, self.stride
        image = self.inputs.new_zeros(step, c, high, wide)
        n, channel, row, column = image.stride()
        strides = (n, channel, self.dilation[0] * row, self.dilation[1] * column)
        seen = image.as_strided((step, c, a, d, h, v), (*strides, down * row, along * column))
        columns = torch.empty_like(seen, memory_format=torch.contiguous_format)
        top, _, left, _ = self.padding
        for span in wanted:
            inputs, slopes = self.inputs[span], self.slopes[span]
            count, _, hh, vv = inputs.shape
            image[:count, :, top : top + hh, left : left + vv] = inputs
            columns[:count].copy_(seen[:count])
            grouped = slopes.reshape(count * self.groups, o // self.groups, h * v)
            product = torch.bmm(grouped, columns[:count].view(len(grouped), -1, h * v).mT)
            yield 0, product.view(count, o, -1)


# --- Tables, and everything else ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Lookup:
    """y = w[k] at every position: g_i is s_i, summed where the same row is looked up.

    Args:
        slopes: s.
        keys: k.
        shape: Of w, rows by columns.
        padding: A row that gets no gradient, if there is one.
    """

    slopes: Float[Tensor, "b t c"]
    keys: Int64[Tensor, "b t"]
    shape: torch.Size
    padding: int | None = None

    @property
    def size(self) -> int:
        """Bytes of one example's gradient."""
        return self.shape.numel() * self.slopes.element_size()

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""
        slopes, keys = self.slopes[span], self.keys[span]
        found = slopes.new_zeros(len(slopes), *self.shape)
        found.scatter_add_(1, keys[..., None].expand_as(slopes), slopes)
        return self._without_padding(found)

    def total(self, measure: Measure, step: int) -> Weight:
        """The sum over all examples, of which each touches a few rows only."""
        (count, _), (rows, columns) = self.keys.shape, self.shape
        example = torch.arange(count, device=self.keys.device)[:, None]
        pairs, place = (example * rows + self.keys).flatten().unique(return_inverse=True)
        found = self.slopes.new_zeros(len(pairs), columns)
        found.index_add_(0, place, self.slopes.flatten(0, 1))
        found = found.square_() if measure == "square" else found.abs_()
        total = found.new_zeros(self.shape).index_add_(0, pairs % rows, found)
        return self._without_padding(total[None])[0]

    def _without_padding(self, found: Each) -> Each:
        return found if self.padding is None else found.index_fill_(1, self._padding_row, 0)

    @property
    def _padding_row(self) -> Int64[Tensor, " 1"]:
        return torch.tensor([self.padding], device=self.keys.device)


@dataclass(frozen=True, eq=False)
class Differentiated:
    """Any layer y = f(x, w): goes back through the layer alone, example by example, vectorised.

    Args:
        slopes: s.
        inputs: x.
        weight: w.
        layer: f, of a batch of one.
    """

    slopes: Float[Tensor, "b ..."]
    inputs: Shaped[Tensor, "b ..."]
    weight: Weight
    layer: Callable[[Tensor, Tensor], Any]

    @property
    def size(self) -> int:
        """Bytes of one example's gradient, and of what is in between, about."""
        between = self.inputs[:1].numel() + 2 * self.slopes[:1].numel()
        return (self.weight.numel() + between) * self.slopes.element_size()

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""

        def back(x: Tensor, slope: Tensor) -> Tensor:
            return vjp(lambda w: self.layer(x[None], w), self.weight)[1](slope[None])[0]

        return vmap(back)(self.inputs[span], self.slopes[span])


@dataclass(frozen=True, eq=False)
class Merged:
    """Several neighbouring rows of a batch that belong to one example: their gradients add up.

    Args:
        rows: The rule, of single rows.
        factor: Rows per example.
    """

    rows: Rule
    factor: int

    @property
    def size(self) -> int:
        """Bytes of one example."""
        return self.factor * self.rows.size

    def each(self, span: slice) -> Each:
        """The gradients of some examples."""
        found = self.rows.each(slice(span.start * self.factor, span.stop * self.factor))
        return found.unflatten(0, (-1, self.factor)).sum(1)
