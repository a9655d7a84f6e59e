"""Which weights matter to some examples above all, and an account of the choice.

Values are tensors by parameter name, as the Fisher diagonal is. Everything is decided in float64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from oblivio.choice import Chosen
from oblivio.curvature.fisher import Diagonal
from oblivio.curvature.gradients import trainable
from oblivio.mask import Keep, Mask

EDGES = tuple(-4 + 0.25 * place for place in range(33))
"""Of the histogram, in log10: the same for all models, so that counts can be added."""
FILTERS = 12
"""How many filters an account names."""


def ratio(forget: Diagonal, retain: Diagonal) -> Diagonal:
    """How much more each weight matters to one set of examples than to another.

    r(w) = F_f(w) / F_r(w),  0/0 = 0,  x/0 = ∞

    Args:
        forget: F_f.
        retain: F_r.

    Returns:
        r by parameter name.

    Raises:
        ValueError: If a number is not finite; the message names the layer.

    Example:
        >>> found = ratio({"w": torch.tensor([0.0, 2.0, 6.0]).double()},
        ...               {"w": torch.tensor([0.0, 0.0, 3.0]).double()})
        >>> found["w"].tolist()
        [0.0, inf, 2.0]
    """
    for diagonal in (forget, retain):
        for name, value in diagonal.items():
            if not bool(value.isfinite().all()):
                raise ValueError(
                    f"The diagonal of {name} holds numbers that are not finite: gradients of the "
                    f"loss overflow; check the model's weights and the scale of the data."
                )
    return {name: torch.where(f == 0, f, f / retain[name]) for name, f in forget.items()}


def check_influence(whole: Diagonal) -> None:
    """Refuse a model with a layer on which its outputs do not depend.

    Args:
        whole: The diagonal over all of the data.

    Raises:
        ValueError: If it is zero throughout a layer; the message names those layers.
    """
    idle = [name for name, value in whole.items() if not bool(value.any())]
    if idle:
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        raise ValueError(
            f"The Fisher information over all of the data is zero throughout {', '.join(idle[:3])}"
            f"{more}: the outputs do not depend on such a layer, so nothing says which of its "
            f"weights remember what. Freeze it (requires_grad_(False)), or repair the model."
        )


# --- Choosing -----------------------------------------------------------------------------------


def choose(
    values: Diagonal,
    *,
    share: float | None = None,
    threshold: float | None = None,
    layerwise: bool = False,
    mask: Mask | None = None,
) -> dict[str, Keep]:
    """The weights of the largest values; one whose value is not above 0 is never chosen.

    Args:
        values: By parameter name; may be infinite.
        share: How many of all weights, or of those that the mask keeps; rounded to one weight. Of
            equal values the first are chosen.
        threshold: Instead of a share, the value above which a weight is chosen.
        layerwise: Whether the share is met in each parameter instead of over all together.
        mask: What it removes is not chosen.

    Returns:
        Truth values of the values' shapes.

    Raises:
        ValueError: If not exactly one of share and threshold is given, one is out of range, or a
            value is NaN; the message names the layer.

    Example:
        >>> some = {"w": torch.tensor([3.0, 1.0, 0.0, 4.0]).double()}
        >>> choose(some, share=0.5)["w"].tolist(), choose(some, threshold=3.0)["w"].tolist()
        ([True, False, False, True], [False, False, False, True])
    """
    check_extent(share, threshold)
    for name, value in values.items():
        if bool(value.isnan().any()):
            raise ValueError(f"A value of {name} is NaN, which is neither larger nor smaller.")
    kept = {} if mask is None else mask.keep
    keep = {n: _keep(v, kept.get(n)) for n, v in values.items()}
    if share is None:
        return {n: (v > threshold) & keep[n] for n, v in values.items()}  # pyright: ignore[reportOperatorIssue]
    if layerwise:
        flat = {n: _largest(v.flatten(), share, keep[n].flatten()) for n, v in values.items()}
        return {name: flat[name].view(value.shape) for name, value in values.items()}
    parts = _largest(
        torch.cat([value.flatten() for value in values.values()]),
        share,
        torch.cat([some.flatten() for some in keep.values()]),
    ).split([value.numel() for value in values.values()])
    return {n: part.view(v.shape) for (n, v), part in zip(values.items(), parts, strict=True)}


def check_extent(share: float | None, threshold: float | None) -> None:
    """Refuse an extent that says nothing, two things, or something impossible.

    Raises:
        ValueError: If not exactly one is given, the share is not between 0 and 1, or the threshold
            is not above 0.
    """
    if (share is None) == (threshold is None):
        given = "neither is" if share is None else "both are"
        raise ValueError(f"Give a share or a threshold: {given} given.")
    if share is not None and not 0 < share < 1:
        hint = f"; {share:g} % is {share / 100:g}" if 1 <= share < 100 else ""
        raise ValueError(f"share = {share:g} must lie between 0 and 1{hint}.")
    if threshold is not None and not 0 < threshold < math.inf:
        raise ValueError(f"threshold = {threshold:g} must be a finite number above 0.")


def _keep(value: Tensor, keep: Keep | None) -> Keep:
    if keep is None:
        return torch.ones_like(value, dtype=torch.bool)
    return keep.to(value.device)


def _largest(
    values: Float64[Tensor, " n"], share: float, among: Bool[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """The largest values above 0: a share of those that take part."""
    chosen = among & (values > 0)
    count = round(share * int(among.count_nonzero()))
    places = torch.where(chosen)[0]
    if len(places) <= count:
        return chosen
    found = values[places]
    limit = found.kthvalue(len(found) - count).values  # the largest that may not all be chosen
    best = found > limit
    best[torch.where(found == limit)[0][: count - int(best.count_nonzero())]] = True
    return torch.zeros_like(chosen).index_fill_(0, places[best], True)


def cut(values: Diagonal, chosen: Chosen) -> float | None:
    """The smallest value among the chosen; None if there is none, or it is infinite."""
    least = [v[chosen[n]].min() for n, v in values.items() if bool(chosen[n].any())]
    found = float(torch.stack(least).min()) if least else math.inf
    return found if found < math.inf else None


def share_of(chosen: Chosen) -> float:
    """Which share of the weights is chosen."""
    total = sum(some.numel() for some in chosen.values())
    return sum(int(some.count_nonzero()) for some in chosen.values()) / total


# --- The account --------------------------------------------------------------------------------


def explanation(
    model: nn.Module, values: Diagonal, chosen: Chosen, threshold: float | None
) -> dict[str, Any]:
    """Which weights were changed and why, as plain data, for the record and the report.

    Args:
        model: Whose weights.
        values: The ratio of every trainable weight.
        chosen: The weights that were changed.
        threshold: The ratio at which was cut; None where there is not one for all.

    Returns:
        `layers`: name, changed weights and all weights of every trainable parameter, in the model's
        order. `histogram`: how many weights have which log10 of the ratio; what lies beyond the
        edges is in the outermost bins, ratios of 0 and ∞ are counted apart. `filters`: layer,
        index, changed weights, all weights and median ratio of the output channels or neurons of
        which the largest share was changed; a median is None where it is infinite.
    """
    names = list(trainable(model))
    return {
        "layers": [[n, int(chosen[n].count_nonzero()), chosen[n].numel()] for n in names],
        "histogram": {
            "edges": list(EDGES),
            "counts": {
                "all": _counts(values).tolist(),
                "chosen": _counts({n: values[n][chosen[n]] for n in names}).tolist(),
            },
            "zero": sum(int((v == 0).count_nonzero()) for v in values.values()),
            "infinite": sum(int(v.isinf().count_nonzero()) for v in values.values()),
            "threshold": threshold,
        },
        "filters": _filters({n: values[n] for n in names if values[n].ndim > 1}, chosen),
    }


def _counts(values: Diagonal) -> Int64[Tensor, " bins"]:
    """How many finite values above 0 fall into each bin."""
    bins = len(EDGES) - 1
    counts = torch.zeros(bins, dtype=torch.int64)
    for value in values.values():
        there = value[(value > 0) & value.isfinite()].log10()
        place = ((there - EDGES[0]) / (EDGES[1] - EDGES[0])).floor().clamp(0, bins - 1)
        counts += place.long().bincount(minlength=bins).cpu()
    return counts


def _filters(values: Diagonal, chosen: Chosen) -> list[list[Any]]:
    """The rows of which the largest share is chosen; of equal ones, the first."""
    rows = []
    for name, value in values.items():
        changed = chosen[name].flatten(1).count_nonzero(1).cpu()
        total = value[0].numel()
        for index in changed.argsort(descending=True, stable=True)[:FILTERS].tolist():
            if changed[index] > 0:
                rows.append([name, index, int(changed[index]), total])
    rows.sort(key=lambda row: -row[2] / row[3])
    medians = [float(values[name][index].median()) for name, index, *_ in rows[:FILTERS]]
    return [
        [*row, median if median < math.inf else None]
        for row, median in zip(rows[:FILTERS], medians, strict=True)
    ]
