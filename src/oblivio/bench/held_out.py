"""What a search may see: neither the test data, nor the seeds and forget sets of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch

from oblivio.bench.label import title
from oblivio.bench.spec import Table, complete
from oblivio.catalogue import choose
from oblivio.core import Data
from oblivio.data.source import Source, load, stratified
from oblivio.scenarios.items import Items, read_ids

FIRST_SEED = 1000
"""Seeds of searches begin here, far from those that people write into experiments."""


def held_out(of: Mapping[str, Any], share: float, seed: int) -> Source:
    """A data set whose test data are a part of its training data, the same share of every class.

    Its own test data are not in what is returned: nothing that works on it can look at them.

    Args:
        of: The data set's table.
        share: How much of its training data stands in for the test data.
        seed: Of the choice.

    Returns:
        The data: the rest to train on, and the part to test on.

    Raises:
        ValueError: If one of them would be empty.
    """
    source = load(of)
    n = len(source.train)
    size = round(share * n)
    if not 0 < size < n:
        raise ValueError(f"A share of {share:g} of {n} training examples leaves one part empty.")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    is_held = torch.zeros(n, dtype=torch.bool)
    is_held[order[stratified(source.train.labels[order], size)]] = True
    rest, held = (source.train.take(torch.where(own)[0]) for own in (~is_held, is_held))
    return replace(source, train=rest, test=held)


def table(data: Table, share: float, seed: int) -> Table:
    """The table by which an experiment asks for `held_out`."""
    name = f"{held_out.__module__}:{held_out.__name__}"
    return {"name": name, "of": data, "share": share, "seed": seed}


def search_seeds(reported: Sequence[int], n: int) -> tuple[int, ...]:
    """The first n seeds from `FIRST_SEED` on that results are not reported on.

    Returns:
        The seeds.

    Example:
        >>> search_seeds([0, 1, 1001], 3)
        (1000, 1002, 1003)
    """
    return tuple(islice((seed for seed in count(FIRST_SEED) if seed not in reported), n))


def stand_ins(scenarios: Sequence[Table], train: Data) -> tuple[tuple[Table, ...], list[str]]:
    """Requests of the same kind, for those that ask for the same examples whatever the seed.

    What is drawn at random is drawn anew, by the search's own seeds. A class is stood in for by the
    next one that is not reported on, and items that are named by as many at random.

    Args:
        scenarios: What results are reported on, resolved.
        train: What the search learns.

    Returns:
        The scenarios to search with, and what there is to say of those that differ, or should.
    """
    found: list[Table] = []
    said: list[str] = []
    for asked in scenarios:
        instead = _stand_in(asked, [*scenarios, *found], train)
        found.append(instead)
        if instead != asked:
            said.append(f"{title(instead)} stands in for {title(asked)}.")
        elif _is_fixed(asked, train):
            said.append(
                f"{title(asked)} asks for the same examples whatever the seed, and nothing stands "
                f"in for it: the search sees a forget set that results are reported on."
            )
    return tuple(found), said


def _stand_in(asked: Table, taken: Sequence[Table], train: Data) -> Table:
    """Another class, or items at random; the scenario itself if it is drawn, or there is none."""
    if asked["name"] == "class_wise":
        classes = train.labels.unique().tolist()
        others = [c for c in classes if c > asked["label"]] + classes
        used = {scenario.get("label") for scenario in taken if scenario["name"] == "class_wise"}
        return {**asked, "label": next((c for c in others if c not in used), asked["label"])}
    items = choose("scenarios", asked)
    if isinstance(items, Items):
        named = items.ids or read_ids(Path(str(items.file)))
        return complete("scenarios", {"name": "random", "count": len(named)})
    return asked


def _is_fixed(asked: Table, train: Data) -> bool:
    """Whether a scenario asks for the same examples with two seeds."""
    scenario = choose("scenarios", asked)
    return scenario(train, 0).digest == scenario(train, 1).digest
