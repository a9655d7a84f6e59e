"""What shadow models say: on the terminal and on the page, from records alone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from PIL import Image
from rich.console import Console

from browser import Page
from oblivio.bench.calibrate import exceeded, scale
from oblivio.core import Score
from oblivio.report.evidence_table import print_evidence
from oblivio.report.exposed import small
from oblivio.report.page import page
from oblivio.report.proof import read_proofs
from oblivio.report.reading import Band, Reading, mean
from oblivio.shadow import RATES, Answers, Shadows
from records import CLASS, RANDOM, make_record, make_records

TELLS = {"name": "report.test_evidence:Tells"}
DRIFTS = {"name": "report.test_evidence:Drifts"}
UNKNOWN = {"name": "nowhere.to_be:Found"}
EXPERIMENT = {"name": "digits", "data": {"name": "digits"}}
POINTS = 40
# how far each method is from retraining, as a share of doing nothing
NEAR = {"fine_tune": 0.6, "gradient_ascent": 3.2, "l1_sparse": 0.02}


@dataclass(frozen=True)
class Tells:
    """Tells: an attack of the user's own."""

    design: ClassVar[str] = "halves"
    scores: ClassVar[dict[str, Score]] = {
        "tells": Score("Attack", "%", "down", "right guesses; 50 is a coin"),
        "tells_auc": Score("Attack AUC", "%", "down", "area under the curve"),
    }


@dataclass(frozen=True)
class Drifts:
    """Drifts: how far margins drift."""

    design: ClassVar[str] = "fixed"
    scores: ClassVar[dict[str, Score]] = {"drift": Score("Drift", "", "retrain", "of margins")}


@dataclass(frozen=True)
class Apart:
    """Apart: how far apart the margins of single examples are."""

    design: ClassVar[str] = "fixed"
    scores: ClassVar[dict[str, Score]] = {}

    def __call__(self, shadows: Shadows) -> dict:
        unlearned, retrained = shadows.versus()
        return {"per_point": (unlearned - retrained).mean(0).abs().tolist()}


def picture(seed: int, side: int = 8) -> str:
    draw, file = random.Random(seed), io.BytesIO()
    image = Image.new("L", (side, side))
    image.putdata([draw.randrange(256) for _ in range(side * side)])
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def number(near: float, null: float, ceiling: float, half: float, draw: random.Random) -> dict:
    value = null + near * (ceiling - null) + draw.gauss(0, half / 4)
    return {
        "value": value,
        "low": value - half,
        "high": value + half,
        "null": [null, null - half, null + half],
        "ceiling": ceiling,
    }


def exhibits(near: float, draw: random.Random) -> dict:
    exposed = [50 + 40 * min(near, 1.2) * draw.random() + draw.gauss(0, 2) for _ in range(POINTS)]
    chance = sorted((50 + draw.gauss(0, 2) for _ in range(POINTS)), reverse=True)
    power = 1 / (1 + 4 * min(1.0, near))
    return {
        "roc": [rate**power for rate in RATES],
        "roc_null": [[0.8 * rate for rate in RATES], [min(1, 1.3 * rate) for rate in RATES]],
        "roc_ceiling": [rate**0.2 for rate in RATES],
        "per_point": exposed,
        "per_point_null": [exceeded([v + side for v in chance]) for side in (-1, 1)],
        "per_point_ceiling": exceeded([v + 35 for v in chance]),
    }


def make_proof(
    method: str = "fine_tune",
    seed: int = 0,
    scenario: dict | None = None,
    design: str = "halves",
    measures: list | None = None,
    **more,
) -> dict:
    """One record of shadow models; further fields replace what would be made up."""
    cell = make_record(method, seed, scenario)["cell"]
    key = hashlib.sha256(json.dumps([cell, design]).encode()).hexdigest()[:16]
    draw, near = random.Random(key), NEAR.get(method, 0.4)
    ids = draw.sample(range(1437), POINTS)
    if measures is None:
        measures = [
            {
                "measure": TELLS,
                "scores": {
                    "tells": number(near, 50.0, 87.0, 1.3, draw),
                    "tells_auc": number(near, 50.0, 93.0, 1.1, draw),
                },
                "exhibits": exhibits(near, draw),
            }
            if design == "halves"
            else {
                "measure": DRIFTS,
                "scores": {"drift": number(-near, 0.0, 2.5, 0.2, draw)},
                "exhibits": {},
            }
        ]
    return {
        "key": key,
        "status": "done",
        "cell": cell,
        "shadows": {"design": design, "models": 64, "points": 2000},
        "measures": [{"reason": None, **one} for one in measures],
        "points": {
            "ids": ids,
            "labels": [place % 10 for place in range(POINTS)],
            "counts": [POINTS, 1000, 360],
        },
        "pictures": {str(id_): picture(id_) for id_ in ids},
        "seconds": {"cast": 12.0, "method": 3.0},
        "split": {"forget": POINTS, "retain": 1397},
        "reason": None,
        "provenance": {},
        **more,
    }


def make_proofs(methods=tuple(NEAR), seeds: int = 1, scenarios=(RANDOM, CLASS)) -> list[dict]:
    return [
        make_proof(method, seed, scenario, design)
        for scenario in scenarios
        for design in ("halves", "fixed")
        for method in methods
        for seed in range(seeds)
    ]


def failed(**more) -> dict:
    record = make_proof("fine_tune", 5, RANDOM, **more)
    kept = {name: record[name] for name in ("key", "cell", "shadows", "provenance")}
    return {**kept, "status": "failed", "reason": "no memory is left", "traceback": "Traceback …"}


def printed(proofs: list[dict], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    print_evidence(proofs, console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module", autouse=True)
def _no_plotly():
    with pytest.MonkeyPatch.context() as patch:  # its five megabytes take long to read
        patch.setattr("oblivio.report.page.get_plotlyjs", str)
        yield


@pytest.fixture(scope="module")
def found() -> Page:
    return Page(page(make_records(1), EXPERIMENT, proofs=make_proofs()))


# --- Numbers --------------------------------------------------------------------------------------


def reading(value: float, better: str = "down", ceiling: float = 90.0) -> Reading:
    score = Score("x", "%", better, "")  # pyright: ignore[reportArgumentType]
    return Reading(score, Band(value, None, None), Band(50.0, 48.0, 52.0), ceiling, ())


@pytest.mark.parametrize(
    ("value", "better", "ceiling", "verdict"),
    [
        (52.1, "down", 90.0, "beyond"),
        (51.9, "down", 90.0, "within"),
        (40.0, "down", 90.0, "within"),
        (40.0, "up", 10.0, "beyond"),
        (60.0, "up", 10.0, "within"),
        (40.0, "retrain", 90.0, "beyond"),
        (60.0, "retrain", 90.0, "beyond"),
        (51.0, "down", 51.5, "blind"),
        (60.0, "down", 51.5, "beyond"),
    ],
)
def test_a_number_is_beyond_what_chance_gives_or_within(value, better, ceiling, verdict):
    assert reading(value, better, ceiling).verdict == verdict


def test_the_way_is_zero_at_the_null_and_one_at_the_ceiling():
    assert [reading(0.0).way(value) for value in (50.0, 90.0, 60.0)] == [0.0, 1.0, 0.25]
    assert reading(0.0, ceiling=51.0).way(60.0) is None


def test_the_interval_of_a_mean_is_that_of_independent_numbers():
    three = [Band(1.0, 0.4, 2.0), Band(2.0, 1.2, 4.0), Band(3.0, 3.0, 5.0)]
    assert mean(three) == pytest.approx(Band(2.0, 2.0 - 1.0 / 3, 2.0 + 3.0 / 3))
    assert mean([Band(1.0, None, None), three[0]]) == Band(1.0, None, None)


def test_seeds_are_averaged_and_designs_of_a_scenario_belong_together():
    records = make_proofs(seeds=3, scenarios=(RANDOM,))
    (proof,) = read_proofs(records)
    assert [column.head for column in proof.columns] == ["Attack", "Attack AUC", "Drift"]
    assert [column.main for column in proof.columns] == [True, False, True]
    own = [
        record["measures"][0]["scores"]["tells"]["value"]
        for record in records
        if record["cell"]["method"]["name"] == "fine_tune"
        and record["shadows"]["design"] == "halves"
    ]
    read = proof.columns[0].readings["fine_tune"]
    assert read.value.mean == pytest.approx(sum(own) / 3)
    assert read.value.half == pytest.approx(1.3 / 3**0.5)
    assert [one.seed for one in read.said] == [0, 1, 2]


def test_what_is_no_number_is_left_out():
    odd = {"value": float("nan"), "low": None, "high": None, "null": None, "ceiling": None}
    bare = {"value": 3.0, "low": None, "high": None, "null": None, "ceiling": None}
    measures = [{"measure": UNKNOWN, "scores": {"odd": odd, "bare": bare}, "exhibits": {}}]
    (proof,) = read_proofs([make_proof(measures=measures)])
    (column,) = proof.columns
    assert column.head == "bare"
    assert column.score.meaning == "not described"
    assert column.readings["fine_tune"].verdict == "open"


def test_measures_that_share_a_label_are_told_apart():
    measures = [
        {
            "measure": {**TELLS, "density": density},
            "scores": {"tells": number(0.1, 50, 90, 1, random.Random(0))},
            "exhibits": {},
        }
        for density in ("gaussian", "kde")
    ]
    (proof,) = read_proofs([make_proof(measures=measures)])
    heads = [column.head for column in proof.columns]
    assert heads == ["Attack (Tells density=gaussian)", "Attack (Tells density=kde)"]


def test_the_null_of_single_points_is_what_the_most_exposed_have_by_chance():
    draw = torch.Generator().manual_seed(0)
    said = [
        Answers(margins, margins > 0)
        for margins in torch.randn(4, 8, 30, generator=draw, dtype=torch.float64)
    ]
    shadows = Shadows(
        "fixed",
        torch.arange(30),
        torch.zeros(30, dtype=torch.int64),
        (20, 5, 5),
        torch.ones(8, 30, dtype=torch.bool),
        *said,
    )
    low, high = scale(Apart(), shadows, swaps=9).exhibits["per_point_null"]
    assert len(low) == len(RATES)
    assert all(a <= b for a, b in zip(low, high, strict=True))
    assert low[0] > low[-1]
    own = Apart()(shadows.null())["per_point"]
    assert low[0] <= max(own) <= 1.5 * high[0]


# --- The terminal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [70, 100])
def test_tables_fit_and_say_who_is_told(width):
    text = printed([*make_proofs(), failed()], width)
    assert max(map(len, text.splitlines())) <= width
    for word in (
        "Random 10 %",
        "Class 3",
        "null (retrain again)",
        "ceiling (original)",
        "Attack %",
    ):
        assert word in text
    (line,) = (one for one in text.split("Class 3")[0].splitlines() if "fine_tune " in one)
    assert re.search(r"72\.\d ± 1\.3 ●", line)
    (line,) = (one for one in text.split("Class 3")[0].splitlines() if "l1_sparse " in one)
    assert line.count("○") == 2
    assert "48.7 to 51.3" in text
    assert re.search(r"failed fine_tune, Random 10 %, seed 5:\s+no memory is left", text)


def test_nothing_is_printed_of_nothing():
    assert printed([]) == ""


def test_many_scores_are_parted_into_tables_that_fit():
    many = {f"score_{k}": number(0.5, 50, 90, 1, random.Random(k)) for k in range(12)}
    measures = [
        {"measure": {"name": f"nowhere:Measure{k}"}, "scores": {name: one}, "exhibits": {}}
        for k, (name, one) in enumerate(many.items())
    ]
    text = printed([make_proof(measures=measures)], 90)
    assert max(map(len, text.splitlines())) <= 90
    assert all(name in text for name in many)
    assert text.count("null (retrain again)") > 1


# --- The page -------------------------------------------------------------------------------------


def test_every_number_leads_to_its_record(found: Page):
    ids = found.all("id")
    assert len(ids) == len(set(ids))
    links = [link for link in found.all("href") if not link.startswith("data:image/png")]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert set(found.all("popovertarget")) <= set(ids)
    assert set(found.all("data-figure")) == set(found.figures)
    for record in make_proofs():
        assert links.count(f"#record-{record['key']}") >= 1


def test_methods_stand_between_retraining_and_doing_nothing(found: Page):
    traces = {
        trace["name"]: trace for trace in found.figures["e0-way"]["data"] if "error_x" in trace
    }
    assert traces["fine_tune"]["x"] == pytest.approx([0.6, -0.6], abs=0.05)
    assert traces["fine_tune"]["marker"]["symbol"] == ["circle", "circle"]
    assert all(symbol.endswith("-open") for symbol in traces["l1_sparse"]["marker"]["symbol"])
    band = next(s for s in found.figures["e0-way"]["layout"]["shapes"] if s["type"] == "rect")
    assert (band["x0"], band["x1"]) == pytest.approx((-1.3 / 37, 1.3 / 37))
    # gradient_ascent is further from retrain than doing nothing is: an arrow says how far
    far = [t for t in found.figures["e0-way"]["data"] if t["mode"] == "markers+text"]
    assert {t["name"] for t in far} == {"gradient_ascent"}
    assert re.fullmatch(r"3\d\d %", far[0]["text"][0])
    assert re.fullmatch(r"−3\d\d %", far[1]["text"][0])


def test_sentences_say_what_was_found(found: Page):
    text = found.text.replace("\u00a0", " ")
    assert re.search(r"fine_tune is told from retraining by Attack \(72\.\d ± 1\.3 %; chance", text)
    assert re.search(r"l1_sparse cannot be told from retraining by Attack \(5", text)
    assert "anything above 51.3 % would have shown; forgetting nothing gives 87.0 %" in text
    assert "repeated with 64 models of each kind" in text


def test_curves_and_examples(found: Page):
    roc = {trace["name"]: trace for trace in found.figures["e0-roc-0"]["data"]}
    assert {"fine_tune", "l1_sparse", "original", "coin", "chance alone, 95 %"} <= set(roc)
    assert roc["fine_tune"]["x"] == pytest.approx(RATES)
    ranked = {trace["name"]: trace for trace in found.figures["e0-ranked-0"]["data"]}
    heights = ranked["fine_tune"]["y"]
    assert heights == sorted(heights, reverse=True)
    record = make_proof("fine_tune", 0, RANDOM)
    points = record["measures"][0]["exhibits"]["per_point"]
    assert heights[0] == max(points)
    most = record["points"]["ids"][points.index(max(points))]
    pictures = [a["aria-label"] for t, a in found.tags if t == "svg" and a.get("aria-label")]
    assert pictures[0] == f"Example {most} of class {points.index(max(points)) % 10}"


def test_a_picture_stands_once_however_often_it_is_shown(found: Page):
    shown = [a for tag, a in found.tags if tag == "image"]
    urls = [a["href"] for a in shown if (a["id"] or "").startswith("e0-")]
    assert len(urls) == len(set(urls)) > 12
    uses = [a["href"] for tag, a in found.tags if tag == "use"]
    assert len(uses) >= len(urls)
    assert small(picture(0))
    assert not small(picture(0, 96))


def test_what_is_listed_of_records_has_no_pictures_and_no_single_examples(found: Page):
    listed = found.text.split("Of shadow models")[1].split('"key"')[1:]
    assert len(listed) == len(make_proofs())
    assert "data:image" not in found.text
    assert '"per_point"' not in found.text
    assert '"roc_null"' in found.text


def test_failed_cases_and_measures_that_could_not_speak():
    short = "There are 4 models; 8 are needed."
    measures = [{"measure": TELLS, "reason": short, "scores": {}, "exhibits": {}}]
    records = [make_proof(measures=measures), failed()]
    found = Page(page([], EXPERIMENT, proofs=records))
    assert f"Tells: {short}" in found.text
    assert "no memory is left" in found.text
    assert "64 shadow models (halves)" in found.text
    assert short in printed(records)
    assert found.figures == {}


def test_a_measure_that_tells_not_even_the_originals_says_nothing():
    scores = {"tells": number(0.0, 50, 50.4, 1.3, random.Random(0))}
    measures = [{"measure": TELLS, "scores": scores, "exhibits": {}}]
    found = Page(page([], EXPERIMENT, proofs=[make_proof(measures=measures)]))
    assert "not even the originals, which forgot nothing, are told" in found.text
    assert "e0-way" not in found.figures


def test_one_method_or_twenty_and_several_seeds():
    one = Page(page([], EXPERIMENT, proofs=make_proofs(("fine_tune",), 2, (RANDOM,))))
    assert "Means over 2 seeds" in one.text
    assert not one.all("data-chooses")
    many = [
        make_proof("fine_tune", design=design, key=f"{k}-{design}")
        for k in range(20)
        for design in ("halves", "fixed")
    ]
    for k, record in enumerate(many):
        record["cell"]["method"] = {"name": "fine_tune", "recipe": {"lr": 0.01 * (k // 2)}}
    found = Page(page([], EXPERIMENT, proofs=many))
    assert set(found.all("popovertarget")) <= set(found.all("id"))
    assert found.figures["e0-way"]["layout"]["height"] > 500


def test_no_proofs_no_section():
    text = page(make_records(1), EXPERIMENT)
    assert "evidence" not in Page(text).text
    assert ".exposed" not in text


def test_a_page_that_is_too_big_leaves_pictures_out(monkeypatch):
    monkeypatch.setattr("oblivio.report.page._ROOM", 10)
    found = Page(page(make_records(1), EXPERIMENT, proofs=make_proofs()))
    assert not [tag for tag, _ in found.tags if tag == "image"]
    assert "Most exposed after fine_tune" in found.text


def test_everything_is_escaped():
    bad = '</script><b>&"x'
    record = make_proof()
    record["cell"]["method"] = {"name": bad, "x": bad}
    record["measures"][0]["measure"] = {"name": bad}
    record["measures"][0]["scores"] = {bad: record["measures"][0]["scores"]["tells"]}
    silent = {"measure": DRIFTS, "reason": bad, "scores": {}, "exhibits": {}}
    record["measures"].append(silent)
    found = Page(page([], EXPERIMENT, proofs=[record, failed(reason=bad)]))
    assert len(found.scripts) == 3
    assert not [tag for tag, _ in found.tags if tag == "b"]
    assert bad in found.text
