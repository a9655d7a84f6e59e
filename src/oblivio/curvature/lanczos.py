"""The sharpest direction of a loss, by Lanczos' iteration on Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Data
from oblivio.curvature.gradients import at_rest, flat_mask, trainable
from oblivio.curvature.guard import check_deterministic
from oblivio.mask import Mask
from oblivio.train import Loss

Vector = Float64[np.ndarray, " k"]
Product = Callable[[Vector], Vector]


def largest_eigenvalue(
    model: nn.Module,
    data: Data | Sequence[Data],
    *,
    mask: Mask | None = None,
    loss: Loss = F.cross_entropy,
    batch_size: int = 256,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> float:
    """The eigenvalue of largest magnitude of the mean loss's Hessian, among the kept coordinates.

    λ(m) = argmax |λ_i(H_m)|, H = ∇²_θ (1/n) Σ ℓ(f_θ(x), y), H_m its rows and columns where m = 1.

    Coordinates are those of the trainable parameters. H is never formed: ARPACK's implicitly
    restarted Lanczos iteration asks for products H v only, and each is two backward passes over the
    data, ∇(∇ℓ · v), in eval mode and in the model's precision, summed in float64.

    Args:
        model: Any module that gives one row of logits per example; it is left as it is.
        data: One set of examples, or several that are taken together.
        mask: Which weights of a pruned model are coordinates; None is all.
        loss: Of logits and labels, a mean over the examples.
        batch_size: Examples at a time.
        seed: Of the vector that the iteration starts from.
        tolerance: The relative error of the eigenvalue to stop at.

    Returns:
        The eigenvalue, with its sign.

    Raises:
        ValueError: If there are no examples or no coordinates, the mask does not fit the model, or
            the model or the data draw random numbers.
        FloatingPointError: If a product is not finite.
        ArithmeticError: If the iteration does not converge.

    Example:
        >>> from oblivio.data.arrays import Arrays
        >>> line = nn.Linear(1, 2, bias=False)
        >>> _ = nn.init.zeros_(line.weight)
        >>> point = Arrays(torch.tensor([[2.0]]), torch.tensor([0]))
        >>> round(largest_eigenvalue(line, point), 6)  # 2² · ½, as p = (½, ½)
        2.0

    Source: Lehoucq, Sorensen and Yang 1998 (ARPACK); Pearlmutter 1994 for the products.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    parts = [data] if isinstance(data, Data) else list(data)
    product, size = _hessian(model, parts, mask, loss, batch_size)
    start = np.random.default_rng(seed).standard_normal(size)
    image = product(start)
    if not np.isfinite(image).all():
        raise FloatingPointError("The Hessian is not finite: neither are the model's outputs.")
    if size == 1 or not image.any():  # ARPACK takes neither a 1×1 matrix nor a zero one
        return float((image / start)[0])
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    try:
        found = eigsh(
            operator,
            1,
            v0=start,
            tol=tolerance,  # pyright: ignore[reportArgumentType]
            return_eigenvectors=False,
        )
    except ArpackNoConvergence as error:
        raise ArithmeticError(
            f"The largest of {size} eigenvalues is not found to a relative error of "
            f"{tolerance:g}: ask for a larger tolerance, or give the model in float64."
        ) from error
    return float(found[0])


def _hessian(
    model: nn.Module, parts: Sequence[Data], mask: Mask | None, loss: Loss, batch_size: int
) -> tuple[Product, int]:
    """The map v → H_m v, and the length of v."""
    count = sum(len(part) for part in parts)
    if count == 0:
        raise ValueError("There are no examples to take a Hessian over.")
    for part in parts:
        check_deterministic(model, part, loss)
    rest = at_rest(model)
    weights = list(trainable(rest).values())
    keep = None if mask is None else flat_mask(rest, mask)
    device, sizes = weights[0].device, [w.numel() for w in weights]
    kept = torch.arange(sum(sizes), device=device) if keep is None else torch.where(keep)[0]
    if not len(kept):
        raise ValueError("The mask keeps no weight: there is no coordinate to look along.")

    @torch.enable_grad()
    def product(vector: Vector) -> Vector:
        whole = torch.zeros(sum(sizes), dtype=torch.float64, device=device)
        whole[kept] = torch.as_tensor(vector.reshape(-1), device=device)
        direction = [v.view_as(w).to(w) for v, w in zip(whole.split(sizes), weights, strict=True)]
        total = torch.zeros_like(whole)
        for part in parts:
            for inputs, labels, _ in part.batches(batch_size):
                value = loss(rest(inputs.to(device)), labels.to(device))
                total += _product(value, weights, direction) * (len(labels) / count)
        return total[kept].cpu().numpy()

    return product, len(kept)


def _product(
    value: Float[Tensor, ""], weights: list[nn.Parameter], direction: list[Tensor]
) -> Float64[Tensor, " p"]:
    """∇(∇ℓ · v) as one vector; zero where the loss does not depend on a weight."""
    slopes = torch.autograd.grad(value, weights, create_graph=True, materialize_grads=True)
    along = torch.stack([(s * v).sum() for s, v in zip(slopes, direction, strict=True)]).sum()
    turned = torch.autograd.grad(along, weights, materialize_grads=True)
    return torch.cat([t.reshape(-1).double() for t in turned])
