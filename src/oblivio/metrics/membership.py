"""Membership inference: how much of the forget set an attack takes for data never trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from oblivio.core import Outputs, Run, Score, Trial, derive
from oblivio.metrics._attack import attack

# Smallest argument of a logarithm.
SMALLEST = 1e-12


@dataclass(frozen=True)
class Membership:
    """Membership inference attacks on D_f, in percent: 100 · TN / |D_f|.

    TN is the number of examples of D_f that the attack calls non-members. The attack is a support
    vector classifier, fitted to tell members, a random sample of D_r, from non-members, the test
    data without classes that are forgotten as a whole. Both have as many examples: if D_r has
    fewer than the test data, a random sample of the test data is taken. With p the softmax
    probabilities and y the true class, the attacks differ in what they look at:

        efficacy:          p_y, how confident the model is; what papers print as "MIA"
        correctness:       1 if argmax p = y, else 0
        entropy:           −Σ_c p_c log p_c
        modified_entropy:  see `modified_entropy`
        probability:       p, the whole vector

    None of them is better the higher it is: the retrained model's value is the target.

    The power is the share of members and of non-members that the confidence attack itself tells
    right, on average of the two, on the data it was fitted to: 50 is a coin. Where a model treats
    members and test data alike, nothing decides which side of a threshold the attack calls members,
    and its answer on D_f can be anything from 0 to 100: mind the power before the efficacy.

    Args:
        penalty: The C of the classifier.

    Raises:
        ValueError: If the penalty is not above 0; when called, if no test data are left once the
            forgotten classes are taken out.

    Source: Jia et al. 2023, section 3; the features are Song & Mittal 2021's. Where they leave it
    open, the sample is drawn from the run's seed, and probabilities are in float64.
    """

    penalty: float = 3.0

    scores: ClassVar[Mapping[str, Score]] = {
        "mia_efficacy": Score(
            "MIA", "%", "retrain", "forget set called unseen, by confidence", headline=True
        ),
        "mia_correctness": Score(
            "MIA correctness", "%", "retrain", "forget set called unseen, by right or wrong"
        ),
        "mia_entropy": Score("MIA entropy", "%", "retrain", "forget set called unseen, by entropy"),
        "mia_modified_entropy": Score(
            "MIA modified entropy", "%", "retrain", "forget set called unseen, by modified entropy"
        ),
        "mia_probability": Score(
            "MIA probability", "%", "retrain", "forget set called unseen, by all probabilities"
        ),
        "mia_power": Score(
            "MIA power", "%", "retrain", "what the confidence attack tells right; 50 is a coin"
        ),
    }

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise ValueError(f"penalty = {self.penalty} must be above 0.")

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """The six percentages."""
        if len(trial.unseen) == 0:
            raise ValueError(
                f"All {len(trial.test)} test examples belong to classes that are forgotten as a "
                "whole, so the attack has no non-members to learn from; give test data that hold "
                "other classes too."
            )
        draw = torch.Generator().manual_seed(derive(run.seed, "membership"))
        size = min(len(trial.on_retain.labels), len(trial.on_unseen.labels))
        members = features(_sample(trial.on_retain, size, draw))
        nonmembers = features(_sample(trial.on_unseen, size, draw))
        targets = features(trial.on_forget)
        attacks = {
            name: attack(members[name], nonmembers[name], penalty=self.penalty) for name in targets
        }
        confidence = attacks["efficacy"]
        right = 100 - confidence(members["efficacy"]) + confidence(nonmembers["efficacy"])
        rates = {f"mia_{name}": rate(targets[name]) for name, rate in attacks.items()}
        return {**rates, "mia_power": right / 2}


def _sample(outputs: Outputs, size: int, draw: torch.Generator) -> Outputs:
    """So many examples drawn without replacement; all of them, untouched, if there are no more."""
    if len(outputs.labels) == size:
        return outputs
    chosen = torch.randperm(len(outputs.labels), generator=draw)[:size]
    return Outputs(outputs.logits[chosen], outputs.labels[chosen])


# --- What an attack looks at --------------------------------------------------------------------


def features(outputs: Outputs) -> dict[str, Float[Tensor, "n ..."]]:
    """What the five attacks look at, by name, in float64; see `Membership`."""
    logits, labels = outputs
    p = logits.double().softmax(1)
    return {
        "efficacy": p.gather(1, labels[:, None]).flatten(),
        "correctness": (logits.argmax(1) == labels).double(),
        "entropy": torch.special.entr(p).sum(1),
        "modified_entropy": modified_entropy(p, labels),
        "probability": p,
    }


def modified_entropy(
    probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """An entropy that is small for confident right answers and large for confident wrong ones.

        M(p, y) = −(1 − p_y) log p_y − Σ_{c ≠ y} p_c log(1 − p_c)

    Arguments of the logarithms are at least 1e-12, so that M is at most about 55.

    Args:
        probabilities: p, rows that sum to 1.
        labels: y, the true classes.

    Returns:
        One number per example, 0 or more.

    Example:
        >>> p = torch.tensor([[0.9, 0.1], [0.9, 0.1]], dtype=torch.float64)
        >>> [round(m, 4) for m in modified_entropy(p, torch.tensor([0, 1])).tolist()]
        [0.0211, 4.1447]

    Source: Song & Mittal 2021.
    """
    p = probabilities
    of_true = torch.arange(p.shape[1], device=p.device) == labels[:, None]
    # Both kinds of term are −(1 − q) log q: q = p_y for the true class, q = 1 − p_c for the others.
    q = torch.where(of_true, p, 1 - p)
    return -((1 - q) * q.clamp_min(SMALLEST).log()).sum(1)


# --- The attack ---------------------------------------------------------------------------------
