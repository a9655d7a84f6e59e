"""Whether the features are still the original's, or have become retrain's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from oblivio.catalogue import unknown
from oblivio.core import Data, Run, Score, Trial, derive, predict
from oblivio.metrics._features import ROUNDING, Layer, Penultimate, layers, some

PARTS = {"forget": "forget set", "test": "test data"}
SIDES = {
    "original": "similarity to the original's features on the {}",
    "retrain": "similarity to the retrained model's features on the {}",
    "null": "similarity of two retrained models' features on the {}",
    "ceiling": "similarity of the original's features to the retrained model's on the {}",
}


@dataclass(frozen=True)
class CKA:
    """Linear centred kernel alignment of penultimate features, on D_f and on test data.

    CKA(X, Y) = ‖Yᵀ X‖_F² / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F)

    with a row of X and of Y for each example: the features of two models, less their means. It is
    from 0 to 1, and blind to rotation and to overall scale, so that models from different seeds can
    be compared. X is the unlearned model's features, and Y the original's (1: nothing changed) or
    the retrained model's. Beside them stand the null, two retrained models from different seeds,
    and the ceiling, the original and the retrained one: a method has done something where it is
    nearer to retrain than the ceiling, and cannot be asked to be nearer than the null. The
    retrained model shares its first weights with the original, so that the ceiling may well lie
    above the null; then forgetting does not show in the features at all.

    The test data are without classes that are forgotten as a whole. Where features do not vary, as
    for a single example or a collapsed model, there is nothing to compare and no number. Costly: it
    trains two models.

    Args:
        layers: "last" looks at penultimate features; "all", besides, at the output of every linear
            and convolutional layer, in the exhibit `cka_layers`.
        most: Of each part, at most so many examples are drawn.

    Raises:
        ValueError: If a setting is out of range; when called, if the run does not say how the
            original came to be, or a model has no linear layer.

    Source: Kornblith, Norouzi, Lee & Hinton 2019, "Similarity of neural network representations
    revisited", equation 5 and section 3. Where features outnumber examples it is computed from Gram
    matrices, ⟨X Xᵀ, Y Yᵀ⟩ / (‖X Xᵀ‖_F ‖Y Yᵀ‖_F), which is the same.
    """

    layers: Literal["last", "all"] = "last"
    most: int = 1000

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        f"cka_{side}_{part}": Score(
            f"CKA {side}, {part}",
            "",
            "up" if side == "retrain" else "retrain",
            meaning.format(where),
        )
        for part, where in PARTS.items()
        for side, meaning in SIDES.items()
    }

    def __post_init__(self) -> None:
        if self.layers not in get_args(Literal["last", "all"]):
            raise ValueError(unknown("choice of layers", self.layers, ("last", "all")))
        if self.most < 2:
            raise ValueError(f"most = {self.most} must be 2 or more.")

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, Any]:
        """Retrain twice, and compare.

        Returns:
            The numbers that there are; with all layers, a list of them by name and layer too.

        Raises:
            ValueError: If the run does not say how the original came to be, or a model has no
                linear layer.
        """
        models = {
            "unlearned": trial.unlearned,
            "original": trial.original,
            "retrained": trial.retrained(run, "CKA"),
            "again": trial.retrained_again(run, "CKA"),
        }
        parts = {"forget": trial.split.forget, "test": trial.unseen}
        found: dict[str, Any] = {}
        each: dict[str, dict[str, float | None]] = {}
        for part, data in parts.items():
            if len(data) == 0:
                continue
            drawn = some(data, self.most, derive(run.seed, "cka", part))
            found |= _compared({k: Penultimate(m) for k, m in models.items()}, drawn, part)
            for name in self._names(models, drawn):
                one = _compared({k: Layer(m, name) for k, m in models.items()}, drawn, part)
                each.setdefault(name, {}).update(one)
        numbers = {name: value for name, value in found.items() if value is not None}
        return numbers | ({"cka_layers": each} if self.layers == "all" else {})

    def _names(self, models: Mapping[str, nn.Module], data: Data) -> Iterator[str]:
        """The layers that all models execute, in the original's order."""
        if self.layers == "all":
            of_all = [layers(model, data) for model in models.values()]
            yield from (n for n in layers(models["original"], data) if all(n in o for o in of_all))


def _compared(models: Mapping[str, nn.Module], data: Data, part: str) -> dict[str, float | None]:
    """All four similarities, of models that answer with features."""
    said = {name: predict(model, data).logits for name, model in models.items()}
    return {
        f"cka_original_{part}": cka(said["unlearned"], said["original"]),
        f"cka_retrain_{part}": cka(said["unlearned"], said["retrained"]),
        f"cka_null_{part}": cka(said["again"], said["retrained"]),
        f"cka_ceiling_{part}": cka(said["original"], said["retrained"]),
    }


def cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float | None:
    """Linear CKA of two models' features on the same examples, in float64; see `CKA`.

    Returns:
        A number from 0 to 1; None if one side does not vary by more than rounding.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        >>> cka(x, 3 * x.flip(1) + 1)
        1.0
    """
    centred = []
    for features in (x.double(), y.double()):
        less = features - features.mean(0)
        if not less.norm() > ROUNDING * features.norm():
            return None
        centred.append(less)
    a, b = centred
    if max(a.shape[1], b.shape[1]) > len(a):
        one, two = a @ a.T, b @ b.T
        both = (one * two).sum()
    else:
        one, two = a.T @ a, b.T @ b
        both = (b.T @ a).square().sum()
    return min(1.0, float(both / (one.norm() * two.norm())))
