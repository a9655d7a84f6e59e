"""Who is told apart, on the page and on the terminal: what is said is what was tested."""

from __future__ import annotations

import io
import random
import re

import pytest
from rich.console import Console

from browser import Page
from oblivio.bench.power import detectable, needed
from oblivio.bench.rank import ranking
from oblivio.bench.significance import average_gaps, level, pairs, signed_rank
from oblivio.bench.stats import summarise
from oblivio.core import Score
from oblivio.report import words
from oblivio.report.cell import pair_cell, score_cell
from oblivio.report.page import page
from oblivio.report.plot import colours
from oblivio.report.significance_plot import rank_plot
from oblivio.report.significance_words import figures, omitted, ranks, spread, verdict
from oblivio.report.table import print_table
from records import CLASS, MAGNITUDE, RANDOM, make_record, make_records, make_sweep

SEVERAL = 5


def experiment(
    gaps: dict[str, float], seeds: int = SEVERAL, noise: float = 0.2, scenarios=(RANDOM,)
):
    """Records of methods this far from retrain."""
    found = []
    for scenario in scenarios:
        for seed in range(seeds):
            draw = random.Random(seed)
            for name, gap in {"retrain": 0.0, **gaps}.items():
                value = 50 + gap + (draw.gauss(0, noise) if gap else 0)
                found.append(make_record(name, seed, scenario, metrics={"ua": value}))
    return found


def said(records: list[dict], **more) -> str:
    return verdict(summarise(records).comparisons[0], **more).replace("\u00a0", " ")


def shown(records: list[dict]) -> Page:
    return Page(page(records, {"name": "digits"}))


def links_and_ids_fit(found: Page) -> None:
    ids = found.all("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in found.all("href")} <= set(ids)
    assert set(found.all("popovertarget")) <= set(ids)
    assert set(found.all("data-figure")) == set(found.figures)


class TestVerdict:
    def test_says_who_is_nearer_by_how_much_and_what_would_have_been_seen(self):
        records = experiment({"fine_tune": 1.0, "gradient_ascent": 9.0, "ssd": 1.2})
        (comparison,) = summarise(records).comparisons
        family = pairs(average_gaps(comparison))
        by_names = {frozenset((pair.nearer, pair.farther)): pair for pair in family}
        best = next(iter(average_gaps(comparison)))
        second = {"fine_tune", "ssd"}.difference([best]).pop()
        apart = by_names[frozenset((best, "gradient_ascent"))]
        same = by_names[frozenset((best, second))]
        size = detectable(spread(same.difference), 5, level(family))
        assert apart.told
        assert not same.told
        assert said(records) == (
            f"{best} is nearer to retrain than gradient_ascent "
            f"({words.spread(apart.difference)} points, p < 0.001). It is not told apart from "
            f"{second} ({words.spread(same.difference)} points, p = {same.p:.2f}): 5 seeds would "
            f"have shown {figures(size)} points with a probability of 80 %. "
            f"{second} is nearer than gradient_ascent "
            f"({words.spread(by_names[frozenset((second, 'gradient_ascent'))].difference)} points, "
            "p < 0.001)."
        )

    def test_how_many_seeds_a_point_takes(self):
        records = experiment({"fine_tune": 20.0, "ssd": 20.1}, noise=3.0)
        (comparison,) = summarise(records).comparisons
        (pair,) = pairs(average_gaps(comparison))
        n = needed(spread(pair.difference))
        assert n > SEVERAL
        assert f"and it takes about {n} to show 1 point" in said(records)
        assert "it takes" not in said(records, short=True)
        wild = experiment({"fine_tune": 50.0, "ssd": 51.0}, noise=24.0)
        assert re.search(r"takes more than 1000 to show 1 point|too few to show", said(wild))

    def test_two_seeds_cannot_show_much(self):
        text = said(experiment({"fine_tune": 20.0, "ssd": 20.1}, seeds=2, noise=12.0))
        assert "2 seeds are too few to show even 100 points" in text

    def test_the_same_in_every_seed(self):
        text = said(experiment({"fine_tune": 3.0, "ssd": 3.0}, noise=0.0))
        assert text == "fine_tune and ssd have the same average gap in every seed."

    def test_one_seed_one_method_no_retrain(self):
        assert "takes at least two seeds" in said(experiment({"a": 1.0, "b": 2.0}, seeds=1))
        assert said(experiment({"a": 1.0})) == ""
        without = [r for r in make_records(3) if r["cell"]["method"]["name"] != "retrain"]
        assert said(without) == ""

    def test_a_method_with_one_seed_is_not_tested(self):
        records = experiment({"a": 1.0, "b": 5.0, "c": 9.0})
        records = [
            r for r in records if (r["cell"]["method"]["name"] != "c") or not r["cell"]["seed"]
        ]
        text = said(records)
        assert "a is nearer to retrain than b" in text
        assert "c shares fewer than two seeds with a: no test." in text
        assert "nan" not in text

    def test_failed_cells_leave_the_rest(self):
        records = [*experiment({"a": 1.0, "b": 5.0}), make_record("c", 0, status="failed")]
        assert said(records) == said(experiment({"a": 1.0, "b": 5.0}))

    def test_of_many_methods_few_are_named(self):
        text = said(experiment({f"m{place}": 1.0 + place for place in range(20)}))
        assert re.search(
            r"m0 is nearer to retrain than m\d+, m\d+, m\d+ and 1\d more \(each p", text
        )
        assert "Of the 171 other pairs" in text
        assert len(text) < 600

    def test_summary_and_verdict_agree(self):
        """What an interval alone would call settled is not, once three pairs were looked at."""
        for gap in (1.05, 1.1, 1.2, 1.4, 3.0):
            records = experiment({"fine_tune": 1.0, "ssd": gap, "original": 9.0})
            results = summarise(records)
            summary = words.summary(results.comparisons[0], results)
            told = "fine_tune is nearer to retrain than ssd" in said(records).replace(
                "fine_tune is nearer to retrain than original", ""
            ) or re.search(r"fine_tune is nearer to retrain than [^.]*\bssd\b", said(records))
            assert ("tells the two apart" in summary) == bool(told)
            assert ("the order is not settled" in summary) != bool(told)


FOUR = {"original": 12.0, "fine_tune": 1.0, "gradient_ascent": 9.0, "ssd": 1.1}


class TestPage:
    def test_block_table_and_matrix(self):
        found = shown(experiment(FOUR, scenarios=(RANDOM, CLASS)))
        links_and_ids_fit(found)
        text = found.text.replace("\u00a0", " ")
        for said in ("Told apart?", "after Holm's correction for 6 tests", "Each two methods"):
            assert said in text
        assert {f"s0-test-{row}-{column}" for row in range(3) for column in range(2)} <= set(
            found.all("popovertarget")
        )
        assert {f"s1-pair-{row}-{column}" for row in range(4) for column in range(row)} <= set(
            found.all("popovertarget")
        )

    def test_a_number_leads_to_both_records_and_both_tests(self):
        records = experiment(FOUR)
        (comparison,) = summarise(records).comparisons
        gaps = average_gaps(comparison)
        pair = next(p for p in pairs(gaps) if {p.nearer, p.farther} == {"fine_tune", "original"})
        keys = {(r["cell"]["method"]["name"], r["cell"]["seed"]): r["key"] for r in records}
        cell = pair_cell(pair, "original", gaps, "Average gap", 0.05)
        assert cell.text == f"+{pair.difference.mean:.2f}"
        for seed, (texts, behind) in enumerate(cell.sources):
            assert behind == (keys["original", seed], keys["fine_tune", seed])
            assert float(texts[1]) - float(texts[2]) == pytest.approx(float(texts[3]), abs=0.011)
        ranks = signed_rank([point.value for point in pair.difference.points])
        closing = cell.closing.replace("\u00a0", " ")
        assert ranks == 0.0625
        size = figures(detectable(spread(pair.difference), 5))
        assert (
            "signed ranks (Wilcoxon), not corrected: p = 0.062; 80 % likely to be told apart: "
            f"{size} points; n = 5"
        ) in closing
        back = pair_cell(pair, "fine_tune", gaps, "Average gap", 0.05)
        assert back.text == cell.text.replace("+", "−")
        assert pair_cell(pair, "original", gaps, "", 0.05, brief=True).text == "<\u00a00.001"
        assert pair_cell(None, "original", gaps, "", 0.05).text == words.ABSENT

    def test_twenty_methods_have_no_matrix(self):
        found = shown(experiment({f"m{place}": 1.0 + place for place in range(20)}))
        links_and_ids_fit(found)
        assert "Each two methods" not in found.text
        assert "s0-test-18-1" in found.all("popovertarget")

    @pytest.mark.parametrize("seeds", [1, 2])
    def test_few_seeds_say_nothing_odd(self, seeds):
        found = shown(make_records(seeds, (RANDOM,)))
        links_and_ids_fit(found)
        assert "Told apart?" in found.text
        assert not re.search(r"\bnan\b|\binf\b|None", found.text.split("Glossary\n")[0])
        assert ("Every test" in found.text) == (seeds > 1)

    def test_pruned_tests_lead_to_their_rows_panel(self):
        found = shown(make_sweep(3, (MAGNITUDE,)))
        links_and_ids_fit(found)
        assert not [id for id in found.all("id") if re.match(r"s[12]-(test|pair)-", id)]
        assert [id for id in found.all("id") if id.startswith("s0-pair-")]

    def test_bootstrap_where_students_interval_leaves_the_scale(self):
        scores = {"ua": Score("UA", "%", "retrain", "", headline=True)}

        def closing(values: list[float]) -> str:
            records = [make_record("fine_tune", s, metrics={"ua": v}) for s, v in enumerate(values)]
            results = summarise(records, scores)
            return score_cell(results.comparisons[0].rows[0], "ua", results, "").closing

        near = [100.0] * 8 + [99.0, 92.0]
        low, high = map(float, re.findall(r"is ([\d.]+) to ([\d.]+)\)", closing(near))[0])
        assert 92 <= low < 99 < high <= 100
        assert "bootstrap" not in closing(near[-5:])  # five seeds are too few for it
        assert "bootstrap" not in closing([50.0 + value / 10 for value in near])


class TestRanks:
    def test_diagram_has_a_line_for_each_method_and_a_bar_for_each_group(self):
        records = experiment(
            {"a": 1.0, "b": 1.05, "c": 30.0, "d with=settings of=its own": 60.0}, noise=0.1
        )
        results = summarise(records)
        found = ranking(results)
        assert found is not None
        figure = rank_plot(found, colours(results))
        lines = [trace for trace in figure.data if trace.name]
        assert [trace.x[1] for trace in lines] == list(found.ranks.values())
        bars = [trace for trace in figure.data if not trace.name]
        assert [[list(found.ranks)[y] for y in bar.y] for bar in bars] == [
            list(g) for g in found.groups
        ]
        assert found.groups == (("a", "b"),) or found.groups == (("b", "a"),)
        text = ranks(found).replace("\u00a0", " ")
        assert text.startswith(
            "Over 5 seeds of one scenario the methods differ (Friedman's test, χ² ="
        )
        assert "paired t tests" in text

    def test_words_of_what_is_not_settled_blind_or_left_out(self):
        alike = ranking(summarise(experiment({"a": 5.0, "b": 5.0, "c": 5.0}, noise=1.0)))
        assert "order is not settled" in ranks(alike)
        both = experiment({"a": 1.0, "b": 5.0, "c": 9.0}, seeds=2, scenarios=(RANDOM, CLASS))
        assert "signed ranks ask for more cases" in ranks(ranking(summarise(both)))
        records = experiment({"a": 1.0, "b": 5.0, "c": 9.0, "d": 1.0})
        some = [
            r for r in records
            if (r["cell"]["method"]["name"], r["cell"]["seed"]) not in
            {("a", 0), ("d", 0), ("d", 1), ("d", 2)}
        ]  # fmt: skip
        text = omitted(ranking(summarise(some)))
        assert "Left out for having a gap in less than half of the cases: d." in text
        assert "1 case in which another method has no gap is left out." in text

    def test_on_the_page_with_three_methods_and_cases(self):
        found = shown(make_records(3))
        assert "ranks" in found.figures
        assert "#ranks" in found.all("href")
        assert "ranks" not in shown(make_records(1)).figures
        assert "ranks" not in shown(experiment({"a": 1.0, "b": 2.0})).figures

    def test_labels_are_escaped(self):
        bad = "<b>&"
        found = ranking(results := summarise(experiment({bad: 1.0, "b": 1.1, "c": 1.2})))
        assert bad not in str(rank_plot(found, colours(results)).to_plotly_json())


class TestTerminal:
    def test_says_it_below_the_table_in_the_width(self):
        records = experiment({"original": 12.0, "fine_tune": 1.0, "gradient_ascent": 9.0})
        console = Console(width=80, file=io.StringIO())
        print_table(records, console)
        text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        assert max(map(len, text.splitlines())) <= 80
        flat = " ".join(text.split())
        assert (
            "Told apart? fine_tune is nearer to retrain than gradient_ascent (p < 0.001) and "
            "original (p < 0.001)." in flat
        )


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0, "p < 0.001"), (0.00123, "p = 0.001"), (0.0499, "p = 0.050"), (0.0996, "p = 0.10"),
     (1.0, "p = 1.00")],
)  # fmt: skip
def test_probability(p, text):
    assert words.probability(p) == text.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1.68, "1.7"), (0.0123, "0.012"), (99.4, "99")]
)
def test_figures(value, text):
    assert figures(value) == text
