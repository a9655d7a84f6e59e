"""The cleansing of a Trojan model: find the poisoned images, forget them, and judge what is left.

before    θ_o, trained on D_f ∪ D_r, where D_f bears a trigger and the label of the attacker
found     D_f: by ids that are known, by the trigger itself, or by its spectral signature
after     θ_u = U(θ_o, D_f, D_r)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from oblivio.core import Data, Method, Run, Split, Trial, predict, unlearn
from oblivio.data.attack import Attack
from oblivio.methods.deepclean import DeepClean
from oblivio.methods.l1_sparse import L1Sparse
from oblivio.metrics._features import Penultimate
from oblivio.metrics.accuracy import accuracy
from oblivio.metrics.trojan import Trojan
from oblivio.train import Recipe

GONE = 5.0
"""Of a hundred poisoned images, how many a cleansed model may still judge as the attacker wants."""

DEAR = 3.0
"""How many points of accuracy on clean training images cleansing may cost."""

Ids = Int64[Tensor, " k"]


# --- Who is poisoned ----------------------------------------------------------------------------


def bearers(attack: Attack, train: Data) -> Ids:
    """The ids of images of the target class that bear the trigger: it leaves them as they are.

    Args:
        attack: The trigger and the target. A trigger that changes an image each time it is put on,
            such as a blended pattern, cannot be found so.
        train: The training data as they are, without random transforms.

    Returns:
        Ids, in the order of the data.

    Raises:
        ValueError: If no image bears it.
    """
    pairs = zip(train.batches(256), attack(train).batches(256), strict=True)
    same = torch.cat([(a.inputs == b.inputs).flatten(1).all(1).cpu() for a, b in pairs])
    found = train.ids[same & (train.labels == attack.target)]
    if len(found) == 0:
        raise ValueError(
            f"No training image of class {attack.target} bears the trigger: check its settings, or "
            f"name the poisoned images by their ids."
        )
    return found


def outliers(features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The spectral signature of a class: how far each example is from the mean where it matters.

    τ_i = ((R(x_i) − R̂) · v)²,  with v the top right singular vector of the rows R(x_i) − R̂

    and R̂ the mean of the features R(x_i).

    Returns:
        τ, in the order of the features.

    Source: Tran, Li and Madry 2018, "Spectral signatures in backdoor attacks", algorithm 1.
    """
    centred = features.double() - features.double().mean(0)
    v = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    return (centred @ v).square().to(features.dtype)


def suspects(model: nn.Module, train: Data, target: int, share: float = 0.5) -> Ids:
    """The images of a class that an attacker may have given their label: those with the largest τ.

    For a person to look at, not to be forgotten unseen. On digits, of the first 20 suspects 58 to
    98 % were poisoned, so that the trigger shows at a glance; but half of a class held no more than
    51 to 80 % of its poisoned images (docs/results.md), and from those that stay in D_r a method
    that trains on it learns the trigger again.

    Args:
        model: That may be poisoned; its penultimate features are looked at.
        train: What it was trained on.
        target: The class that its trigger fetches.
        share: How much of the class to suspect.

    Returns:
        Ids, the most suspicious first.

    Raises:
        ValueError: If the share is out of range, or the class has fewer than three images.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share {share} must lie between 0 and 1.")
    own = train.take(torch.where(train.labels == target)[0])
    if len(own) < 3:
        raise ValueError(f"Class {target} has {len(own)} training images; it takes three or more.")
    rising = outliers(predict(Penultimate(model), own).logits).argsort(stable=True)
    return own.ids[rising.flip(0)[: max(1, round(share * len(own)))]]


# --- The cleansing ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cleansed:
    """A model without its Trojan, and how that came to be.

    Args:
        model: The cleansed model.
        method: What made it forget.
        seconds: How long all attempts took.
        attempts: How many there were.
        before: Percentages of the model as it was; see `judge`.
        after: Percentages of the cleansed model.
    """

    model: nn.Module
    method: Method
    seconds: float
    attempts: int
    before: dict[str, float]
    after: dict[str, float]

    @property
    def gone(self) -> bool:
        """Whether the poisoned images are forgotten, and accuracy is not."""
        return self.after["obeys"] <= GONE and self.before["ra"] - self.after["ra"] <= DEAR


def judge(model: nn.Module, split: Split, test: Data, attack: Attack | None) -> dict[str, float]:
    """How a model does, in percent.

    Returns:
        `sa`: accuracy on the test data. `ra`: accuracy on the clean training data. `obeys`: the
        share of the poisoned training images that are judged as they are labelled. Where the attack
        is known, `asr` and `asr_all`; see `oblivio.metrics.trojan`.
    """
    trial = Trial(model, model, split, test, attack=attack)
    found = {"ra": accuracy(trial.on_retain), "obeys": accuracy(trial.on_forget)}
    return {**Trojan()(trial, Run.on("cpu")), **found}


def attempts(recipe: Recipe) -> Iterator[Method]:
    """What to try in turn: ℓ1-sparse fine-tuning at rising rates, then DeepClean.

    Convolutional networks let go of a trigger by the first, fully connected ones by the second
    (docs/results.md).

    Args:
        recipe: Of the training of the model.

    Yields:
        ℓ1-sparse, ten epochs at 0.1, 1 and 3 times the training's rate with γ = 5e-4, and with
        1e-3 at the last of these; DeepClean of 10 % and 20 % of the weights, five epochs at the
        training's rate.
    """
    for factor, gamma in ((0.1, 5e-4), (1.0, 5e-4), (3.0, 5e-4), (3.0, 1e-3)):
        rate = float(f"{factor * recipe.lr:.3g}")
        yield L1Sparse(replace(recipe, epochs=10, lr=rate, schedule="constant"), gamma=gamma)
    short = replace(recipe, epochs=5, weight_decay=0.0, schedule="cosine")
    for share in (0.1, 0.2):
        yield DeepClean(share=share, recipe=short)


def cleanse(
    model: nn.Module,
    split: Split,
    test: Data,
    run: Run,
    methods: Iterable[Method],
    attack: Attack | None = None,
) -> Cleansed:
    """Forget poisoned images by the first of several methods that manages to.

    A method manages where at most `GONE` % of D_f are judged as the attacker wants and the accuracy
    on D_r falls by at most `DEAR` points. Neither test data nor the trigger have a say in that.
    Where none manages, the one is taken that obeys least among those whose accuracy holds, or,
    if none holds, the one whose accuracy falls least.

    Args:
        model: The poisoned model, which is left as it is.
        split: What is poisoned, and what is clean.
        test: Clean data that the model was not trained on.
        run: Where, and with which seed.
        methods: In the order in which to try, each on the poisoned model; see `attempts`.
        attack: The trigger and its target, to judge by, where they are known.

    Returns:
        The cleansed model and how it does.

    Raises:
        ValueError: If there is no method that comes to an end.
    """
    before, tried, seconds = judge(model, split, test, attack), [], 0.0
    for method in methods:
        try:
            outcome = unlearn(method, model, split, run)
        except FloatingPointError:  # its rate is too high
            continue
        seconds += outcome.seconds
        after = judge(outcome.model, split, test, attack)
        tried.append(Cleansed(outcome.model, method, seconds, len(tried) + 1, before, after))
        if tried[-1].gone:
            return tried[-1]
    if not tried:
        raise ValueError(
            "No method came to an end: there is none, or the loss of all is no longer a number; "
            "give methods with smaller learning rates."
        )
    best = min(tried, key=_failing)
    return replace(best, seconds=seconds, attempts=len(tried))


def _failing(one: Cleansed) -> tuple[bool, float]:
    """What is wrong with a model that is not cleansed: the smaller, the better."""
    lost = one.before["ra"] - one.after["ra"]
    return (True, lost) if lost > DEAR else (False, one.after["obeys"])
