"""What to call cells: short names for methods, and titles for scenarios."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oblivio.bench.kind import METHODS
from oblivio.bench.spec import canonical, complete, pruned


def methods(specs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A short name for each of several methods.

    Returns:
        By canonical JSON: the name, and where methods share it, the settings they differ in; if
        these are several, those that a method leaves at its default are not said.

    Example:
        >>> list(methods([{"name": "ga", "lr": 0.1}, {"name": "ga", "lr": 1.0}]).values())
        ['ga lr=0.1', 'ga lr=1']
    """
    unique = {canonical(spec): spec for spec in specs}
    names = {key: str(spec["name"]) for key, spec in unique.items()}
    usual = {str(spec["name"]): _defaults(spec) for spec in unique.values()}
    return _told_apart(names, unique, usual)


def _defaults(method: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """The settings of a method of which nothing but the name is given; none if it is not known.

    Returns:
        Those of the family, of all that know the name, in which it has the most of what is given.
    """
    given = dict(_flat(method))
    found = [_usual(family, method["name"]) for family in METHODS.values()]
    return max(found, key=lambda usual: len(usual.keys() & given.keys()))


def _usual(family: str, method: str) -> dict[tuple[str, ...], Any]:
    """A method's default settings, if it is one of the family and has them."""
    try:
        return dict(_flat(complete(family, {"name": method})))
    except (ValueError, TypeError, ImportError):
        return {}


def title(scenario: Mapping[str, Any]) -> str:
    """A scenario's title.

    Returns:
        Its name and how much it forgets, such as "Random 10 %" or "Class 3".

    Example:
        >>> title({"name": "class_wise", "label": 3, "fraction": 0.5})
        'Class 3, 50 %'
    """
    sizes = {
        "label": lambda value: f"{value}",
        "fraction": lambda value: "" if value == 1 else f"{100 * value:g} %",
        "count": _examples,
        "ids": lambda value: _examples(len(value)),
    }
    given = (sizes[key](scenario[key]) for key in sizes if scenario.get(key) not in (None, [], ()))
    words = scenario["name"].rpartition(":")[2].removesuffix("_wise").replace("_", " ").capitalize()
    return f"{words} {', '.join(filter(None, given))}".strip()


def _examples(count: int) -> str:
    return f"{count} example{'' if count == 1 else 's'}"


def pruners(specs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A short name for each of several pruners.

    Returns:
        By canonical JSON: the name and the sparsity, and where pruners share both, the settings
        they differ in.
    """
    unique = {canonical(spec): spec for spec in specs}
    return _told_apart({key: pruned(spec) for key, spec in unique.items()}, unique)


def scenarios(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A title for each set of cells that differ in nothing but method and seed.

    Returns:
        By canonical JSON of what surrounds method and seed: see `titles`.
    """
    return titles(map(surroundings, records))


def titles(arounds: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A title for each of several surroundings of cells.

    Returns:
        By canonical JSON: the scenario's title and the pruner's, such as "Class 3" or
        "Class 3 · magnitude 95 %", and where surroundings share it, the settings they differ in,
        such as the data's.
    """
    groups = {canonical(around): around for around in arounds}
    names = {}
    for key, around in groups.items():
        pruner = around.get("pruner")
        names[key] = title(around["scenario"]) + (f" · {pruned(pruner)}" if pruner else "")
    return _told_apart(names, groups)


def surroundings(record: Mapping[str, Any]) -> dict[str, Any]:
    """A cell without its method and seed, and without the file's name, which decides nothing."""
    own = ("method", "seed", "experiment")
    return {name: v for name, v in record["cell"].items() if name not in own}


def _told_apart(
    names: Mapping[str, str],
    specs: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Mapping[tuple[str, ...], Any]] | None = None,
) -> dict[str, str]:
    """Add to names that are the same the settings in which their things differ."""
    found = {}
    for key, name in names.items():
        flat = [dict(_flat(specs[other])) for other in names if names[other] == name]
        paths = {path: None for settings in flat for path in settings}
        differ = [p for p in paths if len({canonical(s.get(p)) for s in flat}) > 1]
        own = dict(_flat(specs[key]))
        usual = (defaults or {}).get(name, {}) if len(differ) > 1 else {}
        said = [path for path in differ if path in own and own[path] != usual.get(path, ...)]
        given = (f"{_short(path, differ)}={_plain(own[path])}" for path in said)
        found[key] = " ".join([name, *given])
    return found


def _flat(spec: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    """The settings inside settings, each with its path."""
    if isinstance(spec, Mapping):
        for name, value in spec.items():
            yield from _flat(value, (*path, str(name)))
    else:
        yield path, spec


def _short(path: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    """A path's last word, or all of it where another path ends in the same word."""
    own, *rest = (".".join(p).removesuffix(".name") for p in (path, *others))
    last = own.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in rest) == 1 else own


def _plain(value: Any) -> str:
    """A setting as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")
