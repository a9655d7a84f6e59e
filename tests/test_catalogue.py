"""The folders are the registries, and settings become instances or clear errors."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from oblivio import catalogue
from oblivio.catalogue import FAMILIES, build, choose, entries, find, imported, names, settings_of
from oblivio.data.arrays import Augment
from oblivio.methods.fine_tune import FineTune
from oblivio.scenarios.random import Random
from oblivio.train import Recipe

MEMBERS = [(family, name) for family in FAMILIES for name in names(family)]


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_every_file_holds_one_frozen_dataclass_with_a_summary(family: str, name: str) -> None:
    cls = find(family, name)
    assert is_dataclass(cls)
    assert cls.__name__.lower() == name.replace("_", "")
    assert cls.__module__ == f"{FAMILIES[family]}.{name}"
    assert cls.__dataclass_params__.frozen
    assert callable(cls.__call__)
    (entry,) = [entry for entry in entries(family) if entry.name == name]
    assert entry.summary.endswith((".", ":", ")"))
    assert not entry.summary.startswith(f"{cls.__name__}(")
    # Every field is explained, by the class or by the one that it adds to.
    explained = "".join(c.__doc__ or "" for c in cls.__mro__ if c is not object)
    for field in fields(cls):
        assert f"{field.name}:" in explained, field.name


def test_families_have_what_they_had() -> None:
    assert {"fine_tune", "gradient_ascent", "original", "retrain"} <= set(names("methods"))
    assert {"fine_tune", "original", "retrain"} <= set(names("gan"))
    assert {"class_wise", "items", "poisoned", "random"} <= set(names("scenarios"))
    assert {"accuracy", "time"} <= set(names("metrics"))
    assert {"cnn", "mlp", "resnet18", "vgg16_bn"} <= set(names("models"))
    assert {"cifar10", "digits", "mnist"} <= set(names("data"))


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A family of its own, with a good file, a hidden one, and one without its dataclass."""
    package = tmp_path / "own_family"
    package.mkdir()
    text = (
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class NewOne:\n"
        '    """A new one."""\n'
        "    rate: float = 0.5\n"
    )
    (package / "__init__.py").touch()
    (package / "new_one.py").write_text(text)
    (package / "_hidden.py").write_text(text)
    (package / "odd.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(catalogue.FAMILIES, "own", "own_family")
    yield "own"
    for name in [name for name in sys.modules if name.startswith("own_family")]:
        del sys.modules[name]


def test_a_file_added_is_a_choice_added(family: str) -> None:
    assert names(family) == ["new_one", "odd"]
    assert choose(family, {"name": "new_one", "rate": 0.25}).rate == 0.25
    with pytest.raises(ValueError, match="should hold a dataclass called like the file, odd"):
        find(family, "odd")


def test_unknown_names_are_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(ValueError, match=r"'fine_tun'\. Did you mean fine_tune\? There are: ") as e:
        find("methods", "fine_tun")
    assert all(name in str(e.value) for name in names("methods"))
    with pytest.raises(ValueError, match=r"'xyzzy'\. There are: ") as e:
        find("methods", "xyzzy")
    assert "Did you mean" not in str(e.value)
    assert catalogue.unknown("thing", "a", []).endswith("There are: none.")


def test_imported() -> None:
    assert imported("oblivio.train:Recipe") is Recipe
    assert find("methods", "oblivio.methods.fine_tune:FineTune") is FineTune
    for name in ("oblivio.train:Missing", "oblivio.missing:Recipe", "oblivio.train:"):
        with pytest.raises(ValueError, match=f"Cannot import '{name}'"):
            imported(name)


# --- Settings -----------------------------------------------------------------------------------


def test_choose_builds_what_a_table_says() -> None:
    assert choose("scenarios", {"name": "random", "fraction": 0.25}) == Random(fraction=0.25)
    spec = {"name": "random"}
    choose("scenarios", spec)
    assert spec == {"name": "random"}  # and leaves the table alone


def test_a_nested_table_keeps_the_classes_own_defaults() -> None:
    built = build(FineTune, {"recipe": {"epochs": 3}})
    assert built == FineTune(Recipe(epochs=3, lr=0.01))
    assert build(FineTune, {}) == FineTune()


@pytest.mark.parametrize(
    "thing",
    [
        Recipe(milestones=(0.1, 0.2, 0.9), schedule="step"),
        FineTune(Recipe(epochs=1, optimizer="adamw")),
        Random(count=3),
        find("data", "cifar10")(train=500, augment=Augment(1)),
        find("models", "mlp")(hidden=()),
    ],
)
def test_settings_and_build_are_inverse(thing: Any) -> None:
    assert build(type(thing), settings_of(thing)) == thing


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epoch": 3}, "Recipe: There is no field 'epoch'. Did you mean epochs"),
        ({"epochs": "3"}, "Recipe: epochs = '3' does not fit: Input should be a valid integer"),
        ({"epochs": 2.5}, "epochs = 2.5 does not fit"),
        ({"epochs": True}, "epochs = True does not fit"),
        ({"epochs": None}, "epochs = None does not fit"),
        ({"optimizer": "rmsprop"}, "optimizer = 'rmsprop' does not fit.*'sgd'"),
        ({"nesterov": 1}, "nesterov = 1 does not fit"),
        ({"milestones": 0.5}, "milestones = 0.5 does not fit"),
        ({"milestones": ["a"]}, "milestones = .'a'. does not fit"),
        ({"lr": object()}, "lr = .* does not fit: .*not JSON serializable"),
        ({"lr": -1.0}, "Recipe: lr = -1.0 must be above 0"),
    ],
)
def test_build_is_strict(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build(Recipe, settings)


def test_errors_say_where() -> None:
    with pytest.raises(ValueError, match=r"methods fine_tune\.recipe: lr = 'x' does not fit"):
        choose("methods", {"name": "fine_tune", "recipe": {"lr": "x"}})
    with pytest.raises(ValueError, match=r"methods fine_tune\.recipe: There is no field 'rate'"):
        choose("methods", {"name": "fine_tune", "recipe": {"rate": 1}})


def test_what_is_built_already_is_taken_as_it_is() -> None:
    recipe = Recipe(epochs=3)
    assert build(FineTune, {"recipe": recipe}).recipe is recipe


def test_whole_numbers_are_numbers() -> None:
    assert build(Recipe, {"lr": 1}).lr == 1


@dataclass(frozen=True)
class Needy:
    """Cannot do without."""

    size: int


def test_what_is_needed_must_be_given() -> None:
    assert build(Needy, {"size": 3}) == Needy(3)
    with pytest.raises(ValueError, match="Needy: the field 'size' is missing"):
        build(Needy, {})
