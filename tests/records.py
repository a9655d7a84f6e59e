"""Synthetic records, as a finished experiment leaves them, for tests of what reads records."""

from __future__ import annotations

import hashlib
import json
import math
import random
from typing import Any

RANDOM = {"name": "random", "fraction": 0.1, "count": None}
CLASS = {"name": "class_wise", "label": 3, "fraction": 1.0}
MAGNITUDE = {"name": "magnitude", "sparsity": 0.95, "rewind": 8}
SYNFLOW = {"name": "synflow", "sparsity": 0.95, "rounds": 100}
METHODS: dict[str, dict[str, Any]] = {
    "original": {},
    "retrain": {},
    "fine_tune": {"recipe": {"epochs": 10, "lr": 0.01, "batch_size": 64}},
    "gradient_ascent": {"recipe": {"epochs": 5, "lr": 0.0001, "batch_size": 64}, "limit": None},
}
# UA, RA, TA, MIA efficacy, seconds: random first, then class-wise
NEAR: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "original": ((0.4, 99.8, 96.9, 2.2, 0.0004), (0.2, 99.8, 97.0, 1.1, 0.0004)),
    "retrain": ((3.6, 99.8, 96.6, 9.8, 4.1), (100.0, 99.9, 97.3, 100.0, 3.8)),
    "fine_tune": ((1.3, 99.6, 96.5, 5.0, 1.1), (31.0, 99.7, 97.1, 64.0, 1.0)),
    "gradient_ascent": ((4.8, 96.9, 93.9, 8.1, 0.12), (91.0, 95.2, 93.0, 97.0, 0.1)),
}
# a small network's layers: filters or neurons, and weights in each of them
LAYERS = {
    "0.weight": (16, 9),
    "0.bias": (16, 1),
    "4.weight": (32, 144),
    "4.bias": (32, 1),
    "9.weight": (64, 288),
    "9.bias": (64, 1),
    "11.weight": (10, 64),
    "11.bias": (10, 1),
}
CONFIDENT = {"original": 9.0, "retrain": 6.0, "fine_tune": 7.0, "gradient_ascent": 4.0}


def make_record(
    method: str | dict[str, Any] = "fine_tune",
    seed: int = 0,
    scenario: dict[str, Any] | None = None,
    *,
    pruner: dict[str, Any] | None = None,
    status: str = "done",
    metrics: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One record; `metrics` and further fields replace what would be made up."""
    scenario = RANDOM if scenario is None else scenario
    spec = {"name": method, **METHODS.get(method, {})} if isinstance(method, str) else method
    cell = {
        "experiment": "digits",
        "data": {"name": "digits"},
        "model": {"name": "mlp", "hidden": [64]},
        "train": {"epochs": 20, "lr": 0.1, "batch_size": 64},
        "scenario": scenario,
        "method": spec,
        "seed": seed,
        "engine": {"device": "cpu", "precision": "32-true", "threads": 1},
        "version": "0.1.0",
        **({} if pruner is None else {"pruner": pruner}),
    }
    key = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]
    draw = random.Random(key)
    done = status == "done"
    forget = 143 if scenario["name"] == "random" else 144
    record = {
        "key": key,
        "status": status,
        "cell": cell,
        "metrics": (_metrics(spec, cell, draw) if metrics is None else metrics) if done else {},
        "exhibits": _exhibits(spec["name"], scenario, draw) if done else {},
        "notes": {"steps": 15} if spec["name"] == "gradient_ascent" and done else {},
        "split": {"forget": forget, "retain": 1437 - forget, "digest": "0123456789abcdef"},
        "provenance": {
            "oblivio": "0.1.0",
            "commit": "0123abcd",
            "python": "3.11.7",
            "torch": "2.9.0",
            "device": "cpu",
            "hardware": "a processor with 2 cores",
            "threads": 1,
            "finished": f"2026-11-21T05:{seed:02d}:00+00:00",
        },
        "reason": None if done else "the method does not apply to this model",
    }
    if record["notes"]:
        record["notes"]["stopped"] = f"the loss on D_f reached 2.4{seed}, the limit is 2.30"
    return {**record, **more}


def make_records(seeds: int = 3, scenarios: tuple[dict[str, Any], ...] = (RANDOM, CLASS)) -> list:
    """Four methods in each scenario, for several seeds."""
    return [
        make_record(method, seed, scenario)
        for scenario in scenarios
        for method in METHODS
        for seed in range(seeds)
    ]


def make_sweep(
    seeds: int = 3,
    pruners: tuple[dict[str, Any], ...] = (MAGNITUDE, SYNFLOW),
    sparsities: tuple[float, ...] = (0.5, 0.95),
    scenarios: tuple[dict[str, Any], ...] = (CLASS,),
) -> list:
    """Four methods in each scenario, dense and with each pruner at each sparsity."""
    pruned = [{**pruner, "sparsity": share} for pruner in pruners for share in sparsities]
    return [
        make_record(method, seed, scenario, pruner=pruner)
        for seed in range(seeds)
        for scenario in scenarios
        for pruner in (None, *pruned)
        for method in METHODS
    ]


def make_explanation(
    seed: int = 0, threshold: float = 12.0, layers: dict[str, tuple[int, int]] = LAYERS, **more: Any
) -> dict[str, Any]:
    """A method's note of its choice: all weights whose ratio is above the threshold."""
    draw = random.Random(seed)
    edges = [-4 + 0.25 * place for place in range(33)]
    counts = {"all": [0] * 32, "chosen": [0] * 32}
    found, zero, infinite, filters = [], 0, 0, []
    for place, (name, (units, each)) in enumerate(layers.items()):
        total = 0
        for unit in range(units):
            lift = draw.gauss(-0.4 + 0.4 * place / len(layers), 0.3)
            ratios = [10 ** draw.gauss(lift, 0.6) for _ in range(each)]
            ratios = [0.0 if draw.random() < 0.1 else ratio for ratio in ratios]
            ratios = [math.inf if draw.random() < 2e-4 else ratio for ratio in ratios]
            changed = sum(ratio > threshold for ratio in ratios)
            total += changed
            zero += ratios.count(0.0)
            infinite += ratios.count(math.inf)
            for ratio in ratios:
                if 0 < ratio < math.inf:
                    here = min(31, max(0, math.floor(4 * (math.log10(ratio) + 4))))
                    counts["all"][here] += 1
                    counts["chosen"][here] += ratio > threshold
            if each > 1:
                filters.append([name, unit, changed, each, sorted(ratios)[each // 2]])
        found.append([name, total, units * each])
    filters.sort(key=lambda row: -row[2] / row[3])
    return {
        "layers": found,
        "histogram": {
            "edges": edges,
            "counts": counts,
            "zero": zero,
            "infinite": infinite,
            "threshold": threshold,
        },
        "filters": filters[:12],
        **more,
    }


def _metrics(spec: dict, cell: dict, draw: random.Random) -> dict[str, float]:
    place, share = cell["scenario"]["name"] != "random", cell.get("pruner", {}).get("sparsity", 0.0)
    near, aim = NEAR.get(spec["name"], NEAR["fine_tune"])[place], NEAR["retrain"][place]
    drawn = 0.7 * share if spec["name"] in ("fine_tune", "gradient_ascent") else 0.0
    means = [v + drawn * (to - v) for v, to in zip(near[:4], aim[:4], strict=True)]
    means[2] -= 2 * share**2  # a sparse model generalises a little less
    ua, ra, ta, mia = (min(100.0, max(0.0, v + draw.gauss(0, 0.4))) for v in means)
    return {
        "ua": ua,
        "ra": ra,
        "ta": ta,
        "mia_efficacy": mia,
        "mia_correctness": 50 + draw.gauss(0, 2),
        "mia_entropy": 52 + draw.gauss(0, 2),
        "seconds": near[4] * math.exp(draw.gauss(0, 0.1)),
    }


def _exhibits(name: str, scenario: dict, draw: random.Random) -> dict[str, Any]:
    sure = CONFIDENT.get(name, 6.0)

    def counts(n: int, power: float) -> list[int]:
        found = [0] * 20
        for _ in range(n):
            found[min(19, int(20 * draw.random() ** (1 / power)))] += 1
        return found

    confusion = [[0] * 10 for _ in range(10)]
    for true in range(10):
        for _ in range(36):
            wrong = draw.random() < (0.9 if true == 3 and scenario["name"] != "random" else 0.04)
            confusion[true][draw.randrange(10) if wrong else true] += 1
    return {
        "confidence": {
            "forget": counts(143, sure / 2),
            "retain": counts(1294, 2 * sure),
            "test": counts(360, sure),
        },
        "confusion": confusion,
    }
