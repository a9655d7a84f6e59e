"""The same cells on a Ray cluster: killed, failed, interrupted, and always the same numbers.

As Ray lives long and is loud, a process of its own runs everything once (`main`, below), and the
tests look at what it left.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from oblivio.bench import run as bench
from oblivio.bench.event import Event
from oblivio.bench.spec import Engine, Experiment, as_toml
from oblivio.bench.store import Store
from oblivio.train import Recipe

LOCKED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""The tests' runtime opens to this token alone, which is made for it and ends with it."""


@dataclass(frozen=True)
class Fatal:
    """Kills its process in the first attempt; in later ones it does nothing."""

    marker: str = ""

    reads: ClassVar = frozenset({"retain"})

    def __call__(self, model, split, run):
        if not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return model


def tiny(folder):
    fine_tune = {"name": "fine_tune", "recipe": {"epochs": 1}}
    return Experiment(
        name="tiny",
        data={"name": "digits"},
        model={"name": "mlp", "hidden": [16]},
        train=Recipe(epochs=3, lr=0.05, batch_size=64),
        methods=(
            fine_tune,
            {"name": "test_ray:Fatal", "marker": str(folder / "marker")},
            {**fine_tune, "recipe": {"epochs": 1, "lr": 1e30}},
        ),
        metrics=({"name": "accuracy"}, {"name": "confusion"}),
        seeds=1,
    )


def look(name, tell):
    tell(Event(name, "done", os.environ["OBLIVIO_DATA"]))


def die(name, tell):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(name, tell):
    raise ValueError(f"{name} is refused")


def main(folder):
    """Run everything that the tests look at, and keep the runtime until the input ends."""
    from oblivio.bench import cluster

    os.environ["RAY_ADDRESS"] = "local"
    cluster._connect(2)
    os.chdir(folder)  # where Ray's processes do not stand
    experiment, seen = tiny(folder).resolved(), {}

    def run(name, engine, jobs):
        store, events = Store(Path(name)), []
        store.create()
        records = bench.run(experiment, store, jobs=jobs, tell=events.append, engine=engine)
        seen[name] = {
            "records": records,
            "events": [(e.task, e.kind, e.text) for e in events],
            "files": sorted(str(path.relative_to(name)) for path in Path(name).rglob("*")),
        }

    run("ray", "ray", 2)
    run("local", "local", 1)

    os.environ["OBLIVIO_DATA"] = "."
    events = []
    cluster.RETRIES = 0
    try:
        with cluster.cluster(0, events.append, Engine(threads=1), [folder]) as at_once:
            at_once(look, [("a",), ("b",)])
            at_once(die, [("c",), ("d",)])
            at_once(look, [("e",)])
            try:
                at_once(refuse, [("f",)])
            except ValueError as error:
                seen["refused"] = str(error)
    except ChildProcessError as error:
        seen["died"] = str(error)
    seen["looks"] = [(event.task, event.text) for event in events]
    try:
        cluster.check_shared(folder, cluster.Surroundings("0.0.0", None, ()))
    except ConnectionError as error:
        seen["unshared"] = str(error)
    seen["folder"] = str(folder)
    seen["address"] = cluster.ray.get_runtime_context().gcs_address
    Path("seen.json").write_text(json.dumps(seen, default=str))
    print("ready", flush=True)
    sys.stdin.read()
    cluster.ray.shutdown()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    pytest.importorskip("ray", reason="needs Ray: pip install 'oblivio[cluster]'")
    folder = tmp_path_factory.mktemp("ray")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **LOCKED},
    )
    said = process.stdout.readline()
    if said != "ready\n":
        process.kill()
        pytest.fail(f"{said}{process.communicate()[1]}")
    yield json.loads((folder / "seen.json").read_text())
    _, noise = process.communicate()
    assert (process.returncode, noise) == (0, "")


def numbers(records):
    """What must be the same: all but times, provenance and places."""
    return {
        record["key"]: {
            "metrics": record.get("metrics"),
            "exhibits": record.get("exhibits"),
            "status": record["status"],
            "reason": record["reason"],
        }
        for record in records
    }


def test_the_numbers_are_those_of_this_machine(seen):
    one, two = seen["local"]["records"], seen["ray"]["records"]
    assert len(one) == 5
    assert numbers(one) == numbers(two)
    assert seen["ray"]["files"] == seen["local"]["files"]


def test_a_call_whose_process_is_killed_is_made_again(seen):
    by_method = {r["cell"]["method"]["name"]: r for r in seen["ray"]["records"]}
    assert by_method["test_ray:Fatal"]["status"] == "done"
    starts = [
        task
        for task, kind, _ in seen["ray"]["events"]
        if (kind, "Fatal" in task) == ("start", True)
    ]
    assert len(starts) == 2


def test_a_failing_cell_is_a_record(seen):
    failed = [record for record in seen["ray"]["records"] if record["status"] == "failed"]
    assert len(failed) == 1
    assert "learning rate" in failed[0]["reason"]


def test_events_come_back(seen):
    for name in ("ray", "local"):
        events = seen[name]["events"]
        ended = sorted(kind for _, kind, _ in events if kind in ("done", "failed"))
        assert ended == ["done"] * 5 + ["failed"]  # an original and five cells
        assert any(kind == "progress" and text.startswith("loss") for _, kind, text in events)
    assert "Ray has 1 machine with 2 CPUs and 0 GPUs." in [e[2] for e in seen["ray"]["events"]]


def test_processes_elsewhere_know_where_the_data_are(seen):
    assert sorted(look for look in seen["looks"] if look[0] != "cluster") == [
        [name, seen["folder"]] for name in "abe"
    ]


def test_calls_that_die_again_and_again_are_given_up_and_named(seen):
    assert "2 tasks died 1 times each" in seen["died"]
    assert "nothing of c; d" in seen["died"]


def test_errors_are_sentences(seen):
    assert seen["refused"] == "f is refused"
    assert "has oblivio" in seen["unshared"]
    assert "not 0.0.0" in seen["unshared"]
    assert "--out" in seen["unshared"]


def test_what_a_machine_lacks_is_said(tmp_path):
    cluster = pytest.importorskip("oblivio.bench.cluster", exc_type=ValueError)
    here = cluster.Surroundings.here()
    assert cluster._answer(tmp_path / "node", here) is None
    assert (tmp_path / "node").is_file()
    assert "cannot write to the folder" in cluster._answer(tmp_path / "gone" / "node", here)


def start(seen, folder, experiment):
    path = folder / "slow.toml"
    path.write_text(as_toml(experiment))
    command = [sys.executable, "-m", "oblivio", "run", path, "--out", folder, "--engine", "ray"]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **LOCKED, "RAY_ADDRESS": seen["address"], "PYTHONWARNINGS": ""},
    )


def test_ctrl_c_stops_a_run_on_a_cluster_and_leaves_whole_files(seen, tmp_path):
    experiment = tiny(tmp_path)
    slow = {"name": "fine_tune", "recipe": {"epochs": 10_000}}
    process = start(seen, tmp_path, replace(experiment, methods=(slow,)).resolved())
    try:
        end = time.monotonic() + 120
        while len(list((tmp_path / "records").glob("*.json"))) < 2:
            assert time.monotonic() < end, "no records in two minutes"
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("oblivio: Stopped.")
    assert not list(tmp_path.rglob(".*"))
    assert len(list((tmp_path / "records").glob("*.json"))) == 2


def test_without_ray_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "oblivio.bench.cluster", raising=False)
    with pytest.raises(ValueError, match=r'pip install "oblivio\[cluster\]"'):
        bench.check_engine("ray")


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="Did you mean ray"):
        bench.check_engine("rya")


def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch):
    cluster = pytest.importorskip("oblivio.bench.cluster", exc_type=ValueError)
    for address in ("127.0.0.1:1", "nonsense"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConnectionError, match=f"RAY_ADDRESS={address}"):
            cluster._connect(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
