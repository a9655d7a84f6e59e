"""The folder is the registry: a file added to a family's folder is a choice added everywhere.

Every family is a package. A module `fine_tune.py` in it offers the name `fine_tune` and holds one
frozen dataclass `FineTune`; the name of a choice is the name of its file. Outside of the families,
`package.module:attribute` names anything that can be imported, such as a network of the user's own.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import pkgutil
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any

FAMILIES = {
    "methods": "oblivio.methods",
    "gan": "oblivio.gan",
    "scenarios": "oblivio.scenarios",
    "triggers": "oblivio.data.triggers",
    "pruners": "oblivio.prune",
    "metrics": "oblivio.metrics",
    "evidence": "oblivio.evidence",
    "data": "oblivio.data.sets",
    "models": "oblivio.models",
}
"""The package of each family."""


@dataclass(frozen=True)
class Entry:
    """A name that a user can choose, and the one line that says what it is."""

    name: str
    summary: str


def names(family: str) -> list[str]:
    """The names that a family offers: its folder's files, in alphabetical order.

    Returns:
        Names as the command line and TOML files use them.

    Example:
        >>> names("scenarios")
        ['class_wise', 'classes', 'harmful', 'items', 'poisoned', 'random']
    """
    package = importlib.import_module(FAMILIES[family])
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def entries(family: str) -> list[Entry]:
    """A family's names, each with the first line of its class's docstring."""
    return [
        Entry(name, (inspect.getdoc(find(family, name)) or "").partition("\n")[0])
        for name in names(family)
    ]


def find(family: str, name: str) -> Any:
    """The dataclass of this name, or what `package.module:attribute` names.

    Returns:
        A class, or whatever was imported.

    Raises:
        ValueError: If there is no such name; the message lists those that there are.
    """
    if ":" in name:
        return imported(name)
    if name not in names(family):
        raise ValueError(unknown(f"{family} entry", name, names(family)))
    module = importlib.import_module(f"{FAMILIES[family]}.{name}")
    wanted = name.replace("_", "")
    found = [
        value
        for key, value in vars(module).items()
        if key.lower() == wanted and is_dataclass(value) and isinstance(value, type)
    ]
    if not found:
        raise ValueError(f"{module.__name__} should hold a dataclass called like the file, {name}.")
    return found[0]


def imported(name: str) -> Any:
    """What `package.module:attribute` names.

    Returns:
        The attribute.

    Raises:
        ValueError: If it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module is the user's: anything may happen in it
        raise ValueError(f"Cannot import {name!r}: {type(error).__name__}: {error}") from error


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence for a name that does not exist: the nearest ones, then all."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"There is no {what} {name!r}.{hint} There are: {', '.join(known) or 'none'}."


def build(cls: type, settings: Mapping[str, Any], where: str = "") -> Any:
    """An instance of a dataclass from plain settings, checked strictly, as read from a TOML file.

    A field that is itself a dataclass, such as a method's `recipe`, may be given in part: what is
    not given keeps this class's own default for it. One that is built already is taken as it is.

    Args:
        cls: The dataclass.
        settings: Its fields by name.
        where: What to call the thing in an error.

    Returns:
        The instance.

    Raises:
        ValueError: If a field does not exist, is missing, or has the wrong type or value.
    """
    from pydantic import TypeAdapter, ValidationError

    where = where or cls.__name__
    hints = typing.get_type_hints(cls)
    own = {f.name: f for f in fields(cls) if f.init}
    for name in settings:
        if name not in own:
            raise ValueError(f"{where}: {unknown('field', name, own)}")
    values: dict[str, Any] = {}
    for name, field in own.items():
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        if name not in settings:
            if default is MISSING:
                raise ValueError(f"{where}: the field {name!r} is missing.")
            continue
        value = settings[name]
        if is_dataclass(value):
            values[name] = value
            continue
        if is_dataclass(default) and isinstance(value, Mapping):
            merged = {**settings_of(default), **value}
            values[name] = build(type(default), merged, f"{where}.{name}")
            continue
        try:
            adapter = TypeAdapter(hints[name])
            values[name] = adapter.validate_json(json.dumps(value), strict=True)
        except (ValidationError, TypeError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            reason = reason.replace("valid dictionary", "table").replace("an object", "a table")
            raise ValueError(f"{where}: {name} = {value!r} does not fit: {reason}.") from error
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def settings_of(thing: Any) -> dict[str, Any]:
    """A dataclass's settings as plain data, from which `build` makes it again.

    Returns:
        What JSON can hold.

    Example:
        >>> from oblivio.scenarios.random import Random
        >>> settings_of(Random(fraction=0.1))
        {'fraction': 0.1, 'count': None}
    """
    return json.loads(json.dumps(asdict(thing)))


def choose(family: str, spec: Mapping[str, Any]) -> Any:
    """Build what a TOML table such as `{name = "random", fraction = 0.1}` asks for.

    Returns:
        An instance of the named dataclass.

    Raises:
        ValueError: If the name or a field is wrong.
    """
    settings = dict(spec)
    name = settings.pop("name")
    return build(find(family, name), settings, f"{family} {name}")
