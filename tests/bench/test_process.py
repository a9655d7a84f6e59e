"""Calls one after another or in several processes: all are made, all events are heard."""

import os
import queue
import signal
import threading
import time

import pytest

from oblivio.bench.event import Event
from oblivio.bench.process import passed_on, processes


def greet(name, tell):
    tell(Event(name, "done", f"{os.getpid()} {signal.getsignal(signal.SIGINT)!r}"))


def linger(_, tell):
    tell(Event("", "start"))
    time.sleep(0.3)


def fall(name, tell):
    raise ValueError(f"{name} fell")


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_call_is_made_and_heard_of(jobs):
    heard = []
    with processes(jobs, heard.append) as at_once:
        at_once(greet, [(name,) for name in "abcd"])
        at_once(greet, [("e",)])
    assert sorted(event.task for event in heard) == list("abcde")
    pids = {int(event.text.split()[0]) for event in heard}
    assert (pids == {os.getpid()}) == (jobs == 1)
    if jobs == 2:  # Ctrl-C is for the process that a user talks to
        assert all("SIG_IGN" in event.text for event in heard)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_calls_are_over_before_the_next_begin():
    moments = []
    with processes(2, lambda _: moments.append(time.monotonic())) as at_once:
        for _ in range(2):
            at_once(linger, [(0,), (1,)])
    assert moments[2] - max(moments[:2]) > 0.2


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_call_raises_is_raised(jobs):
    with pytest.raises(ValueError, match="a fell"), processes(jobs, print) as at_once:
        at_once(fall, [("a",)])


def test_nothing_is_lost_at_the_end():

    events, heard = queue.Queue(), []
    with passed_on(events, heard.append):
        for number in range(500):
            events.put(number)
    assert heard == list(range(500))


def test_it_works_beside_the_main_thread():
    heard = []

    def work():
        with processes(2, heard.append) as at_once:
            at_once(greet, [("a",)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [event.task for event in heard] == ["a"]
