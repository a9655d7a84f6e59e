"""Data sets by name, one per file: frozen dataclasses whose call gives a `Source`.

Some are made of others, which they are given as tables such as `{name = "mnist", train = 2000}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oblivio.catalogue import choose, names, settings_of


def written_out(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a data set with every default in it.

    Args:
        table: Its name and settings.

    Returns:
        The name and all settings; those of a user's own data set as they are given.

    Raises:
        ValueError: If there is no such data set or setting.
    """
    name = table.get("name")
    if not isinstance(name, str):
        raise ValueError(
            f'A data set needs a name: one of {", ".join(names("data"))}, or "package.module:'
            f'function" for one of your own; it is given {dict(table)}.'
        )
    return dict(table) if ":" in name else {"name": name, **settings_of(choose("data", table))}
