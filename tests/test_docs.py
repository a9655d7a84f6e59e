"""What the documents say can be done."""

import re
from pathlib import Path

import pytest

from oblivio.bench.spec import read

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_readme_starts_with_the_two_commands():
    first = re.search(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == [
        "make run",
        "make test",
    ]


def test_readme_python_runs(capsys):
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.count("'ua'") == 2


def test_guide_python_runs():
    import torch

    x, y = torch.randn(1100, 4), torch.arange(1100) % 2
    known = {"x": x, "y": y, "x_test": x, "y_test": y, "model": torch.nn.Linear(4, 2)}
    for code in blocks("docs/guide.md", "python"):
        exec(compile(code, "guide.md", "exec"), known)
    assert 0 <= known["scores"]["ua"] <= 100


def test_guide_experiment_is_valid(tmp_path):
    (text,) = blocks("docs/guide.md", "toml")
    (tmp_path / "my.toml").write_text(text)
    assert len(read(tmp_path / "my.toml").cells()) == 5 * 2 * 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    assert "<!--" not in text, "a gap was left open"
