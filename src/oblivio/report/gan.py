"""What the page shows of GANs: what they make, and what their discriminators give away.

Metrics of GANs leave lists of numbers and pictures in the records' exhibits: `pictures`,
`class_shares` and `d_scores`. Pictures are those of one seed, so that all are of one draw.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from plotly.graph_objects import Figure

from oblivio.bench.stats import ORIGINAL, RETRAIN, Comparison, Record, Row
from oblivio.report import words
from oblivio.report.gan_plot import class_plot, discriminator_plot

MOVED = "moved"
"""The note in which a method says which latents it moved: numbers that pictures are made of."""

EXHIBITS = ("pictures", "class_shares", "d_scores")

Looks = Mapping[str, tuple[str, str]]


class Tiles(NamedTuple):
    """Images side by side in one PNG file.

    Args:
        png: The file as base64.
        columns: How many in a row.
        rows: How many rows.
        width: In pixels.
        height: In pixels.
    """

    png: str
    columns: int
    rows: int
    width: int
    height: int


class Line(NamedTuple):
    """A row of images: whose they are, and for each what the judge calls it."""

    head: str
    tiles: Tiles
    called: tuple[tuple[int, bool], ...] = ()


def gan_parts(
    name: str,
    comparison: Comparison,
    looks: Looks,
    drawn: Callable[[str, Figure | None], str | None],
    *,
    pictures: bool,
) -> dict[str, Any] | None:
    """All that the page shows of GANs besides their scores.

    Args:
        name: The part's id.
        comparison: Of one scenario.
        looks: Each label's colour and symbol.
        drawn: Puts a figure on the page.
        pictures: Whether there is room for pictures.

    Returns:
        What the template asks for; None where the records are not of GANs.
    """
    seed = _seed(comparison) if is_gan(comparison.surroundings) else None
    if seed is None:
        return None
    rows = {row.label: row for row in comparison.rows}
    shown = {label: _exhibits(row, seed) for label, row in rows.items()}
    gone = _gone(shown.values())
    labels = [row.label for row in comparison.methods if shown[row.label]]
    before, aim = ([r.label] if (r := comparison.row(n)) else [] for n in (ORIGINAL, RETRAIN))
    sides = (
        ("before", "Before", before, False),
        ("after", "After", labels, True),
        ("aim", "Aim", aim, False),
    )
    made = {label: _tiles(one, "samples") for label, one in shown.items()} if pictures else {}
    methods = [
        {
            "label": label,
            "colour": looks[label][0],
            "moved": _moved(label, shown[label], gone) if pictures else None,
            "paths": _paths(label, shown[label]) if pictures else [],
            "told": _told(rows[label], comparison),
        }
        for label in labels
    ]
    return {
        "id": name,
        "seed": seed,
        "several": len(comparison.seeds) > 1,
        "gone": gone,
        "methods": methods,
        "left_out": not pictures,
        "samples": [
            (head, found)
            for _, head, own, _ in sides
            if (found := [(one, tiles) for one in own if (tiles := made.get(one))])
        ],
        "classes": drawn(f"{name}-classes", class_plot(comparison, looks, gone)),
        "discriminator": [
            (head, own[0], figure, chosen)
            for short, head, own, chosen in sides
            if (
                figure := drawn(
                    f"{name}-d-{short}",
                    discriminator_plot({one: shown[one].get("d_scores") for one in own}, looks),
                )
            )
        ],
    }


def _seed(comparison: Comparison) -> int | None:
    """The first seed of which the most models have something to show."""
    seeds = [
        record["cell"]["seed"]
        for row in comparison.rows
        for record in row.records
        if any(name in (record.get("exhibits") or {}) for name in EXHIBITS)
    ]
    return max(sorted(set(seeds)), key=seeds.count, default=None)


def _exhibits(row: Row, seed: int) -> Mapping[str, Any]:
    """A row's exhibits of this seed."""
    records = (record for record in row.records if record["cell"]["seed"] == seed)
    found = (record.get("exhibits") or {} for record in records)
    return next(({k: v for k, v in one.items() if k in EXHIBITS} for one in found), {})


def _pictures(exhibits: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    pictures = exhibits.get("pictures")
    part = pictures.get(name) if isinstance(pictures, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _gone(shown: Iterable[Mapping[str, Any]]) -> list[int]:
    """The classes that are forgotten as a whole: the same for all models."""
    noted = (_pictures(exhibits, "split").get("gone") for exhibits in shown)
    return next((list(gone) for gone in noted if gone), [])


def _tiles(exhibits: Mapping[str, Any], name: str) -> Tiles | None:
    part = _pictures(exhibits, name)
    return tiles(part.get("png"), part.get("columns"), part.get("rows"))


def tiles(png: object, columns: object, rows: object = 1) -> Tiles | None:
    """Images side by side, with the size that the file itself says.

    Returns:
        The tiles; None if this is no PNG file, or not in columns and rows.
    """
    if not (isinstance(png, str) and isinstance(columns, int) and isinstance(rows, int)):
        return None
    try:
        head = base64.b64decode(png, validate=True)[:24]
        width, height = struct.unpack(">II", head[16:24])
    except (binascii.Error, struct.error, ValueError):
        return None
    if not head.startswith(b"\x89PNG\r\n\x1a\n") or min(columns, rows, width, height) < 1:
        return None
    return Tiles(png, columns, rows, width, height)


def _moved(label: str, exhibits: Mapping[str, Any], gone: Sequence[int]) -> dict[str, Any] | None:
    """What forgotten latents gave, where they are sent to, and what they give now."""
    part = _pictures(exhibits, MOVED)
    called, lines = part.get("called") or {}, []
    heads = {
        "wanted": "to forget",
        "original": "original",
        "target": "sent to",
        "unlearned": label,
    }
    for what, head in heads.items():
        found = tiles((part.get("rows") or {}).get(what), part.get("columns"))
        if found is not None:
            said = tuple((number, number in gone) for number in called.get(what) or ())
            lines.append(Line(head, found, said))
    if not lines:
        return None
    return {"lines": lines, "said": _where_from(part), "count": _count(label, called, gone)}


def _where_from(part: Mapping[str, Any]) -> str:
    """Which latents these are."""
    n, rows = part["columns"], part["rows"]
    return {
        "judge": f"The first {n} latents from which the original makes a forgotten class, as the "
        "reporting judge sees it.",
        "label": f"The first {n} latents, with the label that is to be forgotten.",
        "method": f"{n} of the latents that the method itself found to show what is to be "
        "forgotten"
        + (", below the forgotten images nearest to them." if "wanted" in rows else "."),
        "nearest": "For each of the first forgotten images, in the top row, the latent whose "
        "sample by the original is nearest to it among many.",
    }.get(str(part.get("by")), "")


def _count(label: str, called: Mapping[str, Sequence[int]], gone: Sequence[int]) -> str:
    """How many of them the judge calls forgotten, before and after."""
    before, after = (called.get(what) or () for what in ("original", "unlearned"))
    if not before or not after:
        return ""
    hits = [sum(number in gone for number in one) for one in (before, after)]
    return (
        "The small numbers are the classes that the judge calls the images. It calls "
        f"{hits[0]} of {len(before)} a forgotten class before, and {hits[1] or 'none'} after "
        f"{label}."
    )


def _paths(label: str, exhibits: Mapping[str, Any]) -> list[list[Line]]:
    """Paths across forgotten latents, before and after."""
    part = _pictures(exhibits, "strips")
    found = []
    for path in part.get("paths") or ():
        both = zip((ORIGINAL, label), path, strict=False)
        lines = [(head, tiles(png, part.get("columns"))) for head, png in both]
        found.append([Line(head, one) for head, one in lines if one is not None])
    return found


def _told(row: Row, comparison: Comparison) -> str:
    """How well D tells forgotten from held-out images, in numbers."""
    auc = row.values.get("d_auc")
    if auc is None:
        return ""
    beside = []
    for name, what in ((ORIGINAL, "before"), (RETRAIN, "after retraining")):
        rival = comparison.row(name)
        if rival is not None and "d_auc" in rival.values:
            beside.append(f"{words.spread(rival.values['d_auc'], 1)} {what}")
    said = words.listed([*beside[:1], f"{words.spread(auc, 1)} after {row.label}", *beside[1:]])
    return (
        f"D tells forgotten from held-out images with an AUC of {said} (means over "
        "seeds); 50 is a coin, and below 50 is a tell-tale too."
    )


def without_pictures(record: Record) -> Record:
    """A GAN's record without the files and the latents that only pictures are made of."""
    if not is_gan(record["cell"]):
        return record
    kept = {"exhibits": "pictures", "notes": MOVED}
    return {
        name: {k: v for k, v in value.items() if k != kept[name]}
        if name in kept and isinstance(value, Mapping)
        else value
        for name, value in record.items()
    }


def is_gan(cell: Mapping[str, Any]) -> bool:
    """Whether a cell's model, or what surrounds its method, is a GAN."""
    return cell.get("kind") == "gan"
