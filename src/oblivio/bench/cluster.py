"""Calls at once on a Ray cluster: the very same as in processes of one machine, on many machines.

Whoever starts a run connects to the cluster of `RAY_ADDRESS`, or to one that this machine belongs
to, or else starts a runtime of its own. Machines share nothing but the folders of results.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import cpu_count

import oblivio
from oblivio.bench.event import Event, Listener
from oblivio.bench.process import AtOnce, passed_on
from oblivio.bench.spec import Engine

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anyone
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # no lines of Ray's between those of the run
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of what its next version will do
}
for _name, _value in QUIET.items():  # read when Ray is imported; who has set them knows better
    os.environ.setdefault(_name, _value)

try:
    import ray
    from ray.exceptions import (
        NodeDiedError,
        OutOfMemoryError,
        RayError,
        RayTaskError,
        WorkerCrashedError,
    )
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ValueError(
        'A run on a cluster needs Ray, which is not installed: pip install "oblivio[cluster]".'
    ) from error

RETRIES = 3
"""How often a call is made again after its process or its machine died under it."""

PATIENCE = 300.0
"""Seconds in which every machine of a cluster has to answer."""


@contextmanager
def cluster(
    jobs: int, tell: Listener, engine: Engine, folders: Sequence[Path]
) -> Generator[AtOnce]:
    """A way to call a function many times on the machines of a Ray cluster.

    A call whose process or machine dies is made again, so it must not matter what it had done.

    Args:
        jobs: How many calls run at once; 0 is as many as the cluster has CPUs (or GPUs) for.
        tell: Hears of everything that happens, here.
        engine: What a call needs: CPUs as it has threads, and a GPU if its device is one.
        folders: What all machines have to share.

    Raises:
        ConnectionError: If there is no such cluster, or a machine of it does not share a folder.
        ChildProcessError: At the end, if calls were given up because their processes died.
    """
    ours = not ray.is_initialized()
    if ours:
        _connect(max(cpu_count(), jobs * engine.threads))
    try:
        surroundings = Surroundings.here()
        for folder in folders:
            check_shared(folder, surroundings)
        needs = {"num_cpus": engine.threads, "num_gpus": int(engine.device == "cuda")}
        _introduce(needs, tell)
        call = ray.remote(_call).options(max_retries=RETRIES, **needs)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        died: list[str] = []

        def on_machines(
            function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
        ) -> list[Any]:
            tasks = [(function, arguments, events, surroundings) for arguments in calls]
            results = _all_done(call, tasks, jobs)
            lost = (task for number, task in enumerate(tasks) if number not in results)
            died.extend(str(arguments[0]) for _, arguments, *_ in lost)
            return [results.get(number) for number in range(len(tasks))]

        with passed_on(events, tell):
            yield on_machines
        if died:
            raise ChildProcessError(
                f"The processes of {len(died)} tasks died {RETRIES + 1} times each (no memory "
                f"left?), and so there is nothing of {'; '.join(dict.fromkeys(died))}."
            )
    finally:
        if ours:
            ray.shutdown()


def _connect(cpus: int) -> None:
    """Join the cluster that is meant or found; without any, start a runtime on this machine."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        if address not in ("auto", "local"):  # Ray itself tries for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        if address != "local":
            ray.init(address, **quiet)
            return
    except (OSError, ValueError, RuntimeError) as error:
        if address != "auto" or not isinstance(error, ConnectionError):
            reason = str(error).strip().partition("\n")[0]
            raise ConnectionError(
                f"Cannot join the Ray cluster at RAY_ADDRESS={address}: {reason}"
            ) from error
    # Nothing but events passes through Ray: the smallest store will do.
    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    ray.init("local", num_cpus=cpus, **small, **quiet)


def _introduce(needs: dict[str, int], tell: Listener) -> None:
    """Tell what there is. Ray lets what fits nowhere wait for a machine to join: tell it."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    amounts = {what: [int(one.get(what, 0)) for one in machines] for what in ("CPU", "GPU")}
    text = f"Ray has {len(machines)} machine{'s' * (len(machines) > 1)} with " + " and ".join(
        f"{sum(amount)} {what}s" for what, amount in amounts.items()
    )
    cpus, gpus = needs.values()
    if not any(c >= cpus and g >= gpus for c, g in zip(*amounts.values(), strict=True)):
        text += f"; none has the {cpus} CPUs and {gpus} GPUs of a cell, and all waits for one"
    tell(Event("cluster", "warning", f"{text}."))


# --- On another machine -------------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """What a process elsewhere has to know of the one that calls it.

    Args:
        version: Of oblivio.
        data: The folder of data sets, if one is named.
        path: Where modules are looked for, a user's own among them.
    """

    version: str
    data: str | None
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process."""
        data = os.environ.get("OBLIVIO_DATA")
        path = (str(Path(entry).absolute()) for entry in sys.path)
        return cls(oblivio.__version__, data and str(Path(data).absolute()), tuple(path))

    def enter(self) -> None:
        """Make them those of this process."""
        if self.data is not None:
            os.environ["OBLIVIO_DATA"] = self.data
        sys.path.extend(entry for entry in self.path if entry not in sys.path)


def _call(
    function: Callable[..., Any], arguments: tuple[Any, ...], events: Queue, caller: Surroundings
) -> Any:
    caller.enter()
    return function(*arguments, events.put)


def _all_done(call: Any, tasks: Sequence[tuple[Any, ...]], jobs: int) -> dict[int, Any]:
    """Call with all of these, so many at once (0: as the cluster bears), and wait for the last.

    Returns:
        What each gave, by its number, without those whose processes died again and again.
    """
    left, running, results = list(enumerate(tasks))[::-1], {}, {}
    try:
        while left or running:
            while left and (not jobs or len(running) < jobs):
                number, task = left.pop()
                running[call.remote(*task)] = number
            (ended,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ended)
            try:
                results[number] = ray.get(ended)
            except RayTaskError as error:
                raise error.cause from None
            except (WorkerCrashedError, OutOfMemoryError, NodeDiedError):
                continue
    finally:  # after Ctrl-C or an error: politely, so that no half-written file stays behind
        for task in running:
            ray.cancel(task)
        ray.wait(list(running), num_returns=len(running), timeout=5) if running else None
    return results


# --- Whether all machines share a folder --------------------------------------------------------


def check_shared(folder: Path, caller: Surroundings) -> None:
    """See that every machine can read and write a folder, and has the same oblivio.

    Args:
        folder: Of results.
        caller: What other machines need to have.

    Raises:
        ConnectionError: If a machine of the cluster does not; it says which and why.
    """
    machines = {
        node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]
    }
    with tempfile.TemporaryDirectory(dir=folder, prefix=".shared-") as place:
        answers = {}
        for node in machines:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            asked = ray.remote(_answer).options(num_cpus=0, scheduling_strategy=there)
            answers[node] = asked.remote(Path(place, node), caller)
        for node, machine in machines.items():
            try:
                complaint = ray.get(answers[node], timeout=PATIENCE)
            except (RayError, TimeoutError) as error:
                complaint = f"cannot run oblivio ({str(error).strip().splitlines()[-1]})"
            if not complaint and not Path(place, node).is_file():
                complaint = "writes its files elsewhere"
            if complaint:
                raise ConnectionError(
                    f"The machine {machine} of the cluster {complaint}; a run on several machines "
                    f"needs a folder of results that all of them share, and the same oblivio: name "
                    f"a folder with --out (it is {folder})."
                )


def _answer(place: Path, caller: Surroundings) -> str | None:
    """What this machine lacks; if nothing, it leaves a file."""
    if oblivio.__version__ != caller.version:
        return f"has oblivio {oblivio.__version__}, not {caller.version}"
    if caller.data is not None and not Path(caller.data).is_dir():
        return f"has no folder of data sets {caller.data}"
    try:
        place.write_text("seen")
    except OSError as error:
        return f"cannot write to the folder {place.parents[1]} ({error.strerror})"
    return None
