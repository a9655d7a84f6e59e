"""A judge: a classifier trained on real images, which says what generated images show.

Two judges never know of each other: "method" is what a method may ask while it forgets, "report" is
what metrics ask afterwards. They are other networks from other seeds, so that a method cannot learn
to please the judge that reports. Neither owes anything to the seed of a run.

h(x)      what goes into the judge's last layer: its features of x
y(x)      the class that it calls x
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from oblivio.catalogue import unknown
from oblivio.core import Data, Run, derive, seeded
from oblivio.data.arrays import Arrays, Augment, batch_starts
from oblivio.data.source import stratified
from oblivio.files import weights_digest, write_whole
from oblivio.generative import Images
from oblivio.models.cnn import CNN
from oblivio.train import Recipe, fit

Role = Literal["report", "method"]

NETWORKS: Mapping[Role, CNN] = {
    "report": CNN(channels=(32, 64), hidden=128),
    "method": CNN(channels=(16, 32), hidden=64),
}
SEEDS: Mapping[Role, int] = {"report": 1, "method": 2}
STEPS, LONGER, MOST_EPOCHS = 800, 4000, 50
"""A judge knows digits and MNIST after 800 steps; one that does not know its data then (`GOOD`) is
trained anew for longer, as for CIFAR-10. Small data are never seen more than 50 times."""
GOOD = 95.0
TRAINING = Recipe(
    lr=3e-3,
    batch_size=64,
    optimizer="adam",
    weight_decay=0.0,
    schedule="one_cycle",
    augment=False,
)
"""How a small classifier learns images in [-1, 1], in as many epochs as are asked for."""
HELD_OUT = 10  # one in so many examples is kept out of a judge's training
KEY, FORMAT = "oblivio.judge", 1

_made: dict[tuple[str, torch.device], Judge] = {}
"""The judges of this process, by digest and device; the oldest make room."""
MOST_MADE = 8


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of real images, in eval mode, that is used and never changed.

    Args:
        model: Layers in a row, of which the last gives the logits.
        accuracy: How many of the held-out examples it calls what they are, in percent.
        digest: Of its role, network, training and data.
    """

    model: nn.Sequential
    accuracy: float
    digest: str

    @property
    def classes(self) -> int:
        """How many it knows."""
        return cast(nn.Linear, self.model[-1]).out_features

    @torch.no_grad()
    def features(self, images: Images, *, batch_size: int | None = None) -> Float[Tensor, "n d"]:
        """h(x), what goes into the last layer: a row per image, float32, on the CPU."""
        body, device = self.model[:-1], next(self.model.parameters()).device
        size = batch_size or (256 if device.type == "cpu" else 2048)
        return torch.cat([body(some.to(device)).float().cpu() for some in images.split(size)])

    def classes_of(self, images: Images, *, batch_size: int | None = None) -> Int64[Tensor, " n"]:
        """y(x): the classes that it calls the images, on the CPU."""
        return self.called(self.features(images, batch_size=batch_size))

    def probabilities(self, images: Images) -> Float[Tensor, "n k"]:
        """p(k | x): how probable each class is to it, a row per image, float32, on the CPU."""
        return self._logits(self.features(images)).softmax(1).cpu()

    def called(self, features: Float[Tensor, "n d"]) -> Int64[Tensor, " n"]:
        """The classes that follow from features, on the CPU."""
        return self._logits(features).argmax(1).cpu()

    @torch.no_grad()
    def _logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """What the last layer makes of features, on the judge's device."""
        last = self.model[-1]
        return last(features.to(next(last.parameters()).device))


def judge(data: Data, run: Run, role: Role) -> Judge:
    """The judge of this role that knows this data; trained once.

    Kept in the process and, where the run says where weights stand (`run.beside`), in their folder.
    It depends on the examples and the precision alone: not on their order, nor on the run's seed
    or mask.

    Args:
        data: Real images in [-1, 1] with labels; they are not augmented.
        run: Where to train and to judge.
        role: Who asks.

    Returns:
        The judge, on the run's device, for all who ask.

    Raises:
        ValueError: If there is no such role, or the data are not images of two classes or more.
    """
    if role not in get_args(Role):
        raise ValueError(unknown("role", role, get_args(Role)))
    known = whole(data)
    if len(known.labels.unique()) < 2:
        raise ValueError(
            f"All {len(known)} images have label {int(known.labels[0])}, so there is nothing that "
            "a judge could learn to tell apart: give images of two classes or more."
        )
    recipes = _recipes(len(known))
    digest = _digest(known, role, recipes, run)
    key, name = (digest, run.device), f"judge-{role}.{digest}.safetensors"
    path = None if run.beside is None else run.beside.parent / name
    if key not in _made:
        found = _read(path, known, role, digest, run) if path and path.is_file() else None
        _made[key] = found or _learned(known, role, recipes, digest, run)
        for old in list(_made)[:-MOST_MADE]:
            del _made[old]
        if path and found is None:
            _write(path, _made[key])
    elif path and not path.is_file():  # it is known from another folder
        _write(path, _made[key])
    return _made[key]


def whole(*parts: Data) -> Arrays:
    """All of these parts' examples together, in the order of their ids, without augmentation.

    Returns:
        Tensors: as the parts hold them where all hold them alike, else as a network sees them.
    """
    held = [part for part in parts if isinstance(part, Arrays)]
    ways = {(part.mean, part.std, part.inputs.dtype, part.inputs.device) for part in held}
    if len(held) < len(parts) or len(ways) > 1:
        held = []
        for part in parts:
            inputs = torch.cat([batch.inputs.cpu() for batch in part.batches(1024)])
            held.append(Arrays(inputs, part.labels.cpu(), part.ids.cpu()))
    ids = torch.cat([part.ids for part in held])
    together = replace(
        held[0],
        inputs=torch.cat([part.inputs for part in held]),
        labels=torch.cat([part.labels for part in held]),
        ids=ids,
        augment=Augment(),
    )
    sorted_ = bool((ids.diff() > 0).all())  # as they are in most data: nothing need be copied
    return together if sorted_ else together.take(ids.argsort(stable=True))


# --- How a judge comes to be --------------------------------------------------------------------


def _recipes(examples: int) -> list[Recipe]:
    """About so many steps of Adam, whatever the number of examples: first few, then more."""
    steps = len(batch_starts(examples - examples // HELD_OUT, TRAINING.batch_size))
    epochs = {min(max(1, round(total / steps)), MOST_EPOCHS) for total in (STEPS, LONGER)}
    return [replace(TRAINING, epochs=n) for n in sorted(epochs)]


def _learned(known: Arrays, role: Role, recipes: Sequence[Recipe], digest: str, run: Run) -> Judge:
    """One that knows the data well, after the shortest training that will do, or the longest."""
    found = _trained(known, role, recipes[0], digest, run)
    for recipe in recipes[1:]:
        if found.accuracy < GOOD:
            found = _trained(known, role, recipe, digest, run)
    return found


def _trained(known: Arrays, role: Role, recipe: Recipe, digest: str, run: Run) -> Judge:
    """Train it on all but a stratified tenth, by which it is judged itself."""
    held = stratified(known.labels, max(1, len(known) // HELD_OUT))
    labels = known.labels.cpu()
    left = labels.bincount() - labels[held].bincount(minlength=int(labels.max()) + 1)
    held = held[left[labels[held]] > 0]  # no class loses its last example
    rest = torch.ones(len(known), dtype=torch.bool)
    rest[held] = False
    own = Run(run.fabric, seed=derive(SEEDS[role], "order"))  # nothing else of the run's
    taught, model = known.take(torch.where(rest)[0]).to(run.device), _network(known, role)
    with seeded(derive(SEEDS[role], "training")):
        fit(model, taught, recipe, own)
    made = Judge(_ready(model), 0.0, digest)
    batches = known.take(held).batches(1024)
    right = sum(int((made.classes_of(x) == y.cpu()).sum()) for x, y, _ in batches)
    return replace(made, accuracy=100 * right / len(held) if len(held) else math.nan)


def _network(known: Arrays, role: Role) -> nn.Sequential:
    """The untrained network."""
    with seeded(derive(SEEDS[role], "weights")):
        made = NETWORKS[role](known.shape, int(known.labels.max()) + 1)
    return cast(nn.Sequential, made)


def _ready(model: nn.Sequential) -> nn.Sequential:
    """In eval mode, without gradients, its channels last, which is up to four times as fast."""
    model.eval().requires_grad_(False).zero_grad(set_to_none=True)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _digest(known: Arrays, role: Role, recipes: Sequence[Recipe], run: Run) -> str:
    """Of all that decides how it judges."""
    content = weights_digest({"ids": known.ids, "labels": known.labels, "inputs": known.inputs})
    axes = (
        FORMAT,
        role,
        NETWORKS[role],
        SEEDS[role],
        GOOD,
        recipes,
        known.mean,
        known.std,
        content,
        *(() if run.precision == "32-true" else (run.precision,)),
    )
    return hashlib.sha256(repr(axes).encode()).hexdigest()[:16]


# --- On the disk --------------------------------------------------------------------------------


def _write(path: Path, judge: Judge) -> None:
    """Keep it, whole or not at all."""
    from safetensors.torch import save

    state = {name: value.cpu().contiguous() for name, value in judge.model.state_dict().items()}
    about = json.dumps({"accuracy": judge.accuracy, "weights": weights_digest(state)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(state, metadata={KEY: about}))


def _read(path: Path, known: Arrays, role: Role, digest: str, run: Run) -> Judge | None:
    """The judge that is kept; None if the file is damaged."""
    from safetensors import SafetensorError, safe_open

    model = _network(known, role)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # ruff: ignore[in-dict-keys]
        if about["weights"] != weights_digest(state):
            return None
        model.load_state_dict(state)
        accuracy = float(about["accuracy"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None
    return Judge(_ready(model.to(run.device)), accuracy, digest)


# --- How far two sets of images are apart -------------------------------------------------------


def frechet_distance(one: Float[Tensor, "n d"], two: Float[Tensor, "m d"]) -> float:
    """The squared Fréchet distance between the normal distributions that fit two sets of features.

        d² = ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½),   tr (C₁ C₂)^½ = tr (C₁^½ C₂ C₁^½)^½

    The right-hand side is symmetric, so that its eigenvalues are real whatever the rounding. In
    float64. Source: Dowson and Landau (1982), equation 4; Heusel et al. (2017) compare GANs by it,
    in the features of another network, which is why this is not their "FID".

    Args:
        one: A row per image.
        two: A row per image.

    Returns:
        The distance; 0 where the two are the same, up to rounding.

    Raises:
        ValueError: If there are fewer than two images in one of the sets.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> frechet_distance(x, x + 3)
        9.0
    """
    if min(len(one), len(two)) < 2:
        raise ValueError(
            f"A Fréchet distance needs two images or more of each kind, not {len(one)} and "
            f"{len(two)}."
        )
    a, b = one.double(), two.double()
    first, second = torch.atleast_2d(torch.cov(a.T)), torch.atleast_2d(torch.cov(b.T))
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return max(float(apart + first.trace() + second.trace() - 2 * shared), 0.0)  # NaN stays NaN
