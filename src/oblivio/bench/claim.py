"""Work shared by whoever looks at the same folder: what one has claimed, another leaves alone.

A claim is a file that only one can create. Whoever holds it touches it again and again; if it is
not touched any more, or its process is gone, it counts no longer. Claims save work and decide
nothing: if two do the same cell after all, they write the same files.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from oblivio.bench.event import Listener
from oblivio.bench.process import AtOnce
from oblivio.bench.store import Store

BEAT = 10.0
"""Seconds between two touches of a claim."""

EXPIRES = 60.0
"""Seconds after which a claim that is not touched counts no longer."""

PAUSE = 0.5
"""Seconds before looking again at what others have claimed."""


def shared(
    at_once: AtOnce, function: Callable[..., None], subjects: Mapping[str, Any], store: Store
) -> None:
    """Call a function with every subject that nobody else is at, until all of them are done.

    A function finds done what another has done meanwhile.

    Args:
        at_once: Makes many calls.
        function: Takes a subject, a store and a listener.
        subjects: By the key that is claimed.
        store: Where results and claims are kept.
    """
    left = dict(subjects)
    while left:
        over = at_once(partial(attempt, function), [(one, key, store) for key, one in left.items()])
        claimed = [key for key, ours in zip(left, over, strict=True) if ours is False]
        left = {key: left[key] for key in claimed}
        time.sleep(PAUSE if left else 0)


def attempt(
    function: Callable[..., None], subject: Any, key: str, store: Store, tell: Listener
) -> bool:
    """Call a function unless another is at it.

    Returns:
        Whether it was called.
    """
    with claim(store.models / f".{key}.claim") as ours:
        if ours:
            # A network folder may remember for a while that a file was not there.
            os.listdir(store.folder / store.kind)
            function(subject, store, tell)
    return ours


@contextmanager
def claim(path: Path) -> Generator[bool]:
    """Hold a claim, and say whether it could be had."""
    if stale(path):
        path.unlink(missing_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{socket.gethostname()} {os.getpid()}")
    except FileExistsError:
        yield False
        return
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    heart.start()
    try:
        yield True
    finally:
        ended.set()
        heart.join()
        path.unlink(missing_ok=True)


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        try:
            os.utime(path)
        except OSError:  # whoever thought it stale does the same
            return


def stale(path: Path) -> bool:
    """Whether a claim counts no longer.

    Args:
        path: A claim's file, there or not.

    Returns:
        True if its process is gone, as far as this machine can see, or it has not been touched.
    """
    try:
        with path.open(encoding="utf-8") as file:  # opened, a network folder tells the truth
            host, _, process = file.read().partition(" ")
            touched = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return False
    if host == socket.gethostname() and process.isdecimal() and not _lives(int(process)):
        return True
    # Both times are the file server's: clocks of machines differ.
    with tempfile.TemporaryFile(dir=path.parent) as now:
        return os.fstat(now.fileno()).st_mtime - touched > EXPIRES


def _lives(process: int) -> bool:
    if os.name != "posix":  # elsewhere a signal cannot ask
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
