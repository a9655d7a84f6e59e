"""Calls one after another, or at once in several processes of this machine."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from oblivio.bench.event import Listener

AtOnce = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], list[Any]]
"""Call a function with each of these arguments and a listener, in any order; give all results."""


@contextmanager
def processes(jobs: int, tell: Listener) -> Generator[AtOnce]:
    """A way to call a function many times: here one after another, or in several processes."""
    if jobs == 1:

        def one_by_one(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
            return [function(*call, tell) for call in calls]

        yield one_by_one
        return

    from multiprocessing import Manager

    from joblib import Parallel, delayed

    with Manager() as manager, Parallel(n_jobs=jobs) as parallel:
        with _deaf_to_interrupts():
            parallel(delayed(_start_up)() for _ in range(jobs))
        events: Any = manager.Queue()

        def in_processes(
            function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
        ) -> list[Any]:
            return list(parallel(delayed(function)(*call, events.put) for call in calls))

        with passed_on(events, tell):
            yield in_processes


@contextmanager
def passed_on(events: Any, tell: Listener) -> Generator[None]:
    """Tell, from a thread, of every event that other processes put into a queue."""
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set() or not events.empty():
            try:
                tell(events.get(timeout=0.1))
            except queue.Empty:
                continue

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        listener.join()


@contextmanager
def _deaf_to_interrupts() -> Generator[None]:
    """Processes that start in here ignore Ctrl-C: it is for the one that a user talks to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_up() -> None:
    """Import this module in a new process, which takes its seconds."""
