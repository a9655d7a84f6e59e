"""Forget the examples with given ids."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from oblivio.core import Data, Split


@dataclass(frozen=True)
class Items:
    """Forget given ids, from a list or a text or CSV file.

    Args:
        ids: The ids.
        file: A file with one id per line; of a CSV file, the column `id`, or the only or first one.

    Raises:
        ValueError: If not exactly one of the two is given.
    """

    ids: tuple[int, ...] = ()
    file: str | None = None

    def __post_init__(self) -> None:
        if bool(self.ids) == bool(self.file):
            raise ValueError('Give the items either as ids = [...] or as file = "...".')

    def __call__(self, train: Data, seed: int) -> Split:
        """Choose the items; there is nothing random about it."""
        return Split.of(train, self.ids or read_ids(Path(str(self.file))))


def read_ids(path: Path) -> list[int]:
    """The ids in a text or CSV file.

    Returns:
        The ids in the file's order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not a whole number, or there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of ids {path}.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [(n, row) for n, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
    column = 0
    if lines and not lines[0][1][0].strip().lstrip("-").isdigit():
        header = [name.strip().lower() for name in lines.pop(0)[1]]
        column = header.index("id") if "id" in header else 0
    ids = []
    for number, row in lines:
        try:
            ids.append(int(row[column]))
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}, line {number}: {','.join(row)!r} holds no id.") from error
    if not ids:
        raise ValueError(f"The file {path} holds no ids.")
    return ids
