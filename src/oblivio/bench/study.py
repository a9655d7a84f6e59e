"""The book of a search: which trials there were, what came of them, and which is next (Optuna)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler, TPESampler
    from optuna.storages import BaseStorage, JournalStorage, get_storage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as error:
    raise ValueError(
        "Searching needs Optuna, which is not installed: pip install 'oblivio[tune]'."
    ) from error

from oblivio.bench.estimate import Estimate, Point, estimate
from oblivio.bench.space import Choice, Search
from oblivio.core import derive

STARTUP = 6
"""Trials before TPE has enough to go by: those before it are drawn at random."""
OUTCOME = "outcome"

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Outcome:
    """What came of one trial.

    Args:
        number: Which trial it was, from 0 on.
        settings: What was tried, by dotted name.
        gaps: The average gap to retrain by search seed, a mean over all cases.
        cases: The average gap by case, a mean over the search seeds.
        rte: The method's seconds as a share of retrain's, where that is largest.
        seconds: How long the method took, on average.
        reason: Why the settings are out of the question, in one line; None if they are not.
    """

    number: int
    settings: dict[str, Any]
    gaps: dict[str, float] = field(default_factory=dict)
    cases: dict[str, float] = field(default_factory=dict)
    rte: float | None = None
    seconds: float | None = None
    reason: str | None = None

    @property
    def gap(self) -> Estimate | None:
        """The average gap with its interval over the search seeds; None if it is not known."""
        return estimate(Point(int(seed), value, "") for seed, value in self.gaps.items())


def opened(url: str | None, folder: Path) -> BaseStorage:
    """Where studies are kept: a database for many machines, or a file in the folder.

    Args:
        url: A database as SQLAlchemy names it; None is the file.
        folder: Of the search.

    Returns:
        The storage.

    Raises:
        ValueError: If the database cannot be opened.
    """
    if url is None:
        return JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    try:
        return get_storage(url)
    except Exception as error:  # the driver's own, which may be of any kind
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"The storage cannot be opened: {why}") from error


class Book:
    """One method's trials in a storage, which several processes may share.

    A trial is begun, and later closed with its outcome. One that was begun by a process that is no
    more is taken up again with the same settings.

    Args:
        storage: Where.
        name: Of the study; equal names mean equal questions.
        search: What is searched.
        alone: Whether no other process writes to the storage, so that what is open was left.
    """

    def __init__(self, storage: BaseStorage, name: str, search: Search, *, alone: bool) -> None:
        self.search, self.alone = search, alone
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            sampler=ByNumber(search.starts, name),
            load_if_exists=True,
        )

    def begin(self, budget: int) -> tuple[int, dict[str, Any]] | None:
        """Begin the next trial, or take one up that was left open.

        What is open comes first where no other process can be at it, else last.

        Args:
            budget: How many trials there may be.

        Returns:
            The trial's number and settings; None if there is none left.
        """
        trials = self.study.get_trials(deepcopy=False)
        own = [t for t in trials if t.state == TrialState.RUNNING and t.number < budget]
        if own and (self.alone or len(trials) >= budget):
            return self._settled(Trial(self.study, own[0]._trial_id))
        if len(trials) >= budget:
            return None
        trial = self.study.ask()
        # Another process may have been quicker: then this one stays open for a larger budget.
        return self._settled(trial) if trial.number < budget else self.begin(budget)

    def _settled(self, trial: Trial) -> tuple[int, dict[str, Any]]:
        """A trial's settings; the sampler does not hear of a start outside of the space."""
        starts, space = self.search.starts, self.search.space
        if trial.number < len(starts) and not self.search.holds(starts[trial.number]):
            return trial.number, dict(starts[trial.number])
        return trial.number, {name: _suggested(trial, name, own) for name, own in space.items()}

    def close(self, outcome: Outcome) -> None:
        """Write a trial's outcome down; if another process was quicker, its own stands."""
        by_number = {t.number: t for t in self.study.get_trials(deepcopy=False)}
        trial = Trial(self.study, by_number[outcome.number]._trial_id)
        value = None if outcome.gap is None or outcome.reason else outcome.gap.mean
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        if set(trial.params) != set(self.search.space):
            value, state = None, TrialState.FAIL  # which samplers pass over
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr(OUTCOME, vars(outcome))
            self.study.tell(outcome.number, value, state, skip_if_finished=True)

    def outcomes(self, budget: int) -> list[Outcome]:
        """What came of the trials that the budget pays for, in their order."""
        trials = self.study.get_trials(deepcopy=False)[:budget]
        return [Outcome(**t.user_attrs[OUTCOME]) for t in trials if t.state.is_finished()]


class ByNumber(BaseSampler):
    """Settings that depend on a trial's number and on the trials before it, on nothing else.

    The first are given; then come random ones, then the tree-structured Parzen estimator's. Each
    number has a seed of its own, so that an interrupted search goes on as if it had not been.

    Source: Bergstra, Bardenet, Bengio and Kégl 2011 (TPE), as Optuna has it.
    """

    def __init__(self, starts: Sequence[Mapping[str, Any]], name: str) -> None:
        self.starts, self.name = starts, name

    def _at(self, trial: FrozenTrial, *axes: object) -> TPESampler:
        seed = derive(0, "tune", self.name, trial.number, *axes) % 2**32
        return TPESampler(n_startup_trials=STARTUP, seed=seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What is drawn at once: nothing of a trial that is given."""
        if trial.number < len(self.starts):
            return {}
        return self._at(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw several settings at once."""
        if trial.number < len(self.starts):
            return {}
        return self._at(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one setting."""
        if trial.number < len(self.starts):
            return self.starts[trial.number][param_name]
        one = self._at(trial, param_name)
        return one.sample_independent(study, trial, param_name, param_distribution)


def _suggested(trial: Trial, name: str, own: Any) -> Any:
    """A setting of a trial, from its range or choice."""
    if isinstance(own, Choice):
        return trial.suggest_categorical(name, own.values)
    if own.whole:
        return trial.suggest_int(name, int(own.low), int(own.high), log=own.log)
    return trial.suggest_float(name, own.low, own.high, log=own.log)
