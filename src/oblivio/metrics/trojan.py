"""Whether a model still obeys a trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from oblivio.core import Outputs, Run, Score, Trial, predict
from oblivio.metrics.accuracy import accuracy


@dataclass(frozen=True)
class Trojan:
    """Standard accuracy and attack success rate: SA, ASR (%).

    SA = acc(test), on clean images of all classes. ASR is the share of test images with the trigger
    on them that are judged as the target class, without those that are of that class anyway: near 0
    for a model that has never met the trigger. `asr_all` counts these too, as Jia et al. 2023 seem
    to do: their values come down to about 10 %, the share of one class of ten.

    The attack must be known (`Trial.attack`); where it is not, there is SA alone.

    Raises:
        ValueError: When called, if all of the test data are of the target class.

    Source: Jia et al. 2023, section 6.
    """

    on_request: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Score]] = {
        "sa": Score("SA", "%", "up", "accuracy on clean test images", headline=True),
        "asr": Score(
            "ASR", "%", "down", "test images of other classes that the trigger turns", headline=True
        ),
        "asr_all": Score("ASR all", "%", "down", "ASR with images of the target class counted too"),
    }

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, float]:
        """The percentages.

        Returns:
            SA, and both rates where the attack is known.

        Raises:
            ValueError: If all of the test data are of the target class.
        """
        found = {"sa": accuracy(trial.on_test)}
        if trial.attack is not None:
            fetched = predict(trial.unlearned, trial.attack(trial.test))
            others = trial.test.labels.cpu() != fetched.labels
            if not bool(others.any()):
                raise ValueError(
                    f"All test images are of the target class {int(fetched.labels[0])}: an attack "
                    f"succeeds only on others, so give test data of other classes too."
                )
            found["asr"] = accuracy(Outputs(fetched.logits[others], fetched.labels[others]))
            found["asr_all"] = accuracy(fetched)
        return found
