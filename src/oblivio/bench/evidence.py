"""Evidence: each request repeated with many shadow models, and what measures say of them.

A *case* is a scenario, a method, a seed and a design of shadow models. Its originals and retrained
models are the same for all methods: a *cast*, trained once, whose originals are kept as stacked
weights beside what all of them say of the points. A case's own are the unlearned models, of which
only the answers are kept. So a new measure judges what is there, and a run that was killed goes on.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oblivio.bench.calibrate import estimate, scale
from oblivio.bench.cell import prepare, split_of, trained_on, write
from oblivio.bench.event import Event, Listener, progress, sentence
from oblivio.bench.picture import pictures
from oblivio.bench.spec import Cell, Experiment, Table, canonical, digest
from oblivio.bench.store import Record, Store
from oblivio.catalogue import choose, find, names
from oblivio.core import Run, Split
from oblivio.game import Deal, References, assembled, deal, forgetful, originals, references
from oblivio.shadow import Answers, Shadows, TooFew

ENDS = ("original", "retrain", "retrain_again")
"""Methods that are the ceiling or the null of every case, and so are no case of their own."""

SHOWN = 12
"""How many of the most exposed examples are kept as pictures."""


@dataclass(frozen=True, eq=False)
class Case:
    """A cell's scenario, method and seed, repeated with the shadow models of a design."""

    cell: Cell
    design: str

    @cached_property
    def about(self) -> Table:
        """How many shadow models, of what design, and how many points they are asked about."""
        asked = self.cell.experiment.evidence
        return {"design": self.design, "models": asked.models, "points": asked.points}

    @cached_property
    def cast_key(self) -> str:
        """Names the originals and retrained models, which all methods share."""
        return digest(
            [self.cell.origin, self.cell.scenario, self.cell.files, *self.cell.apart, self.about]
        )

    @cached_property
    def key(self) -> str:
        """Names the record, and the unlearned models' answers."""
        return digest([self.cast_key, self.cell.method])

    @property
    def measures(self) -> list[Table]:
        """The measures that are defined for the design."""
        asked = self.cell.experiment.evidence.measures
        return [spec for spec in asked if find("evidence", spec["name"]).design == self.design]

    @property
    def task(self) -> str:
        """The cast in words."""
        return f"shadow models · {self.design} · {self.cell.scenario['name']} · " + " · ".join(
            self.cell.about_original
        )

    def __str__(self) -> str:
        return f"{self.cell} · {self.about['models']} shadow models, {self.design}"


def cases(experiment: Experiment) -> list[Case]:
    """The cases of an experiment, dense models only.

    Returns:
        Every design that a measure asks for with every cell of the first seeds.
    """
    asked = experiment.evidence
    if not asked.models:
        return []
    cells = experiment.cells()
    seeds = list(dict.fromkeys(cell.seed for cell in cells))[: asked.seeds]
    designs = dict.fromkeys(find("evidence", spec["name"]).design for spec in asked.measures)
    return [
        Case(cell, design)
        for design in designs
        for cell in cells
        if cell.seed in seeds and cell.pruner is None and cell.method["name"] not in ENDS
    ]


def told(record: Record | None, case: Case) -> bool:
    """Whether nothing is left to do for a case's record: every measure has spoken."""
    if record is None or record["status"] == "failed":
        return False
    spoken = [one["measure"] for one in record.get("measures", [])]
    return record["status"] == "skipped" or all(spec in spoken for spec in case.measures)


def left(experiment: Experiment, store: Store) -> list[Case]:
    """The cases of which a measure has not spoken yet; failed ones are tried again."""
    return [case for case in cases(experiment) if not told(store.read_record(case.key), case)]


def records(experiment: Experiment, store: Store) -> list[Record]:
    """The records of an experiment's cases that there are, in their order."""
    found = (store.read_record(case.key) for case in cases(experiment))
    return [record for record in found if record is not None]


def check(experiment: Experiment, split: Split) -> None:
    """See that a request can be dealt to shadow models.

    Raises:
        ValueError: If it cannot, with the reason.
    """
    asked = experiment.evidence
    designs = {find("evidence", spec["name"]).design for spec in asked.measures}
    smaller = min(len(split.forget), len(split.retain))
    if asked.models and "halves" in designs and smaller < 2:
        raise ValueError(
            f"evidence: a request with {len(split.forget)} examples to forget and "
            f"{len(split.retain)} to retain cannot be halved; name measures of the design "
            f'"fixed" only: '
            + ", ".join(n for n in names("evidence") if find("evidence", n).design == "fixed")
            + "."
        )


# --- A cast -------------------------------------------------------------------------------------


class Cast(NamedTuple):
    """The models that all methods of a case share, and what is known of them."""

    dealt: Deal
    originals: list[nn.Module]
    known: References
    seconds: float


def learn(case: Case, store: Store, tell: Listener) -> None:
    """Train a cast, unless it is there, and calibrate the measures; failures are left to cases."""
    noisy = replace(store, warn=lambda text: tell(Event(case.task, "warning", text)))
    tell(Event(case.task, "start"))
    try:
        _, run = prepare(case.cell)
        run = replace(run, tell=progress(case.task, tell))
        _scales(case, noisy, _cast(case, noisy, run))
    except Exception as error:
        tell(Event(case.task, "failed", sentence(error)))
    else:
        tell(Event(case.task, "done"))


def _cast(case: Case, store: Store, run: Run) -> Cast:
    """The cast as it stands on disk; trained first if it is not there."""
    source, _ = prepare(case.cell)
    assert run.origin is not None
    dealt = deal(
        trained_on(case.cell, source),
        split_of(case.cell, source),
        source.test,
        models=case.about["models"],
        design=case.about["design"],
        points=case.about["points"],
        seed=case.cell.seed,
    )
    found = store.read_tensors(case.cast_key)
    if found is None:
        start = time.perf_counter()
        models = originals(dealt, run.origin, run)
        known = references(models, dealt, run.origin, run)
        tensors = _flat({kind: getattr(known, kind) for kind in known._fields})
        for name in models[0].state_dict():
            tensors[f"weights.{name}"] = torch.stack([m.state_dict()[name] for m in models])
        seconds = time.perf_counter() - start
        store.write_tensors(case.cast_key, tensors, {"cast": case.about, "seconds": seconds})
        found = store.read_tensors(case.cast_key)
        assert found is not None
    tensors, about = found
    network = run.origin.fresh().to(run.device).eval()
    stacked = {k.removeprefix("weights."): v for k, v in tensors.items() if k[:8] == "weights."}
    models = [copy.deepcopy(network) for _ in dealt.splits]
    for place, model in enumerate(models):
        model.load_state_dict({name: value[place] for name, value in stacked.items()})
    known = References(*(_answers(tensors, kind) for kind in References._fields))
    return Cast(dealt, models, known, float(about["seconds"]))


def _flat(answers: Mapping[str, Answers]) -> dict[str, Tensor]:
    """Answers as tensors with names."""
    return {
        f"{kind}.{name}": value
        for kind, found in answers.items()
        for name, value in found._asdict().items()
    }


def _answers(tensors: Mapping[str, Tensor], kind: str) -> Answers:
    """The reverse."""
    return Answers(tensors[f"{kind}.margins"], tensors[f"{kind}.right"])


def _scales(case: Case, store: Store, cast: Cast) -> dict[str, Table]:
    """What each measure says of a perfect method and of none: of the cast alone, and kept.

    Returns:
        By the measure's settings: null, ceiling and curves, or the reason why there are none.
    """
    kept = store.read_record(case.cast_key) or {"scales": {}}
    scales = dict(kept["scales"])
    shadows = assembled(cast.dealt, cast.known, cast.known.retrained)
    left = [spec for spec in case.measures if canonical(spec) not in scales]
    for spec in left:
        try:
            scales[canonical(spec)] = asdict(
                scale(choose("evidence", spec), shadows, case.cell.seed)
            )
        except TooFew as reason:
            scales[canonical(spec)] = {"reason": str(reason)}
    if left:
        store.write_record({"key": case.cast_key, "status": "done", "scales": scales})
    return scales


# --- A case -------------------------------------------------------------------------------------


def judge(case: Case, store: Store, tell: Listener) -> None:
    """Let the method forget in every shadow, let every measure speak, and write one record."""
    if told(store.read_record(case.key), case):
        tell(Event(str(case), "done", "done by another process"))
        return
    record: Record = {
        "key": case.key,
        "status": "done",
        "cell": case.cell.described,
        "shadows": case.about,
    }
    write(record, case.cell, str(case), store, tell, lambda: _evidence(case, store, tell))


def _evidence(case: Case, store: Store, tell: Listener) -> Record:
    noisy = replace(store, warn=lambda text: tell(Event(str(case), "warning", text)))
    _, run = prepare(case.cell)
    run = replace(run, tell=progress(str(case), tell))
    cast = _cast(case, noisy, run)
    scales = _scales(case, noisy, cast)
    unlearned, seconds = _unlearned(case, noisy, cast, run)
    shadows = assembled(cast.dealt, cast.known, unlearned)
    measures = [_said(spec, shadows, scales[canonical(spec)], case) for spec in case.measures]
    forget = cast.dealt.points[0]
    return {
        "measures": measures,
        "points": {
            "ids": forget.ids.tolist(),
            "labels": forget.labels.tolist(),
            "counts": list(cast.dealt.counts),
        },
        "pictures": pictures(forget, _exposed(measures)),
        "seconds": {"cast": cast.seconds, "method": seconds},
        "split": _counts(cast.dealt.splits),
        "reason": None,
    }


def _unlearned(case: Case, store: Store, cast: Cast, run: Run) -> tuple[Answers, float]:
    """What the unlearned models say, and the method's seconds: as on disk, or made first."""
    found = store.read_tensors(case.key)
    if found is None:
        assert run.origin is not None
        method = choose("methods", case.cell.method)
        said, seconds = forgetful(method, cast.originals, cast.dealt, run.origin, run)
        about = {"case": case.about, "cell": case.cell.described, "seconds": seconds}
        store.write_tensors(case.key, _flat({"unlearned": said}), about)
        found = store.read_tensors(case.key)
        assert found is not None
    return _answers(found[0], "unlearned"), float(found[1]["seconds"])


def _said(spec: Table, shadows: Shadows, known: Table, case: Case) -> Table:
    """A measure's numbers beside their null and ceiling, or the reason why there are none."""
    if known.get("reason"):
        return {"measure": spec, "reason": known["reason"], "scores": {}, "exhibits": {}}
    try:
        values, exhibits = estimate(choose("evidence", spec), shadows, case.cell.seed)
    except TooFew as reason:
        return {"measure": spec, "reason": str(reason), "scores": {}, "exhibits": {}}
    scores = {
        name: {
            **value._asdict(),
            "null": known["null"].get(name),
            "ceiling": known["ceiling"].get(name),
        }
        for name, value in values.items()
    }
    return {
        "measure": spec,
        "reason": None,
        "scores": scores,
        "exhibits": {**exhibits, **known["exhibits"]},
    }


def _counts(splits: Sequence[Split]) -> dict[str, int]:
    """How many examples the first shadow forgets and retains."""
    return {"forget": len(splits[0].forget), "retain": len(splits[0].retain)}


def _exposed(measures: Sequence[Table]) -> list[int]:
    """The places of the points that some measure finds most exposed."""
    places: dict[int, None] = {}
    for one in measures:
        exposure = one["exhibits"].get("per_point")
        if exposure:
            order = torch.tensor(exposure).argsort(descending=True, stable=True)
            places |= dict.fromkeys(order[:SHOWN].tolist())
    return list(places)
