"""Whoever looks at the same folder shares its work, and takes over what the dead have claimed."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from oblivio.bench import claim as claims
from oblivio.bench.claim import attempt, claim, shared, stale
from oblivio.bench.process import processes
from oblivio.bench.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.create()
    return store


def work(subject, store, tell):
    """Do what is not done yet, and note that it was."""
    done = store.folder / "records" / f"{subject}.json"
    if not done.exists():
        time.sleep(0.02)
        tell(subject)
        done.touch()


def at_work(store, subjects, heard):
    with processes(1, heard.append) as at_once:
        shared(at_once, work, {f"key-{subject}": subject for subject in subjects}, store)


def test_two_share_the_work_and_both_end_when_all_is_done(store):
    heard = [[], []]
    threads = [threading.Thread(target=at_work, args=(store, range(12), one)) for one in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        assert len(list(store.folder.glob("records/*.json"))) == 12
    assert sorted(heard[0] + heard[1]) == list(range(12))
    assert all(heard)
    assert not list(store.folder.rglob(".*"))


def test_only_one_holds_a_claim(tmp_path):
    path = tmp_path / "claim"
    with claim(path) as first:
        with claim(path) as second:
            assert (first, second) == (True, False)
        assert path.is_file()
    assert not path.exists()


def test_a_claim_ends_with_an_error(store):
    def fail(*_):
        raise ValueError("fallen")

    with pytest.raises(ValueError, match="fallen"):
        attempt(fail, 1, "key", store, print)
    assert not list(store.folder.rglob(".*"))


def test_a_claim_that_is_not_touched_counts_no_longer(tmp_path):
    path = tmp_path / "claim"
    assert not stale(path)
    path.write_text("elsewhere 1")
    assert not stale(path)
    old = time.time() - claims.EXPIRES - 1
    os.utime(path, (old, old))
    assert stale(path)
    with claim(path) as ours:
        assert ours
        assert path.read_text() == f"{socket.gethostname()} {os.getpid()}"


def test_a_claim_is_touched_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    path = tmp_path / "claim"
    with claim(path):
        os.utime(path, (1, 1))
        end = time.monotonic() + 10
        while path.stat().st_mtime == 1:
            assert time.monotonic() < end
            time.sleep(0.01)
        path.unlink()  # as one does who thinks it stale
        time.sleep(0.05)


HOLD = """
import sys, time
from pathlib import Path
from oblivio.bench.claim import claim
with claim(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_claimed_is_taken_over(store):
    path = store.models / ".key-3.claim"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        assert attempt(work, 3, "key-3", store, print) is False
        assert not stale(path)
        process.send_signal(signal.SIGKILL)
    assert path.is_file()
    assert stale(path)
    heard = []
    at_work(store, [3], heard)
    assert heard == [3]
    assert not path.exists()


TINY = """
data = { name = "digits" }
model = { name = "mlp", hidden = [8] }
train = { epochs = 1, lr = 0.05, batch_size = 64 }
seeds = 4
"""


def test_two_runs_on_the_same_folder_do_every_cell_once(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    command = [sys.executable, "-m", "oblivio", "run", "tiny.toml", "--out", "runs", "--jobs", "1"]
    environment = {**os.environ, "PYTHONWARNINGS": "", "COLUMNS": "200"}
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    done = [line for text in said for line in re.findall(r"^\d+/\d+ done: .*$", text, re.MULTILINE)]
    ours = [line for line in done if "by another process" not in line]
    assert len(ours) == 8, said
    assert not list(Path(tmp_path).rglob(".*"))
