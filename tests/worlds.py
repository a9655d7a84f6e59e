"""Problems with known answers, and small data and networks that are always the same."""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from oblivio.core import Data, Origin, Run, Score, Split
from oblivio.data.arrays import Arrays
from oblivio.models import factory
from oblivio.shadow import RATES, Answers, Design, Shadows, TooFew
from oblivio.train import Recipe, fit


def pictures(
    n: int,
    classes: int = 3,
    shape: tuple[int, ...] = (1, 8, 8),
    *,
    noise: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Arrays:
    """A fixed pattern per class, plus noise; every class from 0 on occurs. Ids are not positions.

    The patterns do not depend on the seed: with another one, it is further data of the same kind.
    """
    draw = torch.Generator().manual_seed(10_000)
    patterns = torch.randn(classes, *shape, generator=draw, dtype=torch.float64)
    draw.manual_seed(seed)
    labels = torch.arange(n) % classes
    inputs = patterns[labels] + noise * torch.randn(n, *shape, generator=draw, dtype=torch.float64)
    return Arrays.checked(inputs.to(dtype), labels, ids=3 * torch.arange(n).flip(0) + 7)


def linear(features: int, classes: int) -> nn.Module:
    """A linear classifier in float64 that starts at zero."""
    layer = nn.Linear(features, classes, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def weights(model: nn.Module) -> Tensor:
    """All parameters as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def tiny_network(classes: int, shape: tuple[int, ...], width: int = 5) -> nn.Module:
    """A user's own network factory."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), width), nn.Tanh(), nn.Linear(width, classes)
    )


def plain_network() -> nn.Module:
    """A user's own factory that asks for nothing."""
    return nn.Linear(4, 2)


def greedy_network(**settings: object) -> nn.Module:
    """A user's own factory that takes any setting."""
    return nn.Linear(int(str(settings["width"])), 2)


def user_data(n: int = 12) -> tuple[tuple[Tensor, Tensor], Arrays]:
    """A user's own data set: training data as tensors, test data as Data."""
    x = torch.linspace(0, 1, n * 4).view(n, 4)
    return (x, torch.arange(n) % 3), Arrays(x[:5], torch.arange(5) % 3)


# --- A case of forgetting -----------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An original model that has memorised its forget set, whose labels are wrong."""

    run: Run
    original: nn.Module
    split: Split
    test: Data

    @property
    def origin(self) -> Origin:
        """How the original came to be."""
        assert self.run.origin is not None
        return self.run.origin


def case(
    network: str = "cnn", *, epochs: int = 30, seed: int = 0, class_wise: bool = False
) -> Case:
    """Nine of 42 images are to be forgotten, 33 retained: with batches of 8, the last has one."""
    train = pictures(42, seed=1)
    rows = torch.arange(9) if not class_wise else torch.where(train.labels == 2)[0]
    labels = train.labels.clone()
    if not class_wise:
        labels[rows] = (labels[rows] + 1) % 3
    train = Arrays(train.inputs, labels, train.ids)
    settings = {"cnn": {"channels": [8], "hidden": 16}, "mlp": {"hidden": [32]}}[network]
    origin = Origin(
        factory({"name": network, **settings}, (1, 8, 8), 3),
        Recipe(epochs=epochs, lr=0.05, batch_size=16, weight_decay=0.0),
        seed,
    )
    run = Run.on("cpu", seed=seed, origin=origin)
    split = Split.of(train, train.ids[rows])
    return Case(run, origin.make(train, run), split, pictures(30, seed=2))


# --- Worlds -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Logistic:
    """Logistic regression with weight decay: strictly convex, so there is one optimum.

    J(θ) = (1/n) Σ_i ℓ(W x_i + b, y_i) + ½ λ ‖θ‖², θ = (W, b), the decay on all of it.
    """

    decay: float = 0.05
    n: int = 60
    features: int = 4
    classes: int = 3

    @cached_property
    def data(self) -> Arrays:
        """The examples, in float64; classes overlap."""
        return pictures(self.n, self.classes, (self.features,), noise=1.5, dtype=torch.float64)

    def build(self) -> nn.Module:
        """The untrained classifier."""
        return linear(self.features, self.classes)

    def recipe(self, epochs: int) -> Recipe:
        """Gradient descent with momentum on all of the data at once."""
        return Recipe(epochs=epochs, lr=0.5, batch_size=self.n, weight_decay=self.decay)

    def loss(self, theta: Tensor, data: Arrays) -> Tensor:
        """The mean cross-entropy, without decay."""
        w, b = theta.split([self.features * self.classes, self.classes])
        logits = data.inputs @ w.view(self.classes, self.features).T + b
        return -logits.log_softmax(1).gather(1, data.labels[:, None]).mean()

    def gradient(self, theta: Tensor, data: Arrays) -> Tensor:
        """∇ of the loss: (1/n) Σ_i (p_i − e_{y_i}) ⊗ (x_i, 1)."""
        w, b = theta.split([self.features * self.classes, self.classes])
        logits = data.inputs @ w.view(self.classes, self.features).T + b
        wrong = logits.softmax(1) - nn.functional.one_hot(data.labels, self.classes)
        return torch.cat([(wrong.T @ data.inputs).flatten(), wrong.sum(0)]) / len(data)

    def optimum(self, data: Arrays) -> Tensor:
        """Newton's method on J with the dense Hessian, until its gradient is zero to rounding."""
        theta = torch.zeros((self.features + 1) * self.classes, dtype=torch.float64)

        def objective(theta: Tensor) -> Tensor:
            return self.loss(theta, data) + self.decay * theta.square().sum() / 2

        for _ in range(30):
            slope = torch.func.grad(objective)(theta)
            theta = theta - torch.linalg.solve(
                torch.func.jacrev(torch.func.grad(objective))(theta), slope
            )
        assert float(torch.func.grad(objective)(theta).norm()) < 1e-14
        return theta


@dataclass(frozen=True)
class Ridge:
    """Ridge regression on one-hot labels: retraining has a closed form, and so has forgetting.

    J(W) = ½ ‖X W − Y‖² + ½ λ ‖W‖², so W = A⁻¹ Xᵀ Y with A = Xᵀ X + λ I.
    """

    decay: float = 0.1
    n: int = 40
    features: int = 6
    classes: int = 3

    @cached_property
    def data(self) -> Arrays:
        """The examples, in float64."""
        return pictures(self.n, self.classes, (self.features,), dtype=torch.float64)

    def targets(self, data: Arrays) -> Tensor:
        """The labels as one-hot rows Y."""
        return nn.functional.one_hot(data.labels, self.classes).double()

    def hessian(self, data: Arrays) -> Tensor:
        """A = Xᵀ X + λ I; one for each column of W."""
        return data.inputs.T @ data.inputs + self.decay * torch.eye(self.features).double()

    def solve(self, data: Arrays) -> Tensor:
        """The optimum on this data, features × classes."""
        return torch.linalg.solve(self.hessian(data), data.inputs.T @ self.targets(data))

    def without(self, data: Arrays, forget: Arrays) -> Tensor:
        """The optimum on the data without some of it, by the Sherman–Morrison–Woodbury formula.

        (A − Uᵀ U)⁻¹ = A⁻¹ + A⁻¹ Uᵀ (I − U A⁻¹ Uᵀ)⁻¹ U A⁻¹, where U holds the forgotten rows.
        """
        inverse, u = torch.linalg.inv(self.hessian(data)), forget.inputs
        core = torch.eye(len(forget)).double() - u @ inverse @ u.T
        inverse = inverse + inverse @ u.T @ torch.linalg.solve(core, u @ inverse)
        moments = data.inputs.T @ self.targets(data) - u.T @ self.targets(forget)
        return inverse @ moments

    def influence(self, data: Arrays, forget: Arrays, hessian: Tensor) -> Tensor:
        """One step from the optimum: W + H⁻¹ Uᵀ (U W − Y_f), exact if H is the retain set's."""
        start = self.solve(data)
        slope = forget.inputs.T @ (forget.inputs @ start - self.targets(forget))
        return start + torch.linalg.solve(hessian, slope)

    def build(self) -> nn.Module:
        """A linear model without bias."""
        layer = nn.Linear(self.features, self.classes, bias=False, dtype=torch.float64)
        nn.init.zeros_(layer.weight)
        return layer

    def train(self, model: nn.Module, data: Data, run: Run) -> nn.Module:
        """Train by the closed form."""
        assert isinstance(data, Arrays)
        assert isinstance(model, nn.Linear)
        with torch.no_grad():
            model.weight.copy_(self.solve(data).T)
        return model


@dataclass(frozen=True)
class TwoGaussians:
    """Membership of known difficulty: a member's score is N(μ, 1), a non-member's N(0, 1).

    With as many of each, the Bayes-optimal attack calls scores above μ/2 members. Its accuracy, and
    its true-positive and true-negative rate, are Φ(μ/2); the AUC of the score is Φ(μ/√2).
    """

    distance: float = 1.0

    @property
    def accuracy(self) -> float:
        """Φ(μ/2)."""
        return _normal(self.distance / 2)

    @property
    def auc(self) -> float:
        """Φ(μ/√2)."""
        return _normal(self.distance / math.sqrt(2))

    def true_positives(self, false_positives: float) -> float:
        """The ROC curve: TPR = Φ(Φ⁻¹(FPR) + μ)."""
        return _normal(_probit(false_positives) + self.distance)

    def draw(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Scores of n members and of n non-members."""
        draw = torch.Generator().manual_seed(seed)
        both = torch.randn(2, n, generator=draw, dtype=torch.float64)
        return both[0] + self.distance, both[1]


def _normal(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


def _probit(p: float) -> float:
    return math.sqrt(2) * float(torch.erfinv(torch.tensor(2 * p - 1, dtype=torch.float64)))


# --- Processes that train together --------------------------------------------------------------


Plan = tuple[int, int, int]
"""How many examples, the batch size, and how many epochs."""


def fit_in_process(fabric: Fabric, plans: list[Plan]) -> list[list[list[float]]]:
    """Train in one of several processes: for every plan the weights, one row per process."""
    torch.set_num_threads(1)
    found = []
    for plan in plans:
        own = weights(fit_small(Run(fabric, seed=4), *plan))
        rows = [torch.empty_like(own) for _ in range(fabric.world_size)]
        torch.distributed.all_gather(rows, own)
        found.append([row.tolist() for row in rows])
    # Leave the group together: a process that exits while another still talks to it may abort.
    fabric.barrier()
    gc.collect()
    torch.distributed.destroy_process_group()
    return found


def fit_small(run: Run, n: int, batch_size: int, epochs: int) -> nn.Module:
    """Train a small network in float64; first weights and data are always the same."""
    model = Origin(lambda: tiny_network(3, (5,)).double(), fit, 0).fresh()
    data = pictures(n, 3, (5,), dtype=torch.float64)
    recipe = Recipe(epochs=epochs, lr=0.2, batch_size=batch_size, schedule="cosine")
    return fit(model, data, recipe, run)


def crowd(
    models: int = 8,
    *,
    forget: int = 5,
    retain: int = 4,
    test: int = 6,
    design: Design = "fixed",
    shift: float = 0.0,
    ceiling: float = 2.0,
    seed: int = 0,
) -> Shadows:
    """Shadow models that never were: margins of standard normals, each point around its own mean.

    On points of D_f the unlearned models' margins are higher by `shift`, where the shadow saw the
    point, and the originals' by `ceiling`. So the best attack on one score of either kind, with
    equal odds, is right in Φ(shift / 2) of cases.
    """
    draw = torch.Generator().manual_seed(seed)
    points = forget + retain + test
    middle = 3 * torch.randn(points, generator=draw, dtype=torch.float64)
    seen = torch.ones(models, points, dtype=torch.bool)
    if design == "halves":
        half = torch.rand(models // 2, points, generator=draw) < 0.5
        seen = torch.stack([half, ~half], 1).flatten(0, 1)
    seen[:, forget + retain :] = False

    def said(higher: float) -> Answers:
        noise = torch.randn(models, points, generator=draw, dtype=torch.float64)
        margins = middle + noise
        margins[:, :forget] += higher * seen[:, :forget]
        return Answers(margins, margins > 0)

    return Shadows(
        design,
        torch.arange(points),
        torch.arange(points) % 3,
        (forget, retain, test),
        seen,
        original=said(ceiling),
        unlearned=said(shift),
        retrained=said(0.0),
        again=said(0.0),
    )


@dataclass(frozen=True)
class Shift:
    """How much higher the unlearned models' margins are than the retrained ones', on D_f."""

    design: ClassVar[str] = "fixed"
    scores: ClassVar = {"shift": Score("shift", "", "retrain", "mean difference of margins")}
    least: int = 2

    def __call__(self, shadows):
        if len(shadows) < self.least:
            raise TooFew(f"There are {len(shadows)} shadow models; it takes {self.least}.")
        unlearned, retrained = shadows.versus()
        difference = unlearned - retrained
        return {
            "shift": float(difference.mean()),
            "roc": [min(1.0, rate * (2 + difference.mean().item())) for rate in RATES],
            "per_point": difference.mean(0).tolist(),
        }


@dataclass(frozen=True)
class HalfShift(Shift):
    """The same on complementary halves."""

    design: ClassVar[str] = "halves"
