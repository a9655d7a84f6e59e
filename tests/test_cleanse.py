"""`oblivio cleanse` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from laws import assert_same_state
from oblivio import cli
from oblivio.core import Origin, Run
from oblivio.data import as_data
from oblivio.data.arrays import Arrays
from oblivio.data.attack import Attack
from oblivio.data.sets.digits import Digits
from oblivio.data.triggers.patch import Patch
from oblivio.models.mlp import MLP
from oblivio.scenarios.items import read_ids
from oblivio.train import Recipe

TRIGGER = "name = 'patch', size = 2"
ATTACK = Attack(Patch(size=2), 7)
CASE = """
data = { name = "test_cleanse:given" }
model = { name = "mlp", hidden = [64] }
train = { epochs = 15, lr = 0.05, batch_size = 64 }
methods = [{ name = "deepclean", share = 0.1, recipe = { epochs = 5, batch_size = 64 } }]
"""


def given() -> tuple[Arrays, Arrays]:
    """What the user was given: digits, of which some bear a white square and are called 7."""
    digits = Digits()()
    clean = digits.train
    chosen = torch.where(clean.labels != 7)[0][::12]
    return as_data(ATTACK.on(clean, chosen)), digits.test  # pyright: ignore


POISONED = given()[0].ids[torch.where(Digits()().train.labels != given()[0].labels)[0]]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the poisoned weights and the file that says what they are of."""
    folder = tmp_path_factory.mktemp("victim")
    (folder / "case.toml").write_text(CASE)
    (folder / "poisoned.csv").write_text("id\n" + "\n".join(map(str, POISONED.tolist())))
    torch.set_num_threads(1)
    origin = Origin(lambda: MLP((64,))((1, 8, 8), 10), Recipe(15, 0.05, 64), seed=3)
    model = origin.make(given()[0], Run.on("cpu"))
    save_file(model.state_dict(), folder / "victim.safetensors")
    return folder


Says = Callable[..., tuple[int, str, str]]


@pytest.fixture
def says(victim: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """Call the command on the victim; gives exit status, output and errors."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.chdir(victim)
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(
            "sys.argv",
            ["oblivio", "cleanse", "victim.safetensors", "case.toml", *map(str, words)],
        )
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_ids_that_are_known_are_forgotten(says: Says, victim: Path) -> None:
    before = load_file(victim / "victim.safetensors")
    status, out, _ = says("--ids", "poisoned.csv", "--trigger", TRIGGER, "--target", 7)
    assert status == 0
    assert "attack success rate (ASR)" in out
    assert "named in poisoned.csv" in out
    assert_same_state(before, load_file(victim / "victim.safetensors"))
    told = json.loads((victim / "victim-cleansed.json").read_text())
    assert sorted(told["forgotten"]) == sorted(POISONED.tolist())
    assert told["cleansed"]
    assert told["before"]["asr"] > 90
    assert told["after"]["asr"] < 20
    assert told["after"]["obeys"] <= 5
    assert told["after"]["sa"] > told["before"]["sa"] - 5
    after = load_file(victim / "victim-cleansed.safetensors")
    assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in before.items()}


def test_a_trigger_that_is_known_finds_its_images(says: Says, victim: Path) -> None:
    status, out, _ = says(
        *("--trigger", TRIGGER, "--target", 7, "--method", "deepclean"),
        "--out",
        "clean.safetensors",
    )
    assert status == 0
    assert f"{len(POISONED)} images, found by the trigger that they bear" in out
    told = json.loads((victim / "clean.json").read_text())
    assert sorted(told["forgotten"]) == sorted(POISONED.tolist())
    assert told["method"]["name"] == "DeepClean"
    assert told["method"]["share"] == 0.1
    assert told["attempts"] == 1


def test_where_nothing_is_known_suspects_are_named_and_nothing_is_forgotten(
    says: Says, victim: Path
) -> None:
    (victim / "victim-cleansed.safetensors").unlink(missing_ok=True)
    status, out, _ = says("--find", 0.3, "--target", 7)
    assert status == 0
    assert "the most suspicious first" in out
    found = read_ids(victim / "victim-suspects.csv")
    labels = dict(zip(given()[0].ids.tolist(), given()[0].labels.tolist(), strict=True))
    assert {labels[one] for one in found} == {7}
    assert len(found) == round(0.3 * sum(label == 7 for label in labels.values()))
    assert not (victim / "victim-cleansed.safetensors").exists()


def test_it_is_said_where_the_model_is_not_cleansed(says: Says, victim: Path) -> None:
    status, out, err = says("--ids", "poisoned.csv", "--method", "original", "--out", "same.pt")
    assert status == 0
    assert "ASR" not in out  # nobody told the trigger
    assert "The model is not cleansed: 100.0 % of the poisoned images are still" in err
    told = json.loads((victim / "same.json").read_text())
    assert "asr" not in told["after"]
    assert not told["cleansed"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say which images are poisoned: by --ids FILE"),
        (("--trigger", TRIGGER), "--trigger needs --target"),
        (("--find", 0.5), "--find needs --target"),
        (("--find", 1.5, "--target", 7), "The share 1.5 must lie between 0 and 1."),
        (("--find", 0.5, "--target", 12), "Class 12 has 0 training images"),
        (("--trigger", "size: 2", "--target", 7), "cannot be read: write it as"),
        (("--trigger", "size = 2", "--target", 7), "A trigger needs a name"),
        (("--trigger", "name = 'patch', size = 9", "--target", 7), "does not fit images of 8×8"),
        (("--trigger", "name = 'blend'", "--target", 7), "No training image of class 7 bears"),
        (("--ids", "none.csv"), "There is no file of ids none.csv"),
        (("--ids", "poisoned.csv", "--method", "deepklean"), "Did you mean deepclean"),
    ],
)
def test_wrong_use_is_one_sentence(says: Says, words: tuple[object, ...], said: str) -> None:
    status, _, err = says(*words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err
