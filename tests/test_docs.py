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


def test_page_on_gans_python_runs():
    import torch
    from torch import nn

    known = {
        "generator": nn.Sequential(nn.Linear(100, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))),
        "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(64, 1)),
        "images": torch.randint(256, (200, 1, 8, 8), dtype=torch.uint8),
        "labels": torch.arange(200) % 3,
        "ids": [3, 5, 8],
    }
    for code in blocks("docs/gan.md", "python"):
        exec(compile(code, "gan.md", "exec"), known)
    assert known["outcome"].notes["generator_steps"] == 200


def test_guide_python_runs():
    import torch

    x, y = torch.randn(1100, 4), torch.arange(1100) % 2
    known = {"x": x, "y": y, "x_test": x, "y_test": y, "model": torch.nn.Linear(4, 2)}
    for code in blocks("docs/guide.md", "python"):
        exec(compile(code, "guide.md", "exec"), known)
    assert 0 <= known["scores"]["ua"] <= 100


def test_the_page_on_sparsity_runs(tmp_path):
    import torch

    from oblivio import Origin, Recipe, Run, Split, as_data, unlearn
    from oblivio.mask import Mask

    def make_network():
        return torch.nn.Sequential(torch.nn.Linear(4, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))

    x = torch.randn(200, 4)
    train = as_data((x, (x[:, 0] > 0).long()))
    known = {"train": train, "split": Split.of(train, [3, 4]), "make_network": make_network}
    known |= {"Origin": Origin, "Recipe": Recipe, "Run": Run, "unlearn": unlearn}
    origin = Origin(make_network, Recipe(epochs=4, batch_size=50), seed=0)
    known["model"] = origin.make(train, Run.on("cpu"))
    for code in blocks("docs/sparsity.md", "python"):
        exec(compile(code, "sparsity.md", "exec"), known)
    assert Mask.of(known["outcome"].model).kept == Mask.of(known["sparse"]).kept == 8
    (text,) = blocks("docs/sparsity.md", "toml")
    (tmp_path / "my.toml").write_text(
        f'data = {{ name = "digits" }}\nmodel = {{ name = "mlp" }}\n{text}'
    )
    assert len(read(tmp_path / "my.toml").cells()) == 5 * 6 * 2


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
