"""Methods that choose weights: what they changed is told, drawn and counted as it was noted."""

from __future__ import annotations

import html
import json
import math

import pytest

from browser import Page
from oblivio.report.explanation import explained, layers, together
from oblivio.report.explanation_words import percent, said
from oblivio.report.listing import readable
from oblivio.report.page import page
from records import CLASS, MAGNITUDE, RANDOM, make_explanation, make_record, make_records

EXPERIMENT = {"name": "digits"}
BAD = "</script><b>&"


def explaining(seed: int = 0, method: str = "deepclean", note=None, **more) -> dict:
    note = make_explanation(seed) if note is None else note
    return make_record({"name": method}, seed, RANDOM, notes={"explanation": note}, **more)


def read(*notes: dict) -> list:
    found = [explained(explaining(seed, note=note)) for seed, note in enumerate(notes)]
    assert all(found)
    return found


def small(**more) -> dict:
    """Ten weights in two layers, of which two and one were changed."""
    return {
        "layers": [["fc1.weight", 2, 6], ["fc2.weight", 1, 4]],
        "histogram": {
            "edges": [-1.0, 0.0, 1.0, 2.0],
            "counts": {"all": [3, 2, 2], "chosen": [0, 0, 2]},
            "zero": 2,
            "infinite": 1,
            "threshold": 10.0,
        },
        "filters": [["fc1.weight", 4, 1, 3, 12.5], ["fc2.weight", 0, 1, 4, math.inf]],
        **more,
    }


@pytest.fixture(scope="module")
def notes() -> list[dict]:
    return [make_explanation(seed, threshold=12.0 + seed) for seed in range(3)]


@pytest.fixture(scope="module")
def found(notes) -> Page:
    mine = [explaining(seed, note=note) for seed, note in enumerate(notes)]
    other = [explaining(0, "lfssd", small(of="sensitivity", against="whole"))]
    return Page(page([*make_records(3, (RANDOM,)), *mine, *other], EXPERIMENT))


def test_a_bar_is_the_mean_share_of_a_layer_and_a_dot_a_seed(found: Page, notes):
    bars, _, dots = found.traces("s0-weights-layers", "deepclean")
    shares = [[100 * some / every for _, some, every in note["layers"]] for note in notes]
    assert bars["y"] == [name for name, *_ in notes[0]["layers"]]
    means = [sum(column) / 3 for column in zip(*shares, strict=True)]
    assert bars["x"] == pytest.approx(means)
    by_layer = [share for column in zip(*shares, strict=True) for share in column]
    assert dots["x"] == pytest.approx(by_layer)


def test_the_histograms_of_seeds_add_up(found: Page, notes):
    every, chosen, _ = found.traces("s0-weights-ratios", "deepclean")
    for name, trace in (("all", every), ("chosen", chosen)):
        parts = [note["histogram"]["counts"][name] for note in notes]
        assert trace["y"][1:-1] == [sum(column) for column in zip(*parts, strict=True)]
    infinite = sum(note["histogram"]["infinite"] for note in notes)
    changed = sum(some for note in notes for _, some, _ in note["layers"])
    assert every["y"][0] == sum(note["histogram"]["zero"] for note in notes)
    assert every["y"][-1] == chosen["y"][-1] == infinite > 0
    assert sum(chosen["y"]) == changed
    assert sum(every["y"]) == sum(n for note in notes for _, _, n in note["layers"])


def test_each_seeds_cut_is_a_line_and_their_span_is_said(found: Page):
    cut = found.traces("s0-weights-ratios", "deepclean")[2]
    assert cut["x"][::3] == pytest.approx([math.log10(ratio) for ratio in (12, 13, 14)])
    assert "cut at 12 to 14" in cut["text"][0]
    assert "The cut was at a ratio of 12 to 14." in found.text


def test_the_outermost_line_has_the_label_whatever_the_order_of_seeds():
    notes = [make_explanation(threshold=threshold) for threshold in (12.0, 11.0, 13.0)]
    found = Page(page([explaining(n, note=note) for n, note in enumerate(notes)], EXPERIMENT))
    cut = found.traces("s0-weights-ratios")[2]
    assert cut["x"][0] == pytest.approx(math.log10(11))
    assert "cut at 11 to 13" in cut["text"][0]


def test_the_sentences_are_made_from_the_numbers():
    first, second = said("deepclean", read(small()))
    assert first == (
        "deepclean changed 3 of 10 weights (30\u00a0%), most of them in <code>fc1.weight</code>: "
        "2, which is 33\u00a0% of it."
    )
    assert "as much to an average forgotten example as to an average retained one" in second
    assert "its Fisher information. The cut was at a ratio of 10." in second
    assert "2 (20\u00a0%) have ratio\u00a00" in second
    assert "1 have an infinite one" in second


def test_another_measure_is_named(found: Page):
    told = html.unescape(said("lfssd", read(small(of="sensitivity", against="whole")))[1])
    assert "as to an average training example" in told
    assert "how sensitive the network's outputs are to it" in told
    assert told in found.text


def test_a_reader_chooses_among_methods_that_explain(found: Page):
    assert found.all("data-chooses").count("s0-weights") == 1
    assert set(found.all("data-when")) == {"deepclean", "lfssd"}
    for figure in ("s0-weights-layers", "s0-weights-ratios"):
        shown = {t["meta"] for t in found.traces(figure) if t["visible"]}
        assert shown == {"deepclean"}
        assert found.traces(figure, "lfssd")


def test_the_filters_changed_most_are_a_table(found: Page):
    assert "seed\u00a00; with another seed the network is another" in found.text
    lines = [line.split() for line in found.text.replace("<", "\n").splitlines()]
    assert ["fc1.weight41", "of", "33312.5"] in lines
    assert ["fc2.weight01", "of", "425∞"] in lines


def test_the_note_is_not_shown_raw_but_others_are():
    record = explaining()
    record["notes"]["share"] = 0.0123
    text = Page(page([record], EXPERIMENT)).text
    noted = text.split("What the methods noted")[1].split("Glossary")[0]
    assert "0.0123" in noted
    assert "explanation" not in noted
    assert '"histogram"' in text.split("Glossary")[-1]


@pytest.mark.parametrize(
    "note",
    [
        "because I say so",
        {"why": 1},
        {"layers": [["fc", 1]]},
        small(histogram={"edges": [0]}, filters=[]),
    ],
)
def test_another_note_of_that_name_stays_a_note(note):
    text = Page(page([explaining(note=note)], EXPERIMENT)).text
    assert "Which weights" not in text
    noted = text.split("What the methods noted")[1].split("Glossary")[0]
    assert (note if isinstance(note, str) else json.dumps(note)) in noted


def test_without_a_note_nothing_is_said():
    assert "Which weights" not in Page(page(make_records(1), EXPERIMENT)).text


def test_bins_that_differ_are_not_added():
    other = small()
    other["histogram"] = {**other["histogram"], "edges": [-2.0, 0.0, 1.0, 2.0]}
    both = read(small(), other)
    histogram, seeds = together(both)
    assert (histogram, seeds) == (both[0].histogram, [0])
    text = Page(page([explaining(n, note=b) for n, b in enumerate((small(), other))], {})).text
    assert "Counts are those of seed 0" in text


def test_infinite_ratios_that_were_left_are_not_drawn_as_changed():
    note = small()
    note["histogram"]["infinite"] = 5
    found = Page(page([explaining(note=note)], EXPERIMENT))
    every, chosen, _ = found.traces("s0-weights-ratios", "deepclean")
    assert (every["y"][-1], chosen["y"][-1]) == (5, 1)


def test_an_open_bin_is_drawn_as_wide_as_its_neighbour():
    note = small()
    note["histogram"]["edges"] = [-math.inf, 0.0, 1.0, math.inf]
    (one,) = read(note)
    assert one.histogram.edges == (-1.0, 0.0, 1.0, 2.0)


def test_many_layers_share_bars_by_the_start_of_their_names():
    inside = [f"{kind}.{part}" for kind in ("conv", "bn") for part in ("weight", "bias")]
    names = [f"layer{n}.{block}.{end}" for n in range(9) for block in (0, 1) for end in inside]
    note = small(layers=[*([name, 1, 10] for name in names), ["fc.weight", 3, 5]])
    parts = layers(read(note))
    assert [part.name for part in parts][:2] == ["layer0.0", "layer0.1"]
    assert parts[-1].name == "fc.weight"
    assert (parts[0].changed, parts[0].totals, parts[0].share) == ((4,), (40,), 10.0)


@pytest.mark.parametrize("threshold", [None, 0.0, 10.0, 1e9, math.inf])
@pytest.mark.parametrize("changed", [0, 2])
def test_unusual_notes_still_make_a_page(threshold, changed):
    note = small(layers=[["fc1.weight", changed, 6]], filters=[])
    note["histogram"]["threshold"] = threshold
    found = Page(
        page([explaining(note=note), explaining(0, "bare", {"layers": [["x", 1, 2]]})], {})
    )
    assert set(found.all("data-figure")) == set(found.figures)
    drawn = found.traces("s0-weights-ratios", "deepclean")
    assert len(drawn) == (3 if threshold in (10.0, 1e9) else 2)
    assert ("changed none of the 6 weights" in found.text) == (changed == 0)


def test_everything_is_escaped():
    note = small(layers=[[BAD, 1, 2]], filters=[[BAD, 0, 1, 2, None]], of=BAD, against=BAD)
    found = Page(page([explaining(0, BAD, note), explaining(0, "other")], {}))
    assert not [tag for tag, _ in found.tags if tag == "b"]
    assert len(found.scripts) == 3
    (layer,) = found.traces("s0-weights-layers", BAD)[0]["y"]
    assert layer == "&lt;/script&gt;&lt;b&gt;&amp;"


def test_pruned_models_explain_themselves_while_there_is_room(monkeypatch):
    records = [
        make_record("deepclean", 0, CLASS, pruner=pruner, notes={"explanation": small()})
        for pruner in (None, MAGNITUDE)
    ]
    found = Page(page(records, EXPERIMENT))
    assert {"s0-weights-layers", "s1-weights-layers"} <= set(found.figures)
    assert len(found.all("id")) == len(set(found.all("id")))
    monkeypatch.setattr("oblivio.report.page._ROOM", 10)
    spare = Page(page(records, EXPERIMENT))
    assert "s1-weights-layers" not in spare.figures
    assert '"layers"' not in spare.text


def test_a_record_is_readable_and_still_the_same():
    record = {**explaining(note=small()), "reason": "a [b\n c, d] [", "list": ["x [", "y\n z]"]}
    text = readable(record)
    assert json.loads(text) == record
    assert '[ "fc1.weight", 2, 6 ]' in text


def test_percentages_have_two_figures():
    shares = (0.0004, 0.0996, 0.1, 9.94, 9.96, 99.04)
    assert [percent(share) for share in shares] == ["<0.001", "0.10", "0.10", "9.9", "10", "99.0"]
