"""The tables on the terminal: everything is there, at any width."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from oblivio.bench.stats import summarise
from oblivio.core import Score
from oblivio.report import words
from oblivio.report.table import print_table
from records import MAGNITUDE, RANDOM, make_record, make_records, make_sweep


def printed(records: list[dict], width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO())
    print_table(records, console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_fits_and_cuts_nothing(width):
    text = printed(make_records(3), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in (
        "Random 10 %",
        "Class 3",
        "gradient_ascent",
        "UA",
        "RA",
        "TA",
        "Avg gap",
        "faster",
        "correctness",
        "entropy",
    ):
        assert word in text
    assert re.search(r"Means over 3\s+seeds", text)


def test_numbers_are_the_statistics():
    records = make_records(3, (RANDOM,))
    (comparison,) = summarise(records).comparisons
    found = comparison.row("fine_tune")
    text = printed(records)
    assert words.spread(found.values["ua"]) in text
    assert f"Δ {words.number(found.gaps['ua'].mean)}" in text
    assert words.spread(found.gap) in text


def test_original_and_retrain_come_first():
    text = printed(list(reversed(make_records(2, (RANDOM,)))))
    places = [text.index(name) for name in ("original", "retrain", "gradient_ascent", "fine_tune")]
    assert places == sorted(places)


def test_one_seed_says_so():
    text = printed(make_records(1, (RANDOM,)))
    assert "no intervals" in text
    assert "±" not in text


def test_without_retrain_it_says_so():
    records = [r for r in make_records(2, (RANDOM,)) if r["cell"]["method"]["name"] != "retrain"]
    assert "no gaps" in printed(records)


@pytest.mark.parametrize(("power", "warned"), [(60.0, False), (50.5, True)])
def test_an_attack_that_is_a_coin_is_said(power, warned):
    records = make_records(2, (RANDOM,))
    for record in records:
        weak = record["cell"]["method"]["name"] == "fine_tune" and record["cell"]["seed"] == 1
        record["metrics"]["mia_power"] = power if weak else 60.0
    text = " ".join(printed(records).split())
    assert ("Mind the MIA of fine_tune: in a seed or more" in text) is warned


def test_failed_and_skipped_cells_have_a_line_each():
    records = [
        make_record(
            "fine_tune", 4, status="failed", reason="ValueError: [bold]odd[/]\nsecond line"
        ),
        make_record("retrain", 4, status="skipped"),
    ]
    text = printed(records)
    assert "No cell is done" in text
    assert "failed fine_tune, Random 10 %, seed 4: ValueError: [bold]odd[/]" in text
    assert "skipped retrain" in text
    assert "second line" not in text


class TestWords:
    def test_measured_keeps_one_unit(self):
        score = Score("Time", "s", "down", "")
        (comparison,) = summarise(
            [make_record("fine_tune", s, metrics={"seconds": v}) for s, v in enumerate((3.9, 4.1))]
        ).comparisons
        assert words.measured(comparison.rows[0].values["seconds"], score) == "4.0 ± 1.3 s"

    @pytest.mark.parametrize(
        ("value", "text"), [(-0.001, "0.00"), (-1.5, "−1.50"), (12.0, "12.00"), (0.0, "0.00")]
    )
    def test_number(self, value, text):
        assert words.number(value) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.0, "<1 ms"), (0.9999, "1.0 s"), (99.4, "99 s"), (120.0, "2.0 min"), (1e6, "278 h")],
    )
    def test_duration(self, seconds, text):
        assert words.duration(seconds) == text

    def test_summary_is_honest(self):
        def near(gap: float, seeds: int = 5) -> list[dict]:
            return [
                make_record(method, seed, metrics={"ua": value + 0.1 * (seed % 2)})
                for seed in range(seeds)
                for method, value in (("original", 0.0), ("retrain", 9.0), ("fine_tune", 9.0 + gap))
            ]

        def said(records: list[dict]) -> str:
            results = summarise(records)
            return words.summary(results.comparisons[0], results)

        assert "It still differs from retrain in UA (+2.00 ± 0.00)" in said(near(2.0))
        assert "which this method beats" in said(near(2.0))
        assert "which is better than this method" in said(near(30.0))
        assert "not yet a proof" in said(near(0.0))
        assert "first impression" in said(near(2.0, 1))
        assert "which this method does not clearly beat" in said(near(2.0, 1))

    def test_summary_without_rival_or_methods(self):
        alone = summarise([make_record("fine_tune")])
        assert "nothing can be compared" in words.summary(alone.comparisons[0], alone)
        rival = summarise([make_record("retrain"), make_record("original")])
        assert "No other method" in words.summary(rival.comparisons[0], rival)


# --- Dense beside pruned ------------------------------------------------------------------------


def test_few_pruned_comparisons_have_a_table_each_and_one_of_changes():
    text = printed(make_sweep(pruners=(MAGNITUDE,), sparsities=(0.95,)))
    assert text.count("Avg gap ") == 2
    assert "Class 3 · magnitude 95 %" in text
    assert "over sparsity" not in text
    changes = text[text.index("Class 3: dense against pruned") :]
    assert "below zero, forgetting is simpler" in " ".join(changes.split())
    assert re.search(r"magnitude 95 % *\n +retrain +– +– +– +\d", changes)
    assert re.search(r"fine_tune( +\d+\.\d+ ± \d+\.\d+){2} +−\d", changes)
    assert "original" not in changes.split("Means over")[0]


def test_many_pruned_comparisons_share_a_table():
    text = printed(make_sweep(sparsities=(0.5, 0.75, 0.95)))
    assert "Class 3: over sparsity" in text
    for name in ("dense", "magnitude 50 %", "magnitude 95 %", "synflow 75 %"):
        assert re.search(rf"^ ?{name} *\n +original +\d", text, re.MULTILINE), name
    assert len(text.splitlines()) < 140


@pytest.mark.parametrize("width", [80, 104, 120])
def test_pruned_experiments_fit_and_nothing_is_cut(width):
    text = printed(make_sweep(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    swept = text[text.index("over sparsity") :]
    rows = re.findall(r"^ +(?:original|retrain|fine_tune|gradient_ascent) .*", swept, re.MULTILINE)
    assert len(rows) == 5 * 4 + 4 * 3  # dense and four ways to prune; retrain and two methods each
    timed = [row for row in rows if re.search(r"(\d|<1) (ms|s) *$", row)]
    assert len(timed) == 5 * 4


def test_scores_of_a_theory_are_shown_over_sparsity():
    measured = {"unlearning_error": 0.1, "bound": 0.3, "sharpness": 2.0, "distance": 1.5}
    records = [
        make_record(method, 0, RANDOM, pruner=pruner, metrics=measured)
        for pruner in (None, *({**MAGNITUDE, "sparsity": s} for s in (0.5, 0.75, 0.9, 0.95)))
        for method in ("original", "retrain", "gradient_ascent")
    ]
    text = printed(records)
    assert "Weight error" in text
    assert "dense against pruned" not in text
