"""The page of GANs: their pictures, classes and logits are shown as they are on record."""

from __future__ import annotations

import json
import random
import re

import pytest
import torch

from browser import Page
from oblivio.core import Score
from oblivio.metrics.pictures import png
from oblivio.report.gan import tiles
from oblivio.report.page import page
from records import CLASS, RANDOM, make_record, make_records

EXPERIMENT = {"name": "gan"}
SCORES = {"d_auc": Score("D AUC", "%", "retrain", "of D", True)}
METHODS = ("original", "retrain", "fine_tune", "cascade")
AUC = {"original": 80.0, "retrain": 50.0, "fine_tune": 61.0, "cascade": 53.0}


def picture(*seed: object, tiles: int = 10) -> str:
    draw = torch.Generator().manual_seed(random.Random(repr(seed)).randrange(2**31))
    return png(torch.rand(tiles, 1, 8, 8, generator=draw) * 2 - 1, min(tiles, 5))


def make_pictures(method: str, seed: int, *, gone: bool = True) -> dict:
    called = {"original": [3] * 5, "unlearned": [3, 8, 9, 9, 5]} if gone else {}
    rows = ("original", "target", "unlearned") if method == "cascade" else ("original", "unlearned")
    rows = rows if gone else ("wanted", *rows)
    return {
        "split": {"gone": [3] if gone else []},
        "samples": {"png": picture(method, seed), "rows": 2, "columns": 5},
        "moved": {
            "by": "method" if method == "cascade" else "judge" if gone else "nearest",
            "columns": 5,
            "rows": {what: picture(method, seed, what, tiles=5) for what in rows},
            "called": called,
        },
        "strips": {
            "by": "judge",
            "columns": 5,
            "paths": [[picture(method, seed, k, side, tiles=5) for side in (0, 1)] for k in (0, 1)],
        },
    }


def gan_record(method: str, seed: int = 0, scenario: dict = CLASS, **more) -> dict:
    draw = random.Random(f"{method} {seed}")
    logits = {
        part: [round(draw.gauss(middle, 1), 4) for _ in range(n)]
        for part, middle, n in (("forget", 1, 60), ("held_out", 0, 40), ("retain", 2, 90))
    }
    exhibits = {
        "pictures": make_pictures(method, seed, gone=scenario is CLASS),
        "class_shares": [10.0 + place + seed for place in range(10)],
        "d_scores": logits,
    }
    notes = {"moved": {"latents": [[0.1234] * 4]}} if method == "cascade" else {}
    record = make_record({"name": method}, seed, scenario, metrics={"d_auc": AUC[method] + seed})
    record["cell"]["kind"] = "gan"
    return record | {"exhibits": exhibits, "notes": notes} | more


def gan_records(seeds: int = 2, scenarios: tuple = (CLASS, RANDOM)) -> list[dict]:
    return [gan_record(m, seed, s) for s in scenarios for m in METHODS for seed in range(seeds)]


def images(found: Page) -> dict[str, list[str]]:
    """The pictures of a page, by what they are said to be."""
    by_alt: dict[str, list[str]] = {}
    for tag, given in found.tags:
        if tag == "img":
            source = (given["src"] or "").removeprefix("data:image/png;base64,")
            by_alt.setdefault(given["alt"] or "", []).append(source)
    return by_alt


def shown(records: list[dict]) -> Page:
    return Page(page(records, EXPERIMENT, SCORES))


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return gan_records()


@pytest.fixture(scope="module")
def found(records) -> Page:
    return shown(records)


# --- Pictures -------------------------------------------------------------------------------------


def test_samples_of_every_model_stand_side_by_side(found: Page):
    seen = images(found)
    for method in METHODS:
        own = make_pictures(method, 0)["samples"]["png"]
        assert seen[f"10 samples by {method}"] == [own, own]  # once in each scenario
    heads = re.findall(r"(?:Before|After|Aim): \w+", found.text)
    assert heads[:4] == ["Before: original", "After: fine_tune", "After: cascade", "Aim: retrain"]


def test_forgotten_latents_before_where_they_are_sent_and_after(found: Page):
    seen, rows = images(found), make_pictures("cascade", 0)["moved"]["rows"]
    assert rows["original"] in seen["5 images by original"]
    assert seen["5 images by sent to"][0] == rows["target"]
    assert rows["unlearned"] in seen["5 images by cascade"]
    wanted = make_pictures("fine_tune", 0, gone=False)["moved"]["rows"]["wanted"]
    assert seen["5 images by to forget"][0] == wanted
    assert "It calls 5 of 5 a forgotten class before, and 1 after fine_tune." in found.text
    said = "5 of the latents that the method itself found to show what is to be forgotten"
    assert f"{said}. The small numbers" in found.text
    assert f"{said}, below the forgotten images nearest to them." in found.text
    numbers = [given.get("class") for tag, given in found.tags if tag == "li"]
    assert numbers.count("gone") == 2 * (5 + 1)  # two methods, where a class is gone


def test_every_path_stands_there_before_and_after(found: Page):
    seen = [one for own in images(found).values() for one in own]
    for method in ("fine_tune", "cascade"):
        for path in make_pictures(method, 0)["strips"]["paths"]:
            assert set(path) <= set(seen)
    for method in ("original", "retrain"):  # whose paths tell nothing
        assert make_pictures(method, 0)["strips"]["paths"][0][0] not in seen


def test_only_the_first_seed_is_shown_and_it_is_said(found: Page):
    seen = {one for own in images(found).values() for one in own}
    assert make_pictures("cascade", 1)["samples"]["png"] not in seen
    assert "(seed 0, the first)" in found.text
    assert "the first)" not in shown(gan_records(1)).text


def test_a_seed_that_failed_for_some_is_not_the_one(records):
    rest = [
        r for r in records if (r["cell"]["method"]["name"], r["cell"]["seed"]) != ("cascade", 0)
    ]
    seen = images(shown(rest))
    assert seen["10 samples by cascade"][0] == make_pictures("cascade", 1)["samples"]["png"]
    assert seen["10 samples by original"][0] == make_pictures("original", 1)["samples"]["png"]


def test_a_reader_chooses_the_method(found: Page):
    chosen = [given for tag, given in found.tags if given.get("data-chooses") == "s0-gan"]
    assert len(chosen) == 1
    parts = [given for _, given in found.tags if given.get("data-part") == "s0-gan"]
    assert {given["data-when"] for given in parts} == {"fine_tune", "cascade"}
    alone = shown([r for r in gan_records() if r["cell"]["method"]["name"] != "cascade"])
    assert "s0-gan" not in alone.all("data-chooses")


# --- Plots ----------------------------------------------------------------------------------------


def test_bars_are_means_over_seeds_and_the_forgotten_class_stands_in_a_band(found: Page):
    figure = found.figures["s0-gan-classes"]
    assert [trace["name"] for trace in figure["data"]] == [
        "original",
        "fine_tune",
        "cascade",
        "retrain",
    ]
    for trace in figure["data"]:
        assert trace["y"] == pytest.approx([10.5 + place for place in range(10)])
    assert [trace["visible"] for trace in figure["data"]] == [True, True, False, True]
    assert [trace.get("meta") for trace in figure["data"]] == [None, "fine_tune", "cascade", None]
    (band,) = figure["layout"]["shapes"]
    assert (band["x0"], band["x1"]) == (2.5, 3.5)
    assert "shapes" not in found.figures["s1-gan-classes"]["layout"]


def test_logits_are_counted_in_shares_of_each_set(found: Page, records):
    for part, label in (("before", "original"), ("after", "cascade"), ("aim", "retrain")):
        record = next(r for r in records if r["cell"]["method"]["name"] == label)
        by_name = {t["name"]: t for t in found.traces(f"s0-gan-d-{part}", label)}
        names = {"forget": "forget set", "held_out": "held out", "retain": "retain set"}
        assert set(by_name) == set(names.values())
        edges = by_name["held out"]["x"]
        for name, called in names.items():
            values = record["exhibits"]["d_scores"][name]
            trace = by_name[called]
            assert trace["x"] == edges
            assert sum(trace["y"][:-1]) == pytest.approx(100, abs=0.1)
            middle = [v for v in values if edges[2] <= v < edges[3]]
            assert trace["y"][2] == pytest.approx(100 * len(middle) / len(values), abs=0.001)
            # what lies beyond the bins is in the outermost
            low = [v for v in values if v < edges[1]]
            assert trace["y"][0] == pytest.approx(100 * len(low) / len(values), abs=0.001)


def test_how_well_the_discriminator_tells_is_said(found: Page):
    assert "AUC of 80.5 ± 6.4 before, 53.5 ± 6.4 after cascade and 50.5 ± 6.4 after" in found.text


def test_a_hundred_classes_and_logits_that_are_all_the_same():
    record = gan_record("fine_tune")
    record["exhibits"]["class_shares"] = [1.0] * 100
    record["exhibits"]["pictures"]["split"]["gone"] = [*range(10, 20)]
    record["exhibits"]["d_scores"] = {"forget": [1.0] * 3, "held_out": [1.0], "retain": []}
    found = shown([record])
    assert len(found.figures["s0-gan-classes"]["layout"]["shapes"]) == 10
    assert "annotations" not in found.figures["s0-gan-classes"]["layout"]
    assert [t["y"] for t in found.traces("s0-gan-d-after")] == [[100.0, 100.0]] * 2


# --- The page around them -------------------------------------------------------------------------


def test_nothing_comes_from_outside_and_links_lead_somewhere(found: Page):
    ids = found.all("id")
    assert len(ids) == len(set(ids))
    assert all(source.startswith("data:image/png;base64,") for source in found.all("src"))
    assert {link[1:] for link in found.all("href")} <= set(ids)
    assert set(found.all("data-figure")) == set(found.figures)
    assert set(found.all("data-group")) <= set(found.all("data-chooses"))


def test_records_are_listed_without_pictures_and_latents(found: Page):
    assert picture("cascade", 0) not in found.text
    assert "0.1234" not in found.text
    assert "class_shares" in found.text
    assert "are in the files alone" in found.text


def test_a_page_of_classifiers_knows_nothing_of_gans():
    records = make_records(1, (RANDOM,))
    text = page(records, {"name": "digits"})
    assert "gan" not in Page(text).all("class")
    assert ".tiles::after" not in text
    assert "in the files alone" not in text
    odd = make_records(1, (RANDOM,))
    for record in odd:
        record["exhibits"]["pictures"] = make_pictures("cascade", 0)
        record["notes"] = {"moved": {"latents": [[0.1234]]}}
    found = Page(page(odd, {"name": "digits"}))
    assert images(found) == {}
    assert "0.1234" in found.text


def test_a_page_that_is_too_big_leaves_pictures_out(monkeypatch, records):
    monkeypatch.setattr("oblivio.report.page._ROOM", 10)
    found = shown(records)
    assert images(found) == {}
    assert "Pictures are left out here" in found.text
    assert "s0-gan-classes" in found.figures


@pytest.mark.parametrize(
    "exhibits",
    [
        {"pictures": "none", "class_shares": [], "d_scores": {}},
        {"pictures": {"samples": {"png": '"><b>', "rows": 1, "columns": 1}, "moved": None}},
        {"pictures": {"samples": {"png": "AAAA", "rows": 1, "columns": 1}, "split": {}}},
        {"pictures": {"moved": {"rows": {"original": 3}}, "strips": {"paths": [["a", "b"]]}}},
        {"d_scores": {"forget": [float("nan")], "held_out": [1.0]}},
        {},
    ],
)
def test_what_cannot_be_shown_is_left_out(exhibits):
    found = shown([gan_record(m, exhibits=exhibits, notes=None) for m in METHODS])
    assert images(found) == {}
    assert not [tag for tag, _ in found.tags if tag == "b"]


def test_labels_are_escaped():
    bad = '"><b>&'
    record = gan_record("cascade")
    record["cell"]["method"] = {"name": bad}
    found = shown([record])
    assert not [tag for tag, _ in found.tags if tag == "b"]
    assert images(found)[f"10 samples by {bad}"]


def test_the_size_is_read_from_the_file():
    file = picture("x", tiles=10)
    assert tiles(file, 5, 2) == (file, 5, 2, 50, 20)
    for broken in (None, "", "%", file[:20], json.dumps(file)):
        assert tiles(broken, 5, 2) is None
    assert tiles(file, 0) is tiles(file, "5") is None
