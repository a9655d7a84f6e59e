"""Solves with a damped empirical Fisher or Gauss–Newton matrix, exactly, by Woodbury's identity.

    (λI + (1/m) Σ_k g_k g_kᵀ) x = v
    x = (v − Gᵀ (mλI + G Gᵀ)⁻¹ G v) / λ        with the rows g_kᵀ of G

The matrix that is solved has one row per example instead of one per weight. It is summed up and
solved in float64: in float32 its Cholesky factor is off by 3e-3. Where the rows do not fit into
memory, blocks of them are computed anew for every pair of blocks. That stays exact; conjugate
gradients, which also need only products with G, would need a tolerance and hundreds of passes.

Source: Hager 1989 (the identity); Schraudolph 2002 (the Gauss–Newton matrix).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Data
from oblivio.curvature.gradients import Outer, Rows, chunk_size, flat_mask, rows, trainable, whole
from oblivio.mask import Mask
from oblivio.train import Loss

Block = tuple[Data, Loss]
BLOCK = 512
"""Rows in a block that are kept: as fast as any, and half of the symmetric product is saved."""
SLAB = 4096
"""Columns that are multiplied in float64 at a time."""


def solve(
    model: nn.Module,
    data: Sequence[Data],
    vector: Float[Tensor, " p"],
    damping: float,
    *,
    columns: Sequence[Loss] = (F.cross_entropy,),
    mask: Mask | None = None,
    memory: int = 2**31,
    chunk: int | None = None,
) -> Float64[Tensor, " p"]:
    """X = (λI + (1/m) Σ_i Σ_c g_ic g_icᵀ)⁻¹ v, where g_ic = ∇_θ column_c(f_θ(x_i), y_i).

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        data: The m examples, in one or several sets.
        vector: v, over the trainable parameters.
        damping: λ.
        columns: The loss alone gives the empirical Fisher matrix; `softmax_columns` gives the
            Gauss–Newton matrix of the cross-entropy, and the logits, one by one, that of the
            squared error ½‖z − y‖².
        mask: Coordinates that it removes count as absent, and x is zero there.
        memory: Bytes that the rows g may take, and bytes that the matrix of their products may
            take; where the rows need more, they are computed anew.
        chunk: Examples at a time; None is as many as fit into the caches.

    Returns:
        x, in float64.

    Raises:
        ValueError: If the damping is not above 0, there are no examples or no trainable parameters,
            the vector is not one number per parameter, the mask does not fit the model, or there
            are too many examples for the memory.
        FloatingPointError: If gradients are not finite, or the damping is below their rounding.

    Example:
        >>> from oblivio.data.arrays import Arrays
        >>> line = nn.Linear(1, 2, bias=False)
        >>> _ = nn.init.zeros_(line.weight)
        >>> point = Arrays(torch.tensor([[2.0]]), torch.tensor([0]))  # its gradient is (−1, 1)
        >>> solve(line, [point], torch.tensor([3.0, 0.0]), damping=1.0)
        tensor([2.0000, 1.0000], dtype=torch.float64)
    """
    if not damping > 0:
        raise ValueError(f"damping = {damping:g} must be above 0: without it there is no inverse.")
    m, own = sum(map(len, data)), trainable(model)
    if m == 0:
        raise ValueError("There are no examples to take the curvature of.")
    if len(vector) != sum(p.numel() for p in own.values()):
        raise ValueError(
            f"The vector has {len(vector)} numbers, but the model has "
            f"{sum(p.numel() for p in own.values())} trainable parameters."
        )
    count = m * len(columns)
    if 8 * count**2 > memory:
        raise ValueError(
            f"{m} examples with {len(columns)} rows each need a matrix of "
            f"{8 * count**2 / 2**30:.1f} GiB, and {memory / 2**30:.1f} are allowed: take at most "
            f"{math.isqrt(memory // 8) // len(columns)} examples."
        )
    keep = torch.ones_like(vector, dtype=torch.bool) if mask is None else flat_mask(model, mask)
    parts = dict(zip(own, keep.split([p.numel() for p in own.values()]), strict=True))
    step = chunk or chunk_size(model)

    def fetch(block: Block) -> Rows:
        return _rows_of(model, block, parts, step)

    blocks = _blocks(data, columns, fetch, memory)
    x = torch.zeros_like(vector, dtype=torch.float64)
    v = vector.double()[keep]
    x[keep] = (v - _projection(blocks, v, count, m * damping)) / damping
    return x


def softmax_columns(classes: int) -> list[Loss]:
    """The Gauss–Newton matrix of the cross-entropy, as one weighted loss per class.

    ∇²_z ℓ = diag(p) − p pᵀ = Σ_c p_c (e_c − p)(e_c − p)ᵀ, and √p_c (p − e_c) is the gradient of
    √p_c ℓ(z, c) at a fixed p: the matrix is the Fisher information itself.

    Returns:
        The losses; they ignore the labels.
    """

    def column(c: int) -> Loss:
        def loss(
            logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]
        ) -> Float[Tensor, ""]:
            logs = logits.log_softmax(1)[:, c]
            return -((logs.detach() / 2).exp() * logs).mean()

        return loss

    return [column(c) for c in range(classes)]


# --- Blocks of rows -----------------------------------------------------------------------------


def _blocks(
    data: Sequence[Data], columns: Sequence[Loss], fetch: Callable[[Block], Rows], memory: int
) -> list[Callable[[], Rows]]:
    """Functions that give G block by block: all kept, or computed anew so that two blocks fit."""
    first = fetch((next(d for d in data if len(d)).take(torch.arange(1)), columns[0]))
    each = sum(t.numel() * t.element_size() for outer in first.values() for t in outer)
    kept = each * len(columns) * sum(map(len, data)) <= memory
    size = BLOCK if kept else max(memory // (2 * each), 1)
    found: list[Callable[[], Rows]] = []
    for block in ((part, column) for column in columns for part in _parts(data, size)):
        if kept:
            rows_ = fetch(block)
            found.append(lambda rows_=rows_: rows_)
        else:
            found.append(lambda block=block: fetch(block))
    return found


def _parts(data: Sequence[Data], size: int) -> Iterator[Data]:
    for one in data:
        for positions in torch.arange(len(one)).split(size):
            if len(positions):
                yield one.take(positions)


def _rows_of(
    model: nn.Module, block: Block, keep: dict[str, Bool[Tensor, " q"]], chunk: int
) -> Rows:
    """The rows of one block, without the coordinates that a mask removes."""
    data, loss = block
    device = next(iter(keep.values())).device
    chunks: list[Rows] = []
    for batch in data.batches(chunk):
        found = rows(model, batch.inputs.to(device), batch.labels.to(device), loss)
        for name, part in keep.items():
            if not bool(part.all()):
                found[name] = whole(found[name].full()[:, part])
        chunks.append(found)
    return {
        name: Outer(*(torch.cat(both) for both in zip(*(c[name] for c in chunks), strict=True)))
        for name in keep
    }


# --- Products, in float64 -----------------------------------------------------------------------


def _projection(
    blocks: Sequence[Callable[[], Rows]], v: Float64[Tensor, " q"], count: int, shift: float
) -> Float64[Tensor, " q"]:
    """Gᵀ (shift · I + G Gᵀ)⁻¹ G v, where G has `count` rows."""
    matrix, right = v.new_zeros(count, count), v.new_zeros(count)
    spans: list[slice] = []
    for block in blocks:
        one, start = block(), spans[-1].stop if spans else 0
        product = _times(one, v)
        here = slice(start, start + len(product))
        right[here] = product
        for other, span in zip(blocks, spans, strict=False):
            matrix[here, span] = _inner(one, other())
        matrix[here, here] = _inner(one, one)
        spans.append(here)
    matrix.diagonal().add_(shift)
    factor, wrong = torch.linalg.cholesky_ex(matrix)  # reads the lower triangle only
    if bool(wrong) or not bool(factor.isfinite().all()):
        raise FloatingPointError(
            "The curvature has no inverse: gradients are not finite, or the damping is lost beside "
            "their squares; check the model's weights, or raise the damping."
        )
    y = torch.cholesky_solve(right[:, None], factor)[:, 0]
    x = torch.zeros_like(v)
    for block, span in zip(blocks, spans, strict=True):
        x += _combined(block(), y[span])
    return x


def _inner(one: Rows, two: Rows) -> Float64[Tensor, "a b"]:
    """⟨l ⊗ r, l' ⊗ r'⟩ = ⟨l, l'⟩ ⟨r, r'⟩, summed over the parameters."""
    return sum(
        (_matrix(one[n].left, two[n].left) * _matrix(one[n].right, two[n].right) for n in one),
        torch.zeros(()),
    )


def _matrix(one: Float[Tensor, "a q"], two: Float[Tensor, "b q"]) -> Float64[Tensor, "a b"]:
    found = torch.zeros(len(one), len(two), dtype=torch.float64, device=one.device)
    for a, b in zip(one.split(SLAB, 1), two.split(SLAB, 1), strict=True):
        found.addmm_(a.double(), b.double().T)
    return found


def _times(block: Rows, v: Float64[Tensor, " q"]) -> Float64[Tensor, " b"]:
    """G v: lᵀ V r for every row."""
    found = torch.zeros((), dtype=torch.float64, device=v.device)
    sizes = [outer.left.shape[1] * outer.right.shape[1] for outer in block.values()]
    for outer, part in zip(block.values(), v.split(sizes), strict=True):
        square = part.view(outer.left.shape[1], outer.right.shape[1])
        found = found + (outer.left.double() * (outer.right.double() @ square.T)).sum(1)
    return found


def _combined(block: Rows, weights: Float64[Tensor, " b"]) -> Float64[Tensor, " q"]:
    """Gᵀ y: Σ_i y_i l_i ⊗ r_i."""
    return torch.cat(
        [
            ((weights[:, None] * outer.left.double()).T @ outer.right.double()).flatten()
            for outer in block.values()
        ]
    )
