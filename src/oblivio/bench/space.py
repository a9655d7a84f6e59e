"""Where to search: which settings of a method, and between which values.

A search space is plain data, the same in a method's class (`search`) and in an experiment's file
(`[tune.fine_tune]`): for a setting by its dotted name, two numbers are the ends of a range, and any
other list is one of its values. A range from above zero that spans a factor of ten is searched on a
logarithmic scale.

    "recipe.lr" = [1e-3, 1.0]
    "recipe.epochs" = [1, 2, 5, 10]
    "reset" = ["zero", "initial"]
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oblivio.bench import label
from oblivio.bench.spec import ALWAYS, Experiment, Table, canonical
from oblivio.catalogue import build, find, settings_of, unknown

EDGE = 0.05
"""How near to an end of a range a value lies at its edge, as a share of the range."""


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, or all whole ones."""

    low: float
    high: float
    whole: bool = False

    @property
    def log(self) -> bool:
        """Whether equal factors count as equal steps."""
        return self.low > 0 and self.high >= 10 * self.low

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        fits = int if self.whole else (int, float)
        return isinstance(value, fits) and self.low <= value <= self.high

    def edge(self, value: float) -> str | None:
        """The end of the range that a value lies at, if it does.

        Returns:
            "lower", "upper" or None.

        Example:
            >>> Range(0.001, 1).edge(0.9), Range(0.001, 1).edge(0.1), Range(1, 10, True).edge(1)
            ('upper', None, 'lower')
        """
        low, at, high = (math.log(x) if self.log else x for x in (self.low, value, self.high))
        share = (at - low) / (high - low)
        return "lower" if share <= EDGE else "upper" if share >= 1 - EDGE else None

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """A few values, in no order."""

    values: tuple[bool | int | float | str | None, ...]

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.values

    def edge(self, value: Any) -> None:
        """None: a choice has no ends."""

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Space = Mapping[str, Range | Choice]
"""Settings by their dotted names."""


@dataclass(frozen=True)
class Search:
    """What of a method is searched, and where from.

    Args:
        label: The method's name, with what tells it from others of that name.
        methods: Its tables in the experiment, which differ in nothing but searched settings.
        space: Between which values.
        published: The searched settings as the method has them by default; None if it has not.
        given: The searched settings of each table.
    """

    label: str
    methods: tuple[Table, ...]
    space: Space
    published: Table | None
    given: tuple[Table, ...]

    @property
    def starts(self) -> tuple[Table, ...]:
        """What is tried first: the published defaults, then what the experiment says."""
        found = [*([] if self.published is None else [self.published]), *self.given]
        return tuple({canonical(start): start for start in found}.values())

    def table(self, settings: Mapping[str, Any]) -> Table:
        """The method's table with these settings."""
        return put(self.methods[0], settings)

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether settings lie in the space."""
        return all(own.holds(settings[name]) for name, own in self.space.items())


def searches(experiment: Experiment) -> tuple[list[Search], list[str]]:
    """What there is to search in an experiment.

    Tables that differ in nothing but searched settings are one search.

    Args:
        experiment: A resolved one.

    Returns:
        The searches, and the names of the methods that could be searched, but have no space.

    Raises:
        ValueError: If no method has a search space, or one is wrong.
    """
    names = [str(method["name"]) for method in experiment.methods]
    for name in experiment.tune:
        if name not in names:
            raise ValueError(f"[tune.{name}]: {unknown('method of the experiment', name, names)}")
    groups: dict[str, list[tuple[Table, Space]]] = {}
    unsearched = []
    for method in experiment.methods:
        space = space_of(method, experiment.tune, experiment.family)
        if not space:
            unsearched += [str(method["name"])] * (method["name"] not in ALWAYS)
            continue
        rest = put(method, dict.fromkeys(space))
        groups.setdefault(canonical(rest), []).append((method, space))
    if not groups:
        raise ValueError(
            f"There is nothing to search: none of {', '.join(names)} has a search space; give one, "
            f'such as [tune.fine_tune] with "recipe.lr" = [0.001, 1.0].'
        )
    labels = label.methods(put(own[0][0], dict.fromkeys(own[0][1])) for own in groups.values())
    found = [_search(labels[key], own, experiment.family) for key, own in groups.items()]
    return found, unsearched


def _search(called: str, own: Sequence[tuple[Table, Space]], family: str) -> Search:
    """One search for tables that differ in nothing but searched settings."""
    methods, space = tuple(method for method, _ in own), own[0][1]
    usual = _defaults(str(methods[0]["name"]), family)
    published = {path: usual[path] for path in space} if set(space) <= set(usual) else None
    now = (dict(_flat(_settings(method, family))) for method in methods)
    return Search(
        called, methods, space, published, tuple({path: g[path] for path in space} for g in now)
    )


def space_of(method: Table, own: Mapping[str, Any], family: str = "methods") -> Space:
    """A method's search space: the experiment's, or else the method's own; empty if there is none.

    Args:
        method: Its table.
        own: The experiment's spaces by the method's name; an empty one searches nothing.
        family: That the method is of.

    Returns:
        Ranges and choices by dotted name.

    Raises:
        ValueError: If a setting does not exist, or a range or choice does not fit it.
    """
    name = str(method["name"])
    declared = own.get(name, getattr(find(family, name), "search", {}))
    where = f"[tune.{name}]" if name in own else f"{name}'s search space"
    if not isinstance(declared, Mapping):
        raise ValueError(f"{where}: {declared!r} must be a table of settings and their ranges.")
    now = dict(_flat(_settings(method, family))) if declared else {}
    found: dict[str, Range | Choice] = {}
    for path, values in declared.items():
        if path not in now:
            raise ValueError(f"{where}: {unknown('setting', path, now)}")
        found[path] = dimension(f"{where}: {path}", values, now[path])
        for value in _extremes(found[path]):
            _settings(put(method, {path: value}), family, f"{where}: {name}")
    return found


def dimension(where: str, values: Any, now: Any) -> Range | Choice:
    """A range or a choice, from a list.

    Args:
        where: What to call it in an error.
        values: The list.
        now: The setting's present value, which says whether it takes whole numbers only.

    Returns:
        A range for two numbers, else a choice.

    Raises:
        ValueError: If it is no list, or a range that runs backwards.
    """
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{where} = {values!r} must be a range [low, high] or a list of values.")
    if any(isinstance(value, list | tuple | Mapping) for value in values):
        raise ValueError(f"{where} = {values!r} may list numbers, words, true and false only.")
    if len(values) != 2 or not all(map(_is_number, values)):
        return Choice(tuple(values))
    low, high = values
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(
            f"{where} = [{low:g}, {high:g}] is no range: the lower number comes first."
        )
    whole = isinstance(now, int) or (now is None and isinstance(low, int) and isinstance(high, int))
    return Range(low, high, whole)


def put(table: Table, settings: Mapping[str, Any]) -> Table:
    """A table in which some settings have other values.

    Returns:
        A new table.

    Example:
        >>> put({"name": "fine_tune", "recipe": {"lr": 0.1, "epochs": 2}}, {"recipe.lr": 0.5})
        {'name': 'fine_tune', 'recipe': {'lr': 0.5, 'epochs': 2}}
    """
    found = copy.deepcopy(table)
    for path, value in settings.items():
        *inner, last = path.split(".")
        at = found
        for name in inner:
            at = at.setdefault(name, {})
        at[last] = value
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _extremes(own: Range | Choice) -> Sequence[Any]:
    """The values at which a setting is tried to be built."""
    return own.values if isinstance(own, Choice) else (own.low, own.high)


def _settings(table: Table, family: str, where: str | None = None) -> Table:
    """All settings of a method, those that its table does not name too."""
    given = {name: value for name, value in table.items() if name != "name"}
    name = str(table["name"])
    return settings_of(build(find(family, name), given, where or f"{family} {name}"))


def _defaults(name: str, family: str) -> dict[str, Any]:
    """The published defaults of a method by dotted name; none if it must be given some settings."""
    try:
        return dict(_flat(_settings({"name": name}, family)))
    except ValueError:
        return {}


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Settings inside settings by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
