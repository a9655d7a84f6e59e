"""How quickly the forget set is learned again: what was only hidden comes back at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F

from oblivio.core import Batch, Data, Run, Score, Split, Trial, derive, predict
from oblivio.train import Recipe, fit

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Relearn:
    """Relearn time: steps until D_f is known as the original knew it, over retrain's.

    relearn = t(θ_u) / t(θ_r),  t(θ) = min {t : L(θ_t; D_f) ≤ max((1 + within) L(θ_o; D_f), floor)}

    L is the mean cross-entropy, in eval mode, and θ_t the model after t steps on batches of which
    one half are examples of D_f and the other half of D_r, drawn anew; on D_f alone a class would
    be learned by answering nothing else. 1 is ideal, well below 1 means that the memory was only
    hidden, and 0 that D_f is known still. Both models see the same batches.

    Where retraining knows D_f as well as the original from the start, as it may where it
    generalises, or where neither gets there within `most` steps, there is no ratio. If one does
    not get there, or diverges, it counts as `most`: the ratio is then at least, or at most, that.
    Costly: it trains a model, and looks at all of D_f after every `every` steps of two more.

    Args:
        recipe: How both learn again; its epochs play no part. Momentum would carry every model
            there in a few steps: with 0.9, a class of digits that only the last layer hides took
            0.9 of retrain's steps, without momentum 0.2.
        within: How near the original's loss is near enough, as a share of it.
        floor: A loss that is low enough in any case: that of an original which is all but certain
            is out of reach at a constant rate.
        most: Steps after which a model is given up.
        every: Look at the loss after so many steps; t is known to within so many.

    Raises:
        ValueError: If a number is out of range, or the recipe's rate is not constant; when called,
            if the run does not say how the original came to be.

    Source: relearn time is Golatkar, Achille & Soatto's, 2020, "Eternal sunshine of the spotless
    net", in epochs; its ratio to retrain's, in steps, is the anamnesis index of Chundawat, Tarun,
    Mandal & Kankanhalli 2023, "Zero-shot machine unlearning", which goes by accuracy. By loss, with
    5 % and a floor, and with D_r beside D_f, is ours.
    """

    recipe: Recipe = Recipe(momentum=0.0, batch_size=64, weight_decay=0.0, augment=False)
    within: float = 0.05
    floor: float = 0.01
    most: int = 500
    every: int = 1

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "relearn": Score(
            "Relearn", "", "retrain", "steps to learn the forget set again, over retrain's"
        ),
        "relearn_steps": Score(
            "Relearn steps", "", "retrain", "steps until the forget set is known as before"
        ),
        "relearn_retrain": Score(
            "Relearn retrain", "", "retrain", "the same steps of the retrained model"
        ),
    }

    def __post_init__(self) -> None:
        for name, ok, range_ in (
            ("within", self.within >= 0, "0 or more"),
            ("floor", self.floor >= 0, "0 or more"),
            ("most", self.most >= 1, "1 or more"),
            ("every", 1 <= self.every <= self.most, "from 1 to most"),
        ):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} must be {range_}.")
        if self.recipe.schedule != "constant":
            raise ValueError(
                f"The recipe's schedule is {self.recipe.schedule!r}, but relearning has no end to "
                "plan for: it must be 'constant'."
            )

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """Learn again, twice.

        Returns:
            The steps of both, and their ratio where there is one.

        Raises:
            ValueError: If the run does not say how the original came to be.
        """
        retrained = trial.retrained(run, "Relearn")
        enough = max((1 + self.within) * loss(trial.original, trial.split.forget), self.floor)
        own, reference = (
            self._steps(model, trial.split, enough, run) for model in (trial.unlearned, retrained)
        )
        found = {"relearn_steps": float(own), "relearn_retrain": float(reference)}
        if reference > 0 and min(own, reference) < self.most:
            found["relearn"] = own / reference
        return found

    def _steps(self, model: nn.Module, split: Split, enough: float, run: Run) -> int:
        """How many steps it takes until the loss on D_f is low enough, or `most`."""
        model = copy.deepcopy(model)
        if loss(model, split.forget) <= enough:
            return 0
        reached: list[int] = []

        def look(taken: int, _: float) -> None:
            if taken >= self.most:
                reached.append(self.most)
            elif taken % self.every == 0 and loss(model, split.forget) <= enough:
                reached.append(taken)

        recipe = replace(self.recipe, epochs=self.most)  # a pass has at least one step
        own = replace(run, seed=derive(run.seed, "relearn"), mask=None, beside=None)
        data = _Halves(split.to(run.device))
        try:
            fit(model, data, recipe, own, stop=lambda _: bool(reached), after_step=look)
        except FloatingPointError:
            return self.most
        return reached[0]


def loss(model: nn.Module, data: Data) -> float:
    """The mean cross-entropy over all of the data, in float64."""
    logits, labels = predict(model, data)
    return float(F.cross_entropy(logits.double(), labels))


@dataclass(frozen=True, eq=False)
class _Halves:
    """Batches of which one half goes once through D_f, the other is drawn from D_r: for `fit`."""

    split: Split

    @property
    def ids(self) -> Int64[Tensor, " n"]:
        return torch.cat([self.split.forget.ids, self.split.retain.ids])

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        return torch.cat([self.split.forget.labels, self.split.retain.labels])

    def __len__(self) -> int:
        return 2 * len(self.split.forget)

    def take(self, positions: Int64[Tensor, " k"]) -> Self:
        raise NotImplementedError("Relearning goes through all of D_f.")

    def to(self, device: torch.device) -> Self:
        return replace(self, split=self.split.to(device))

    def batches(
        self,
        size: int,
        *,
        shuffle: int | None = None,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        forget, retain = self.split.forget, self.split.retain
        seed = 0 if shuffle is None else shuffle
        draw = torch.Generator().manual_seed(derive(seed, "retain"))
        for one in forget.batches(max(1, size // 2), shuffle=shuffle, augment=augment, part=part):
            some = retain.take(torch.randperm(len(retain), generator=draw)[: len(one.labels)])
            other = next(some.batches(len(some), shuffle=derive(seed, "augment"), augment=augment))
            inputs = torch.cat([one.inputs, other.inputs.to(one.inputs.device)])
            yield Batch(inputs, torch.cat([one.labels, other.labels.to(one.labels.device)]), 1.0)
