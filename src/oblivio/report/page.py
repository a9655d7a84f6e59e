"""The results as one self-contained HTML page, on which every number leads to its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from oblivio.bench.spec import canonical, toml
from oblivio.bench.stats import Record, Results, summarise
from oblivio.bench.sweep import scenes
from oblivio.core import Score
from oblivio.files import write_whole
from oblivio.report import plot, words
from oblivio.report.evidence import evidence_parts
from oblivio.report.listing import finite, listing, provenance
from oblivio.report.scene import scene_parts
from oblivio.report.section import Sheet
from oblivio.report.significance import ranks_of

_ROOM = 9_800_000  # bytes: a page stays below 10 MB, of which plotly takes 5


@dataclass(frozen=True)
class Shown:
    """What is on the page besides means; what does not fit is left to the records' files.

    Args:
        exhibits: The lists of numbers in the records.
        pictures: The most exposed examples, and what GANs make, as pictures.
        plots: Those of single pruned models.
        details: The rest of the records, and all that panels say besides the headline scores.
    """

    exhibits: bool = True
    pictures: bool = True
    plots: bool = True
    details: bool = True


_SPARER = (
    Shown(),
    Shown(exhibits=False),
    Shown(exhibits=False, pictures=False),
    Shown(exhibits=False, pictures=False, plots=False),
    Shown(exhibits=False, pictures=False, plots=False, details=False),
)


def write_page(
    folder: Path,
    records: Iterable[Record],
    experiment: Mapping[str, Any],
    scores: Mapping[str, Score] | None = None,
    proofs: Sequence[Record] = (),
) -> Path:
    """Write `report.html`: one file that needs no network, whole or not at all.

    Args:
        folder: Where to write it.
        records: The experiment's records.
        experiment: Its resolved settings.
        scores: What the numbers mean; None asks the catalogue's metrics.
        proofs: The records of its shadow models.

    Returns:
        The page's path.
    """
    path = folder / "report.html"
    write_whole(path, page(list(records), experiment, scores, list(proofs)).encode())
    return path


def page(
    records: Sequence[Record],
    experiment: Mapping[str, Any],
    scores: Mapping[str, Score] | None = None,
    proofs: Sequence[Record] = (),
) -> str:
    """The page as text.

    Returns:
        HTML.
    """
    results = summarise(records, scores)
    text = ""
    for shown in _SPARER:
        listed, judged = (
            listing(some, exhibits=shown.exhibits, details=shown.details)
            for some in (records, proofs)
        )
        size = sum(len(record["json"]) for record in (*listed, *judged))
        if shown == _SPARER[-1] or size < _ROOM / 2:
            text = _rendered(records, experiment, results, shown, (listed, judged), proofs)
            if len(text.encode()) < _ROOM:
                break
    return text


def _rendered(
    records: Sequence[Record],
    experiment: Mapping[str, Any],
    results: Results,
    shown: Shown,
    listed: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]],
    proofs: Sequence[Record],
) -> str:
    """The page, with as much as is asked for."""
    sheet = Sheet(
        results,
        plot.colours(results),
        plots=shown.plots,
        details=shown.details,
        pictures=shown.pictures,
    )
    numbers = {id(one): f"s{place}" for place, one in enumerate(results.comparisons)}
    parts = [
        scene_parts(f"c{place}", scene, sheet, numbers)
        for place, scene in enumerate(scenes(results))
    ]
    found = evidence_parts(proofs, sheet, pictures=shown.pictures)
    environment = Environment(
        loader=PackageLoader("oblivio", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return (
        environment.get_template("page.html")
        .render(
            name=str(experiment.get("name") or "experiment"),
            title=str(experiment.get("title") or experiment.get("name") or "experiment"),
            about=str(experiment.get("about") or "").strip(),
            opening=opening(records, results),
            scenes=parts,
            ranks=ranks_of(results, sheet.looks, sheet.figures),
            evidence=found,
            gans=any(part["dense"] and part["dense"]["gan"] for part in parts),
            glossary={head: score for part in found for head, score in part["scores"].items()},
            unfinished=(*results.unfinished, *summarise(proofs, {}).unfinished),
            results=results,
            direction=words.direction,
            settings=toml(experiment),
            provenance=provenance(records),
            records=listed[0],
            proofs=listed[1],
            shown=shown,
            figures={name: plain(figure) for name, figure in sheet.figures.items()},
            plotly=get_plotlyjs(),
        )
        .lstrip()
    )


def opening(records: Sequence[Record], results: Results) -> str:
    """How much was run, in a sentence or two.

    Returns:
        A paragraph.
    """
    done = [record for record in records if record["status"] == "done"]
    if not done:
        return "No cell is done yet, so there is nothing to compare."
    methods = {row.label for comparison in results.comparisons for row in comparison.methods}
    seeds = {record["cell"]["seed"] for record in done}
    data = sorted({str(record["cell"]["data"]["name"]) for record in done})
    models = sorted({str(record["cell"]["model"]["name"]) for record in done})
    found = scenes(results)
    sparse = {canonical(one.pruner) for scene in found for one in scene.sparse}
    ways = f", dense and pruned in {_counted(len(sparse), 'way')}," if sparse else ""
    said = (
        f"Compared: {_counted(len(methods), 'method')} of forgetting, beside the untouched "
        f"original and a retrained model, in {_counted(len(found), 'scenario')}{ways} on "
        f"{words.listed(data)} with {words.listed(models)}, over {words.seeds(len(seeds))}. "
    )
    missing = [
        f"{sum(cell.status == status for cell in results.unfinished)} {status}"
        for status in dict.fromkeys(cell.status for cell in results.unfinished)
    ]
    rest = f"; {words.listed(missing)}" if missing else ""
    return f"{said}{len(done)} of {len(records)} cells are done{rest}."


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def plain(figure: Figure) -> dict[str, Any]:
    """A figure's data and layout, without plotly's own colours.

    Returns:
        What JSON can hold.
    """
    found = finite(figure.to_plotly_json())
    found["layout"].pop("template", None)
    return found
