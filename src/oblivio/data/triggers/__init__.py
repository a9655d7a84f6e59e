"""What marks a poisoned image, one trigger per file: frozen dataclasses, `(images) -> images`.

A trigger goes on raw images (n, channels, height, width), before they are augmented and normalised,
as it would in a poisoned data set. One of the user's own is named `package.module:function`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from oblivio.catalogue import build, choose, imported, names, settings_of

Images = Shaped[Tensor, "n c h w"]
Trigger = Callable[[Images], Images]


def trigger_of(table: Mapping[str, Any]) -> Trigger:
    """The trigger that a table such as `{name = "patch", size = 4}` asks for.

    Returns:
        A function of images.

    Raises:
        ValueError: If there is no such trigger, or a setting is wrong.
    """
    name, settings = table.get("name"), {k: v for k, v in table.items() if k != "name"}
    if not isinstance(name, str):
        raise ValueError(
            f'A trigger needs a name: one of {", ".join(names("triggers"))}, or "package.module:'
            f'function" for one of your own; it is given {dict(table)}.'
        )
    if ":" not in name:
        return choose("triggers", table)
    made = imported(name)
    return build(made, settings, name) if isinstance(made, type) else partial(made, **settings)


def written_out(table: Mapping[str, Any]) -> dict[str, Any]:
    """The same table with every default of the trigger in it."""
    trigger = trigger_of(table)
    settings = {} if ":" in table["name"] else settings_of(trigger)
    return {**table, **settings}


def level(images: Images, share: float) -> float:
    """A brightness in the images' own numbers: for bytes a share of 255, else the number itself.

    Returns:
        What can stand in the images.

    Raises:
        ValueError: If images of bytes cannot be as bright.
    """
    if images.is_floating_point():
        return share
    if not 0 <= share <= 1:
        raise ValueError(f"Bytes cannot be as bright as {share:g}: it must lie between 0 and 1.")
    return round(255 * share)
