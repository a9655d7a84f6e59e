"""Every scenario obeys the laws; and what each of them promises beyond."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import laws
import worlds
from oblivio.catalogue import find, names
from oblivio.core import Scenario
from oblivio.scenarios.class_wise import ClassWise
from oblivio.scenarios.items import Items, read_ids
from oblivio.scenarios.random import Random

NEEDED: dict[str, dict[str, Any]] = {
    "items": {"ids": (10, 13, 100)},
    "harmful": {"target": {"name": "part", "train": 40}, "repeats": 1},
}
"""Settings of scenarios that cannot do without, or would take long."""

SCENARIOS = {
    **{name: find("scenarios", name)(**NEEDED.get(name, {})) for name in names("scenarios")},
    "random-count": Random(count=7),
    "class_wise-half": ClassWise(label=2, fraction=0.5),
}


@pytest.mark.parametrize("law", laws.SCENARIO_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", SCENARIOS)
def test_law(name: str, law: Callable[[Scenario], None]) -> None:
    law(SCENARIOS[name])


@pytest.mark.parametrize("name", ["random", "random-count", "class_wise-half"])
def test_random_scenarios_differ_between_seeds(name: str) -> None:
    train = worlds.pictures(60)
    digests = {SCENARIOS[name](train, seed).digest for seed in laws.seeds(10)}
    assert len(digests) == 10


@pytest.mark.parametrize("name", ["class_wise", "items"])
def test_other_scenarios_do_not(name: str) -> None:
    train = worlds.pictures(60)
    assert len({SCENARIOS[name](train, seed).digest for seed in laws.seeds(5)}) == 1


# --- Random -------------------------------------------------------------------------------------


@given(n=st.integers(2, 200), count=st.integers(1, 199), seed=st.integers(0, 2**63 - 1))
def test_random_forgets_as_many_as_asked(n: int, count: int, seed: int) -> None:
    train = worlds.pictures(n, 1, (1,))
    if count < n:
        assert len(Random(count=count)(train, seed).forget) == count
    else:
        with pytest.raises(ValueError, match=f"{count} of {n}"):
            Random(count=count)(train, seed)


@pytest.mark.parametrize(("fraction", "count"), [(None, 6), (0.1, 6), (0.5, 30), (0.99, 59)])
def test_random_forgets_a_share(fraction: float | None, count: int) -> None:
    assert len(Random(fraction)(worlds.pictures(60), 0).forget) == count


def test_random_draws_every_example_as_often() -> None:
    """Over 2,000 draws of 10 from 20, each count is binomial, within five standard deviations."""
    train, counts = worlds.pictures(20, 1, (1,)), torch.zeros(100)
    for seed in laws.seeds(2000):
        counts[Random(count=10)(train, seed).forget.ids] += 1
    drawn = counts[train.ids]
    assert float(drawn.sum()) == 20_000
    assert float((drawn - 1000).abs().max()) < 5 * (2000 * 0.25) ** 0.5


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"fraction": 0.0}, "between 0 and 1"),
        ({"fraction": 1.0}, "between 0 and 1"),
        ({"fraction": -0.5}, "between 0 and 1"),
        ({"count": 0}, "1 or more"),
        ({"fraction": 0.1, "count": 1}, "not both"),
    ],
)
def test_random_rejects(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Random(**settings)


def test_random_refuses_to_forget_nothing() -> None:
    with pytest.raises(ValueError, match="0 of 4 examples"):
        Random(fraction=0.01)(worlds.pictures(4), 0)


# --- Class-wise ---------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1, 2])
def test_class_wise_forgets_the_class_and_nothing_else(label: int) -> None:
    split = ClassWise(label)(worlds.pictures(31), 0)
    assert set(split.forget.labels.tolist()) == {label}
    assert label not in split.retain.labels.tolist()
    assert split.gone.tolist() == [label]


def test_class_wise_forgets_a_share_of_the_class() -> None:
    split = ClassWise(1, fraction=0.25)(worlds.pictures(60), 0)
    assert split.forget.labels.tolist() == [1] * 5
    assert split.retain.labels.tolist().count(1) == 15
    assert split.gone.tolist() == []


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"label": -1}, "0 or more"),
        ({"fraction": 0.0}, "above 0"),
        ({"fraction": 1.5}, "at most 1"),
    ],
)
def test_class_wise_rejects(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ClassWise(**settings)


def test_class_wise_names_the_classes_there_are() -> None:
    with pytest.raises(ValueError, match="label 7; there are: 0, 1, 2"):
        ClassWise(7)(worlds.pictures(9), 0)


# --- Items --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "10\n13\n100\n",
        "\n10\n\n13\n100",
        "id\n10\n13\n100\n",
        "name,id,why\na,10,x\nb,13,y\nc,100,z\n",
        "number,name\n10,a\n13,b\n100,c\n",
        "\ufeffID\n 10\n13 \n100\n",
        "10,a\n13,b\n100,c\n",
    ],
)
def test_items_reads_ids_from_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ids.csv"
    file.write_text(text, encoding="utf-8")
    assert read_ids(file) == [10, 13, 100]
    split = Items(file=str(file))(worlds.pictures(60), 0)
    assert sorted(split.forget.ids.tolist()) == [10, 13, 100]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "holds no ids"),
        ("id\n", "holds no ids"),
        ("1\ntwo\n", "line 2: 'two'"),
        ("id\n1\n2.5\n", "line 3: '2.5'"),
        ("name,id\na,1\nb\n", "line 3: 'b'"),
    ],
)
def test_items_says_which_line_holds_no_id(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "ids.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=match):
        read_ids(file)


def test_items_rejects(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either as ids"):
        Items()
    with pytest.raises(ValueError, match="either as ids"):
        Items(ids=(1,), file="ids.txt")
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        Items(file=str(tmp_path / "missing.txt"))(worlds.pictures(9), 0)
    with pytest.raises(ValueError, match="no examples with these ids: 8"):
        Items(ids=(8,))(worlds.pictures(9), 0)
