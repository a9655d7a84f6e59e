"""The forgotten examples that measures find most exposed, shown as pictures."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from oblivio.report import words
from oblivio.report.proof import Heard, Proof

_SHOWN = 12
_SMALL = 96  # pixels: smaller pictures show their pixels


class Pictures:
    """The pictures of a part of the page: each stands there once, however often it is shown."""

    def __init__(self, name: str, wanted: bool) -> None:
        self.name, self.wanted = name, wanted
        self.shown: dict[str, tuple[str, bool]] = {}

    def show(self, url: str | None) -> str | None:
        """Put a picture on the page.

        Returns:
            Its id; None if there is nothing to see.
        """
        if not self.wanted or url is None or not url.startswith("data:image/png;base64,"):
            return None
        if url not in self.shown:
            self.shown[url] = (f"{self.name}-picture-{len(self.shown)}", small(url))
        return self.shown[url][0]


def small(url: str) -> bool:
    """Whether a PNG in a data URL has so few pixels that they are better seen than blurred."""
    head = base64.b64decode(url.partition(",")[2][:32])
    width, height = struct.unpack(">II", head[16:24])
    return max(width, height) < _SMALL


class Example(NamedTuple):
    """A forgotten example.

    Args:
        id: Its id.
        label: Its true class.
        exposure: How exposed a measure finds it.
        key: The record that says so.
        picture: As a data URL, if there is one.
    """

    id: int
    label: int
    exposure: float
    key: str
    picture: str | None


def exposed(
    proof: Proof, looks: Mapping[str, tuple[str, str]], album: Pictures
) -> list[dict[str, Any]]:
    """The most exposed examples of each method, by each measure that looks at single ones.

    Args:
        proof: What shadow models say.
        looks: Each method's colour.
        album: Where pictures are put.

    Returns:
        What the template asks for, a part per method.
    """
    found = []
    for method in proof.methods:
        measures = [
            _measured(voice.label, heard, album)
            for voice in proof.voices
            if (heard := [h for h in voice.heard.get(method, ()) if h.exhibits.get("per_point")])
        ]
        if measures:
            measures.sort(key=lambda measure: -measure["count"])
            found.append({"label": method, "colour": looks[method][0], "measures": measures})
    return found


def _measured(label: str, heard: Sequence[Heard], album: Pictures) -> dict[str, Any]:
    """What a measure says of a method's examples."""
    examples = sorted(
        (example for one in heard for example in _examples(one)), key=lambda one: -one.exposure
    )
    best: dict[int, Example] = {}  # seeds may forget the same example
    for example in examples:
        best.setdefault(example.id, example)
    bars = [
        one.exhibits["per_point_null"][1][0] for one in heard if "per_point_null" in one.exhibits
    ]
    bar = max(bars, default=None) if len(bars) == len(heard) else None
    beyond = [bar is not None and example.exposure > bar for example in examples].count(True)
    return {
        "label": label,
        "short": "" if bar is None else f"{beyond:,} of {len(examples):,} beyond chance",
        "said": _said(len(examples), beyond, bar),
        "count": beyond,
        "examples": [
            {
                "id": one.id,
                "label": one.label,
                "exposure": figures(one.exposure),
                "key": one.key,
                "picture": album.show(one.picture),
                "beyond": bar is not None and one.exposure > bar,
            }
            for one in list(best.values())[:_SHOWN]
        ],
    }


def _examples(heard: Heard) -> list[Example]:
    """A record's forgotten examples."""
    record, points = heard.record, heard.record["points"]
    pictures = record.get("pictures") or {}
    return [
        Example(id_, label, value, record["key"], pictures.get(str(id_)))
        for id_, label, value in zip(
            points["ids"], points["labels"], heard.exhibits["per_point"], strict=True
        )
    ]


def _said(total: int, beyond: int, bar: float | None) -> str:
    """How many examples are more exposed than chance alone makes the single most exposed one."""
    if bar is None:
        return f"The most exposed of {total:,}; the record holds no null of single examples."
    return (
        f"Of {total:,} forgotten examples {f'{beyond:,}' if beyond else 'none'} "
        f"{'are' if beyond > 1 else 'is'} above {figures(bar)}, beyond which chance alone takes "
        "the most exposed one in one of forty cases."
    )


def figures(value: float) -> str:
    """A number with three figures.

    Returns:
        Text.

    Example:
        >>> figures(-0.12345), figures(98.765), figures(12345.0)
        ('−0.123', '98.8', '12,345')
    """
    size = math.floor(math.log10(abs(value))) if value else 0
    return words.number(value, max(0, 2 - size)) if size < 3 else f"{value:,.0f}"
