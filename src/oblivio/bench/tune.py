"""The search for a method's settings, with the same budget for each and without a look at the test.

The objective of settings u is how far a method with them is from retrain, as a report has it:

    J(u) = mean over search seeds i and cases k of a_ik(u),

with a_ik the average gap over the headline scores (see `oblivio.bench.stats`). What it is computed
on, a search experiment, shares neither test data nor seeds nor forget sets with the experiment that
results are reported on (see `oblivio.bench.held_out`). Its cells are ordinary ones, so that they
are kept, and a search that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from oblivio.bench.cell import source_of
from oblivio.bench.event import Event, Listener, sentence
from oblivio.bench.held_out import search_seeds, stand_ins, table
from oblivio.bench.run import check, plan, run
from oblivio.bench.space import Search, searches
from oblivio.bench.spec import Experiment, Table, canonical, complete, digest
from oblivio.bench.stats import ORIGINAL, RETRAIN, Results, summarise
from oblivio.bench.store import Record, Store
from oblivio.bench.study import Book, Outcome, opened
from oblivio.bench.tuned import Found, Rule, Tuning, in_words
from oblivio.catalogue import find

BASELINES = (ORIGINAL, RETRAIN)


def tune(
    experiment: Experiment,
    store: Store,
    rule: Rule,
    *,
    tell: Listener,
    jobs: int = 1,
    storage: str | None = None,
) -> Tuning:
    """Search the settings of an experiment's methods, in rounds of one trial for each method.

    Args:
        experiment: A resolved one.
        store: Where results of trials are kept; equal ones are not computed again.
        rule: By what rule.
        tell: Hears of cells and, as events of kind "trial", of trials.
        jobs: How many cells run at once; what is tried does not depend on it.
        storage: A database that several machines share, as SQLAlchemy names it; None keeps the
            studies in the store's folder.

    Returns:
        What was tried and what is best. `write` puts it into the folder.

    Raises:
        ValueError: If there is nothing to search, or retrain fails.
    """
    wanted, unsearched = searches(experiment)
    asked, said = searching(experiment, rule)
    at, alone = opened(storage, store.folder), storage is None
    books = [Book(at, _name(one, asked, rule), one, alone=alone) for one in wanted]
    do = partial(run, store=store, jobs=jobs, tell=tell)
    tell(Event("search", "size", total=_cells_left(asked, store, books, rule)))
    original = _baseline(asked, do(asked), rule)
    while begun := [(book, *trial) for book in books if (trial := book.begin(rule.trials))]:
        for book, outcome in _tried(begun, asked, rule, do):
            book.close(outcome)
            tell(_told(book.search.label, outcome, rule.trials))
    found = tuple(Found(book.search, tuple(book.outcomes(rule.trials))) for book in books)
    return Tuning(experiment, asked, rule, tuple(said), original, found, tuple(unsearched))


def _name(search: Search, asked: Experiment, rule: Rule) -> str:
    """A study's name, which depends on all that an outcome depends on."""
    cells = [cell.key for cell in asked.cells()]
    return f"{search.label} {digest([cells, asked.metrics, rule.time_limit, repr(search)])}"


def _cells_left(asked: Experiment, store: Store, books: Sequence[Book], rule: Rule) -> int:
    """How many cells there are to do at most."""
    each = len(asked.cells()) // len(asked.methods)
    trials = sum(rule.trials - len(book.outcomes(rule.trials)) for book in books)
    return len(plan(asked, store).left) + each * trials


def searching(experiment: Experiment, rule: Rule) -> tuple[Experiment, list[str]]:
    """The experiment that settings are tried on, and what it shares with the given one.

    Args:
        experiment: What results are reported on, resolved.
        rule: By what rule to search.

    Returns:
        The search experiment, resolved and looked through, and sentences.

    Raises:
        ValueError: If a request cannot be made of it, or no metric has a headline score.
    """
    reported = experiment.seeds if isinstance(experiment.seeds, tuple) else ()
    seeds = search_seeds(reported, rule.seeds)
    metrics, headline = _judges(experiment.metrics)
    asked = Experiment(
        data=table(experiment.data, rule.share, seeds[0]),
        model={name: value for name, value in experiment.model.items() if name != "weights"},
        name=f"{experiment.name}-tune",
        title=f"Search of settings: {experiment.title}",
        train=experiment.train,
        pruners=experiment.pruners,
        methods=tuple({"name": name} for name in BASELINES),
        metrics=metrics,
        seeds=seeds,
        engine=experiment.engine,
        keep="originals",
    )
    scenarios, differ = stand_ins(experiment.scenarios, source_of(asked).train)
    asked = replace(asked, scenarios=scenarios).resolved()
    source = check(asked)
    sizes = (len(source.test), len(source.test) + len(source.train))
    cases = len({canonical([cell.scenario, cell.pruner]) for cell in asked.cells()})
    said = [
        f"The search never sees the test data: {sizes[0]:,} of {sizes[1]:,} training examples "
        f"({100 * rule.share:g} %, the same share of every class) stand in for them, and originals "
        f"are trained on the rest.",
        f"Nor does it see the seeds and forget sets that results are reported on: its seeds are "
        f"{', '.join(map(str, seeds))}, and they draw forget sets of their own.",
        *differ,
        f"It looks for the smallest average gap to retrain, over {', '.join(headline)}: a mean "
        f"over {_counted(cases, 'case')} and {_counted(rule.seeds, 'seed')}. Every method has "
        f"{_counted(rule.trials, 'trial')}, its default as published the first.",
    ]
    if rule.time_limit is not None:
        said.append(f"What takes more than {rule.time_limit:g} of retrain's time is out.")
    return asked, said


def _counted(number: int, what: str) -> str:
    """Such as "3 seeds"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _judges(metrics: Iterable[Table]) -> tuple[tuple[Table, ...], list[str]]:
    """The metrics that have headline scores, and time; and these scores' labels."""
    scores = [(metric, find("metrics", str(metric["name"])).scores) for metric in metrics]
    own = [metric for metric, of in scores if any(score.headline for score in of.values())]
    if not own:
        raise ValueError(
            "There is nothing to search by: none of the experiment's metrics has a headline score; "
            'give one, such as metrics = ["accuracy"].'
        )
    labels = [score.label for _, of in scores for score in of.values() if score.headline]
    return (*own, {"name": "time"}), labels


def _baseline(asked: Experiment, records: Sequence[Record], rule: Rule) -> Outcome:
    """What not forgetting scores, once original and retrain are there."""
    for record in records:
        if record["status"] != "done":
            why = record.get("reason") or "for no known reason"
            raise ValueError(f"{record['cell']['method']['name']} fails in the search: {why}")
    return _judged(0, {}, asked.methods[0], records, asked, rule)


def _tried(
    begun: Sequence[tuple[Book, int, dict[str, Any]]],
    asked: Experiment,
    rule: Rule,
    do: Callable[[Experiment], list[Record]],
) -> list[tuple[Book, Outcome]]:
    """One trial of each of several methods, their cells side by side."""
    tables = [_completed(book.search, settings, asked.family) for book, _, settings in begun]
    methods = tuple(method for method in tables if not isinstance(method, str))
    asked = replace(asked, methods=(*asked.methods, *methods))
    records = do(asked) if methods else []
    return [
        (
            book,
            Outcome(number, settings, reason=method)
            if isinstance(method, str)
            else _judged(number, settings, method, records, asked, rule),
        )
        for (book, number, settings), method in zip(begun, tables, strict=True)
    ]


def _completed(search: Search, settings: Mapping[str, Any], family: str) -> Table | str:
    """A method's table with these settings, or why they do not go together."""
    try:
        return complete(family, search.table(settings))
    except ValueError as error:
        return sentence(error)


def _judged(
    number: int,
    settings: dict[str, Any],
    method: Table,
    records: Sequence[Record],
    asked: Experiment,
    rule: Rule,
) -> Outcome:
    """How far a method is from retrain in all cells of the search experiment."""
    key = canonical(method)
    own = [record for record in records if canonical(record["cell"]["method"]) == key]
    results = summarise([r for r in records if r["cell"]["method"]["name"] == RETRAIN] + own)
    rows = {c.title: row for c in results.comparisons for row in c.rows if row.name != RETRAIN}
    points = [point for row in rows.values() if row.gap for point in row.gap.points]
    by_seed: dict[str, list[float]] = {}
    for point in points:
        by_seed.setdefault(str(point.seed), []).append(point.value)
    slowest = max((row.rte.mean for row in rows.values() if row.rte), default=None)
    times = [row.values["seconds"].mean for row in rows.values() if "seconds" in row.values]
    cells = sum(canonical(cell.method) == key for cell in asked.cells())
    return Outcome(
        number,
        settings,
        gaps={seed: sum(gaps) / len(gaps) for seed, gaps in sorted(by_seed.items())},
        cases={title: row.gap.mean for title, row in rows.items() if row.gap},
        rte=slowest,
        seconds=sum(times) / len(times) if times else None,
        reason=_missing(results, cells - len(points)) or _too_slow(slowest, rule.time_limit),
    )


def _missing(results: Results, cells: int) -> str | None:
    """Why cells have no gap, if some have none."""
    if not cells:
        return None
    return next((cell.reason for cell in results.unfinished), "a headline score is missing")


def _too_slow(rte: float | None, limit: float | None) -> str | None:
    """That a method takes too much of retrain's time, if it does."""
    if limit is None or (rte is not None and rte <= limit):
        return None
    return f"takes {rte or float('nan'):.2g} of retrain's time"


def _told(label: str, outcome: Outcome, trials: int) -> Event:
    """A trial as an event."""
    gap = "none" if outcome.gap is None else f"{outcome.gap.mean:.2f}"
    came = f"out: {outcome.reason}" if outcome.reason else f"average gap {gap}"
    text = f"{came} ({in_words(outcome.settings)})"
    return Event(label, "trial", text, outcome.number + 1, trials)
