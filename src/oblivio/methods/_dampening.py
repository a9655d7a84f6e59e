"""What selective synaptic dampening and its loss-free kind have in common: the formula."""

from __future__ import annotations

import torch
from torch import nn

from oblivio.core import Run, Split
from oblivio.curvature.cache import Kind, diagonals
from oblivio.curvature.gradients import trainable
from oblivio.curvature.selection import explanation, ratio, share_of


def check(alpha: float, strength: float) -> None:
    """Refuse settings that are out of range.

    Raises:
        ValueError: If α is not above 0, or λ is negative.
    """
    if not alpha > 0:
        raise ValueError(f"alpha = {alpha} must be above 0; at infinity nothing changes.")
    if not strength >= 0:
        raise ValueError(f"strength = {strength} must be 0 or more; 0 sets what is chosen to zero.")


@torch.no_grad()
def dampened(
    model: nn.Module, split: Split, run: Run, kind: Kind, alpha: float, strength: float
) -> nn.Module:
    """Where F_f(w) > α F(w):  w ← w · min(λ F(w) / F_f(w), 1).

    F is the mean over all of D, of which D_f is a part, so that F_f / F is at most n / n_f.

    Args:
        model: Is changed in place.
        split: What to forget and what to retain.
        run: Hears which weights were changed.
        kind: Of F.
        alpha: α.
        strength: λ.

    Returns:
        The model.
    """
    forget, _, whole = diagonals(model, split, run, kind)
    r = ratio(forget, whole)
    chosen = {name: value > alpha for name, value in r.items()}
    for name, weight in trainable(model).items():
        factor = (strength / r[name]).clamp(max=1)
        weight.copy_(torch.where(chosen[name], weight * factor, weight))
    about = explanation(model, r, chosen, alpha if alpha < float("inf") else None)
    of = "sensitivity" if kind == "outputs" else "Fisher information"
    run.note(
        changed=share_of(chosen),
        largest=max(float(value.max()) for value in r.values()),
        explanation={**about, "of": of, "against": "whole"},
    )
    return model
