"""The page: one file, nothing from outside, everything escaped, every number with its records."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from browser import Page
from oblivio.report.page import page, write_page
from records import CLASS, MAGNITUDE, RANDOM, make_record, make_records, make_sweep

EXPERIMENT = {
    "name": "digits",
    "title": "Handwritten digits",
    "about": None,
    "data": {"name": "digits"},
    "scenarios": [RANDOM, CLASS],
    "seeds": (0, 1, 2),
}


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return [*make_records(3), make_record("fine_tune", 7, status="failed", traceback="Traceback …")]


@pytest.fixture(scope="module")
def found(records) -> Page:
    return Page(page(records, EXPERIMENT))


def test_written_whole_into_one_file(tmp_path: Path, records):
    path = write_page(tmp_path, records, EXPERIMENT)
    assert path == tmp_path / "report.html"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.stat().st_size < 10_000_000
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_nothing_comes_from_outside(found: Page):
    assert not found.all("src")
    assert all(link.startswith("#") for link in found.all("href"))
    assert not [tag for tag, _ in found.tags if tag in ("link", "img", "iframe", "object", "base")]
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_every_link_leads_somewhere(found: Page):
    ids = found.all("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in found.all("href")} <= set(ids)
    assert set(found.all("popovertarget")) <= set(ids)
    assert set(found.all("data-figure")) == set(found.figures)


def test_every_record_is_there_in_full(found: Page, records):
    for record in records:
        assert f"record-{record['key']}" in found.all("id")
    shown = found.text
    assert '"digest": "0123456789abcdef"' in shown
    assert "Traceback …" in shown


def test_every_done_record_stands_behind_a_number(found: Page, records):
    linked = found.all("href")
    for record in records:
        assert f"#record-{record['key']}" in linked


def test_plots(found: Page):
    figures = found.figures
    for name in ("s0-ua", "s0-seconds", "s0-cost", "s0-profile", "s1-forget", "s1-before"):
        assert figures[name]["data"], name
    for figure in figures.values():
        for axis in ("xaxis", "yaxis"):
            labelled = figure["layout"][axis]
            assert labelled.get("title") or labelled.get("ticktext") or labelled.get("type")
        assert "template" not in figure["layout"]


def test_counts_are_shares_summed_over_seeds(found: Page, records):
    forget = found.figures["s0-forget"]["data"]
    mine = next(trace for trace in forget if trace["name"] == "fine_tune")
    own = [
        record["exhibits"]["confidence"]["forget"]
        for record in records
        if record["status"] == "done"
        and record["cell"]["method"]["name"] == "fine_tune"
        and record["cell"]["scenario"] == RANDOM
    ]
    counts = [sum(column) for column in zip(*own, strict=True)]
    assert [count for _, count in mine["customdata"][:-1]] == counts
    assert sum(share for share, _ in mine["customdata"][:-1]) == pytest.approx(100)
    assert [height**2 for height in mine["y"]] == pytest.approx([s for s, _ in mine["customdata"]])


def test_confusion_rows_are_true_classes():
    record = make_record("fine_tune", exhibits={"confusion": [[3, 1], [0, 4]]})
    (trace,) = Page(page([record], EXPERIMENT)).figures["s0-after"]["data"]
    assert trace["customdata"][0] == [[75.0, 3], [25.0, 1]]
    assert trace["hovertemplate"].startswith("true %{y}, predicted %{x}")


def test_everything_is_escaped():
    bad = '</script><script>alert("x")</script><b>&'
    records = make_records(2, (RANDOM,))
    for record in records:
        record["notes"] = {bad: bad}
        record["provenance"]["hardware"] = bad
        record["cell"]["data"] = {"name": bad}
    records.append(make_record({"name": bad, "x": bad}, 0, metrics={"ua": 1.0, bad: 2.0}))
    records.append(make_record("retrain", 9, status="failed", reason=bad, traceback=bad))
    found = Page(page(records, {"name": bad, "title": bad, "about": bad, "data": {bad: bad}}))
    assert len(found.scripts) == 3
    assert not [tag for tag, _ in found.tags if tag == "b"]
    assert bad in found.text
    # Plotly reads a little HTML in labels and removes the rest, scripts included.
    assert bad not in found.scripts[2]


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_no_done_record(status):
    found = Page(page([make_record("fine_tune", status=status)], EXPERIMENT))
    assert "No cell is done yet" in found.text
    assert "the method does not apply to this model" in found.text
    assert found.figures == {}


def test_no_record_at_all():
    assert "No cell is done yet" in Page(page([], {})).text


def test_a_single_seed():
    found = Page(page(make_records(1), EXPERIMENT))
    assert "one seed has no interval" in found.text
    assert "take it as a first impression" in found.text


def test_missing_exhibits_metrics_and_provenance():
    records = make_records(2)
    for record in records:
        for name in ("exhibits", "notes", "provenance", "split"):
            del record[name]
    records[0]["metrics"] = {}
    records[1]["metrics"] = {"ua": math.nan}
    found = Page(page(records, EXPERIMENT))
    assert "No record says where it was made" in found.text
    assert "Inside a method" not in found.text
    assert "s0-ua" in found.figures


def test_without_retrain():
    records = [r for r in make_records(2) if r["cell"]["method"]["name"] != "retrain"]
    assert "nothing can be compared" in Page(page(records, EXPERIMENT)).text


def test_many_records_leave_their_exhibits_to_the_files(monkeypatch):
    monkeypatch.setattr("oblivio.report.page._ROOM", 10)
    found = Page(page(make_records(1), EXPERIMENT))
    assert "are left out here" in found.text
    assert '"exhibits"' not in found.text


# --- Dense beside pruned ------------------------------------------------------------------------


def test_pruned_pages_link_records_and_figures_as_others_do():
    records = make_sweep(sparsities=(0.5, 0.75, 0.95), scenarios=(CLASS, RANDOM))
    text = page(records, EXPERIMENT)
    found = Page(text)
    assert len(text) < 10_000_000
    test_nothing_comes_from_outside(found)
    test_every_link_leads_somewhere(found)
    test_every_done_record_stands_behind_a_number(found, records)
    assert "Over sparsity" in found.text
    assert "Dense against sparse" in found.text
    assert "Class 3 · magnitude 95 %" in found.text


def test_a_sweep_draws_each_methods_means_and_its_dense_value():
    records = make_sweep(pruners=(MAGNITUDE,), sparsities=(0.5, 0.95))
    found = Page(page(records, EXPERIMENT))
    means = {}
    for pruner in (None, 0.5, 0.95):
        own = [
            r["metrics"]["ua"]
            for r in records
            if r["cell"]["method"]["name"] == "fine_tune"
            and (r["cell"].get("pruner") or {}).get("sparsity") == pruner
        ]
        means[pruner] = sum(own) / len(own)
    drawn = [
        trace["y"]
        for figure in found.figures.values()
        for trace in figure["data"]
        if trace.get("name") == "fine_tune" and len(trace.get("y") or []) == 3
    ]
    assert any(y == pytest.approx(list(means.values())) for y in drawn)


def test_one_sparsity_has_no_sweep_but_a_comparison():
    found = Page(page(make_sweep(pruners=(MAGNITUDE,), sparsities=(0.95,)), EXPERIMENT))
    assert "Over sparsity" not in found.text
    assert "Dense against sparse" in found.text


def test_without_pruners_nothing_is_said_of_sparsity(found: Page):
    assert "sparsity" not in found.text.lower()


def test_pruned_records_with_gaps_still_make_a_page():
    records = make_sweep(seeds=1)
    failed = make_record("influence", 0, CLASS, pruner=MAGNITUDE, status="failed")
    without_dense = [r for r in records if r["cell"].get("pruner")]
    without_retrain = [r for r in records if r["cell"]["method"]["name"] != "retrain"]
    for some in ([*records, failed], without_dense, without_retrain, records[:5]):
        found = Page(page(some, EXPERIMENT))
        test_every_link_leads_somewhere(found)
