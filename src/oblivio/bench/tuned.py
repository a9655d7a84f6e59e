"""What came of a search: the best settings, what there is to say of them, and the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from oblivio.bench.estimate import paired
from oblivio.bench.space import Search, put
from oblivio.bench.spec import Experiment, as_toml, canonical, complete, toml
from oblivio.bench.study import Outcome
from oblivio.files import write_whole


@dataclass(frozen=True)
class Rule:
    """By what rule to search.

    Args:
        trials: Settings tried of every method, its published default among them.
        seeds: Originals that each of them is tried on.
        share: The part of the training data that stands in for the test data.
        time_limit: The most time that a method may take, as a share of retrain's.

    Raises:
        ValueError: If a number is out of range.
    """

    trials: int = 20
    seeds: int = 3
    share: float = 0.2
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name, ok, range_ in (
            ("trials", self.trials >= 1, "1 or more"),
            ("seeds", self.seeds >= 1, "1 or more"),
            ("share", 0 < self.share < 1, "between 0 and 1"),
            ("time_limit", self.time_limit is None or self.time_limit > 0, "above 0"),
        ):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} must be {range_}.")


@dataclass(frozen=True)
class Found:
    """What came of one method's search."""

    search: Search
    outcomes: tuple[Outcome, ...]

    @property
    def best(self) -> Outcome | None:
        """The settings nearest to retrain, the earliest of equals; None if none are possible."""
        return _nearest(self.outcomes)

    @property
    def default(self) -> Outcome | None:
        """The published default, if the method has one."""
        return next((o for o in self.outcomes if o.settings == self.search.published), None)

    @property
    def given(self) -> Outcome | None:
        """The experiment's own settings; if they are several, the best."""
        return _nearest(o for o in self.outcomes if o.settings in self.search.given)

    def notes(self, original: Outcome) -> list[str]:
        """What to mind about the best settings, a sentence each.

        Args:
            original: What not forgetting scores.

        Returns:
            Sentences without a full stop.
        """
        best, out = self.best, sum(o.reason is not None for o in self.outcomes)
        if best is None or best.gap is None:
            return [f"no settings are possible, such as trial 1: {self.outcomes[0].reason}"]
        said = []
        for name, own in self.search.space.items():
            if (edge := own.edge(best.settings[name])) is not None:
                value = in_words({name: best.settings[name]})
                said.append(f"{value} lies at the {edge} edge of its range, {own}: try a wider one")
        for name, other in (("the default", self.default), ("what is given", self.given)):
            if best is other:
                said.append(f"nothing tried is better than {name}")
            elif other is not None and not _is_better(best, other):
                said.append(f"the best is not told apart from {name} by these seeds")
        if original.gap is not None and best.gap.mean >= original.gap.mean:
            said.append("no better than the original, which forgets nothing")
        if out:
            said.append(f"{out} of {len(self.outcomes)} trials failed, or took too long")
        return said


@dataclass(frozen=True)
class Tuning:
    """What came of a search.

    Args:
        experiment: What was searched for.
        asked: The search experiment, with its baselines as methods.
        rule: By which it was searched.
        said: What the search sees and what it does not, a sentence each.
        original: What not forgetting scores in the search experiment.
        found: What came of each method.
        unsearched: The methods without a search space, but for original and retrain.
    """

    experiment: Experiment
    asked: Experiment
    rule: Rule
    said: tuple[str, ...]
    original: Outcome
    found: tuple[Found, ...]
    unsearched: tuple[str, ...]

    @property
    def tuned(self) -> Experiment:
        """The experiment with the best settings of each method; tables that are equal now are one.

        It has another name, so that its results do not mix with the given experiment's.
        """
        own = {
            canonical(method): found.search.table(found.best.settings)
            for found in self.found
            if found.best is not None
            for method in found.search.methods
        }
        methods = [own.get(canonical(method), method) for method in self.experiment.methods]
        about = " ".join([self.experiment.about.strip(), "Settings by search.", *self.said])
        return replace(
            self.experiment,
            name=f"{self.experiment.name}-tuned",
            about=about.strip(),
            methods=tuple({canonical(method): method for method in methods}.values()),
        )

    def written(self) -> dict[str, Any]:
        """All trials as plain data."""
        return {
            "experiment": self.experiment.name,
            "rule": asdict(self.rule),
            "said": self.said,
            "seeds": self.asked.seeds,
            "scenarios": self.asked.scenarios,
            "original": asdict(self.original),
            "methods": [
                {
                    "method": found.search.label,
                    "tables": found.search.methods,
                    "space": {name: str(own) for name, own in found.search.space.items()},
                    "best": None if found.best is None else found.best.number,
                    "default": None if found.default is None else found.default.number,
                    "given": None if found.given is None else found.given.number,
                    "notes": found.notes(self.original),
                    "trials": [_with_interval(outcome) for outcome in found.outcomes],
                }
                for found in self.found
            ],
            "unsearched": self.unsearched,
        }


def write(tuning: Tuning, folder: Path) -> Path:
    """Write `tuned.toml`, `trials.json`, and the `experiment.toml` of all trials, for reports.

    Returns:
        The path of the tuned experiment.
    """
    tried = [
        complete(tuning.experiment.family, put(found.search.methods[0], outcome.settings))
        for found in tuning.found
        for outcome in found.outcomes
        if outcome.gaps
    ]
    asked = replace(tuning.asked, methods=(*tuning.asked.methods, *tried))
    write_whole(folder / "experiment.toml", as_toml(asked).encode())
    told = json.dumps(tuning.written(), indent=1, ensure_ascii=False)
    write_whole(folder / "trials.json", told.encode())
    path = folder / "tuned.toml"
    write_whole(path, toml(asdict(tuning.tuned)).encode())
    return path


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings in one line.

    Returns:
        Text, numbers with three digits.

    Example:
        >>> in_words({"recipe.lr": 0.012345, "recipe.epochs": 5})
        'recipe.lr = 0.0123, recipe.epochs = 5'
    """
    shown = ((k, f"{v:.3g}" if isinstance(v, float) else v) for k, v in settings.items())
    return ", ".join(f"{name} = {value}" for name, value in shown)


def _nearest(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The outcome with the smallest gap, the earliest of equals."""
    possible = [(o.gap.mean, o.number, o) for o in outcomes if o.gap and not o.reason]
    return min(possible)[2] if possible else None


def _is_better(one: Outcome, other: Outcome) -> bool:
    """Whether a smaller gap is told apart from an equal one, seed by seed, or there is no other."""
    change = paired(one.gap, other.gap)
    return change is None or (change.excludes(0) and change.mean < 0)


def _with_interval(outcome: Outcome) -> dict[str, Any]:
    """A trial as plain data, with its objective and the interval."""
    gap = outcome.gap
    told = {} if gap is None else {"gap": gap.mean, "low": gap.low, "high": gap.high}
    return {**asdict(outcome), **told}
