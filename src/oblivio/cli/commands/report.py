"""`oblivio report`: the page and the tables, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oblivio.cli.display import tell
from oblivio.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results.")],
) -> None:
    """Write the report of a folder again, from its records alone."""
    from rich.console import Console

    found = [folder] if (folder / "experiment.toml").is_file() else []
    found = found or sorted(path.parent for path in folder.glob("*/experiment.toml"))
    if not found:
        raise FileNotFoundError(f"{folder} is no folder of results: it has no experiment.toml.")
    for one in found:
        _report_one(Console(), one)


def _report_one(console: Console, folder: Path) -> None:
    """Write one folder's report again."""
    from oblivio.bench import spec
    from oblivio.bench.store import Store

    asked = spec.written(folder / "experiment.toml")
    store = Store(folder, warn=lambda text: say(text, "yellow"))
    found = {record["key"]: record for record in store.records()}
    records = [found[key] for key in asked.pop("keys") if key in found]
    if not records:
        raise FileNotFoundError(f"{folder} holds no records of the experiment {asked['name']}.")
    if len(found) > len(records):
        console.print(
            f"{len(found) - len(records)} records of other settings lie in {folder} too; "
            f"they are left out."
        )
    proofs = [store.evidence.read_record(key) for key in asked.pop("evidence_keys", [])]
    tell(console, folder, records, asked, [record for record in proofs if record is not None])
