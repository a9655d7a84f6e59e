"""What a run tells of while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from oblivio.core import Note, Progress


@dataclass(frozen=True)
class Event:
    """Something that happened: to a cell or an original (`task`), and what."""

    task: str
    kind: str
    text: str = ""
    done: int = 0
    total: int = 0


Listener = Callable[[Event], None]


def progress(task: str, tell: Listener) -> Callable[[Progress | Note], None]:
    """What passes a training's progress on."""

    def listen(event: Progress | Note) -> None:
        if isinstance(event, Progress):
            tell(Event(task, "progress", f"loss {event.loss:.3f}", event.done, event.total))

    return listen


def sentence(error: Exception) -> str:
    """An error in one line."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    named = isinstance(error, (ValueError, FileNotFoundError, PermissionError, FloatingPointError))
    return first if named and first else f"{type(error).__name__}: {first}"
