r"""Shadow models: many models of one case, and what each says of every example.

Whether a model has forgotten cannot be read off one model: it may be lucky. So a case is repeated
N times with other seeds. Shadow t of a *design* is trained on H_t, a part of the training data D,
and asked to forget F_t = D_f ∩ H_t:

    original    θ_o^t = A(H_t)
    unlearned   θ_u^t = U(θ_o^t, F_t, H_t \ F_t)
    retrained   θ_r^t = A(H_t \ F_t)
    again       the same as θ_r^t from another seed, independent of all others

In the design "fixed" H_t = D for all t, so that only the seeds differ. In the design "halves" H_t
is a random half of D_f and a random half of D_r, and H_{t+1} for even t is the rest of both:
every example is in half of all H_t.

A measure compares `unlearned` with `retrained`. The same measure with `again` in the place of
`unlearned` is its *null*, what it says of a perfect method; with `original` it is its *ceiling*,
what it says of a method that does nothing.

Source: the games are those of Hayes, Shumailov, Triantafillou, Khalifa and Papernot, "Inexact
unlearning needs more careful evaluations", 2024 (halves), and of Triantafillou et al., "Are we
making progress in unlearning?", 2024 (fixed). Complementary halves are ours: they leave no example
without models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from oblivio.core import Outputs, Score

Design = Literal["fixed", "halves"]
Kind = Literal["original", "unlearned", "retrained", "again"]
Part = Literal["forget", "retain", "test"]

Margins = Float64[Tensor, "models points"]
Rights = Bool[Tensor, "models points"]


class Answers(NamedTuple):
    """What models say of points: how sure they are of the true class, and whether they take it.

    `margins` are the scaled logits φ = log p_y − log Σ_{c≠y} p_c, from logits in float64, and
    `right` is whether the largest logit is the true class's.
    """

    margins: Margins
    right: Rights

    def take(self, models: Int64[Tensor, " m"]) -> Answers:
        """Those of these models."""
        return Answers(self.margins[models], self.right[models])

    def at(self, points: Int64[Tensor, " p"]) -> Answers:
        """Those on these points."""
        return Answers(self.margins[:, points], self.right[:, points])

    @classmethod
    def joined(cls, groups: Sequence[Answers]) -> Answers:
        """Those of several groups of models, one below another."""
        return cls(*(torch.cat(parts) for parts in zip(*groups, strict=True)))


def answers(outputs: Outputs) -> Answers:
    """One model's answers, as a single row: φ = z_y − log Σ_{c≠y} exp z_c, in float64.

    Returns:
        Margins and whether they are right.

    Example:
        >>> from oblivio.core import Outputs, Score
        >>> sure = Outputs(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        >>> answers(sure).margins.item(), answers(sure).right.item()
        (2.0, True)
    """
    logits, true = outputs.logits.double(), outputs.labels[:, None]
    others = logits.scatter(1, true, -torch.inf)
    margins = logits.gather(1, true)[:, 0] - others.logsumexp(1)
    return Answers(margins[None], (logits.argmax(1) == outputs.labels)[None])


@dataclass(frozen=True, eq=False)
class Shadows:
    """What N models of each kind say of the same points.

    The points are D_f, then points of D_r, then test points; the test points are without the
    classes that are forgotten as a whole. All tensors are on the CPU.

    Args:
        design: What the models were trained on.
        ids: The points' ids; those of test points are the test data's own.
        labels: Their true classes.
        counts: How many points are of D_f, of D_r, and test points.
        seen: Whether shadow t was trained on the point: x ∈ H_t. All of D_f for "fixed".
        original: θ_o.
        unlearned: θ_u.
        retrained: θ_r.
        again: Retrained once more; None where no null is asked for.

    Raises:
        ValueError: If the shapes do not go together.
    """

    design: Design
    ids: Int64[Tensor, " points"]
    labels: Int64[Tensor, " points"]
    counts: tuple[int, int, int]
    seen: Bool[Tensor, "models points"]
    original: Answers
    unlearned: Answers
    retrained: Answers
    again: Answers | None = None

    def __post_init__(self) -> None:
        shape = (len(self), len(self.ids))
        if sum(self.counts) != len(self.ids) or len(self.labels) != len(self.ids):
            raise ValueError(
                f"There are {len(self.ids)} ids, {len(self.labels)} labels and counts of "
                f"{self.counts}; they must be of the same points."
            )
        for kind in ("original", "unlearned", "retrained", "again"):
            for what in getattr(self, kind) or ():
                if tuple(what.shape) != shape:
                    raise ValueError(
                        f"The {kind} models' answers have shape {tuple(what.shape)}; they must be "
                        f"{shape[0]} models × {shape[1]} points."
                    )

    def __len__(self) -> int:
        """How many models there are of each kind."""
        return len(self.seen)

    def points(self, part: Part) -> Int64[Tensor, " p"]:
        """The positions of a part's points."""
        place = ("forget", "retain", "test").index(part)
        first = sum(self.counts[:place])
        return torch.arange(first, first + self.counts[place])

    def of(self, kind: Kind, part: Part) -> Answers:
        """The answers of models of a kind on a part's points."""
        found: Answers = getattr(self, kind)
        return found.at(self.points(part))

    def versus(self) -> tuple[Float64[Tensor, "m f"], Float64[Tensor, "m f"]]:
        """The margins on D_f of unlearned models that had seen the point, and of retrained ones.

        Row i of both is the same shadow for a point: of "halves", the m = N/2 shadows whose H_t
        holds it, in their order; of "fixed", all m = N.

        Returns:
            Of unlearned and of retrained models; a column is a point of D_f.
        """
        forget = self.points("forget")
        seen = self.seen[:, forget]
        each = int(seen.sum(0).min()) if seen.numel() else 0
        rows = seen.int().argsort(dim=0, descending=True, stable=True)[:each]
        unlearned, retrained = (
            found.margins[:, forget].gather(0, rows) for found in (self.unlearned, self.retrained)
        )
        return unlearned, retrained

    def take(self, models: Int64[Tensor, " m"]) -> Shadows:
        """The case with these shadows only."""
        kinds = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {name: v.take(models) for name, v in kinds.items() if isinstance(v, Answers)}
        return replace(self, seen=self.seen[models], **kept)

    def at(self, points: Int64[Tensor, " p"]) -> Shadows:
        """The case on these points only, given in the order of their parts; repeats are fine."""
        kinds = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {name: v.at(points) for name, v in kinds.items() if isinstance(v, Answers)}
        ends = torch.tensor(self.counts).cumsum(0)
        inside = torch.bucketize(points, ends, right=True)
        counts = inside.bincount(minlength=3).tolist()
        return replace(
            self,
            ids=self.ids[points],
            labels=self.labels[points],
            counts=(counts[0], counts[1], counts[2]),
            seen=self.seen[:, points],
            **kept,
        )

    def null(self, swap: Bool[Tensor, " models"] | None = None) -> Shadows:
        """The case of a perfect method: models that are retrained once more stand for unlearned.

        Args:
            swap: Shadows whose two retrained models change places; they are exchangeable, so every
                swap is another draw of the null.

        Returns:
            The case with `again` in the place of `unlearned`.

        Raises:
            ValueError: If there are no models that are retrained once more.
        """
        if self.again is None:
            raise ValueError(
                "There is no null: models that are retrained once more are missing, and a number "
                "without its null says nothing."
            )
        if swap is None:
            return replace(self, unlearned=self.again)
        one, two = (
            Answers(*(torch.where(swap[:, None], b, a) for a, b in zip(x, y, strict=True)))
            for x, y in ((self.again, self.retrained), (self.retrained, self.again))
        )
        return replace(self, unlearned=one, retrained=two, again=one)

    def ceiling(self) -> Shadows:
        """The case of a method that does nothing: originals stand for unlearned models."""
        return replace(self, unlearned=self.original)


class TooFew(ValueError):
    """There are too few shadow models, or points, for what a measure is asked."""


@runtime_checkable
class Measure(Protocol):
    """Says of many shadow models how far unlearned ones are from retrained ones.

    It returns numbers, each described in `scores`, and, for plots, lists of numbers: `roc`, the
    true positive rates at the false positive rates `RATES`, and `per_point`, one number for each
    point of D_f, higher where the point is more exposed. `design` is the one that it is defined
    for. Where the models do not suffice, it raises `TooFew`, and gives no number.
    """

    design: ClassVar[Design]
    scores: ClassVar[Mapping[str, Score]]

    def __call__(self, shadows: Shadows) -> Mapping[str, Any]:
        """Numbers, and lists for plots."""
        ...


RATES: tuple[float, ...] = tuple(10 ** (k / 16 - 4) for k in range(65))
"""False positive rates from 10⁻⁴ to 1, at which curves are drawn."""
