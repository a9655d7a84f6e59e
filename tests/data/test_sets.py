"""Data sets made of others: their classes, sizes, colours and shuffled labels; and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

import worlds
from oblivio.catalogue import build, settings_of
from oblivio.data.arrays import Arrays
from oblivio.data.sets.image_folder import ImageFolder
from oblivio.data.sets.joined import Joined
from oblivio.data.sets.part import Part, coloured
from oblivio.data.source import Source, load

DIGITS = load({"name": "digits"})


def arrays(data: Any) -> Arrays:
    assert isinstance(data, Arrays)
    return data


def coloured_source() -> Source:
    """A user's own data set: bytes in colour, with a normalisation and held-out examples."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3, 6, 6), generator=draw, dtype=torch.uint8)
    mean, std = (0.1, 0.2, 0.6), (0.2, 0.2, 0.5)
    data = Arrays(pixels, torch.arange(40) % 4, 7 * torch.arange(40), mean=mean, std=std)
    train, held, test = data.take(torch.arange(24)), data.take(torch.arange(24, 32)), data
    return Source(train, test.take(torch.arange(32, 40)), 4, data.shape, held)


# --- Part ---------------------------------------------------------------------------------------


def test_as_it_is_it_is_the_whole() -> None:
    source = Part()()
    assert torch.equal(source.train.ids, DIGITS.train.ids)
    assert torch.equal(source.train.labels, DIGITS.train.labels)
    assert torch.equal(arrays(source.train).inputs, arrays(DIGITS.train).inputs)
    assert (source.classes, source.shape) == (DIGITS.classes, DIGITS.shape)


def test_classes_are_numbered_in_the_order_asked_for() -> None:
    source = Part(classes=(7, 3))()
    assert source.classes == 2
    for part, whole in ((source.train, DIGITS.train), (source.test, DIGITS.test)):
        wanted = {
            i: {7: 0, 3: 1}[y]
            for i, y in zip(whole.ids.tolist(), whole.labels.tolist(), strict=True)
            if y in (7, 3)
        }
        assert dict(zip(part.ids.tolist(), part.labels.tolist(), strict=True)) == wanted


def test_counts_are_of_what_is_left() -> None:
    source = Part(classes=(0, 1, 2, 3, 4), train=50, test=20)()
    assert torch.bincount(source.train.labels).tolist() == [10] * 5
    assert torch.bincount(source.test.labels).tolist() == [4] * 5


def test_bytes_are_resized_and_made_grey() -> None:
    whole = coloured_source()
    small = Part(size=4)()
    assert small.shape == (1, 4, 4)
    # Halving with antialiasing keeps the brightness.
    before, after = (arrays(s.train).inputs.mean() for s in (DIGITS, small))
    assert float(after) == pytest.approx(float(before), rel=0.1)
    grey = coloured(arrays(whole.train), 1)
    assert grey.shape == (1, 6, 6)
    assert grey.inputs.dtype == torch.uint8
    assert grey.mean == (pytest.approx(0.3),)
    assert grey.std == (pytest.approx(0.3),)
    exact = arrays(whole.train).inputs.double().mean(1, keepdim=True)
    assert float((grey.inputs.double() - exact).abs().max()) <= 0.5


def test_grey_thrice_is_normalised_as_before() -> None:
    grey = coloured(arrays(coloured_source().train), 1)
    (one,), (three,) = grey.batches(99), coloured(grey, 3).batches(99)
    assert three.inputs.shape == (24, 3, 6, 6)
    for channel in range(3):
        assert torch.equal(three.inputs[:, channel], one.inputs[:, 0])


def test_labels_are_shuffled_among_some_classes_of_what_is_trained_on() -> None:
    plain = Part({"name": "digits", "validation": 0.2})()
    mixed = Part({"name": "digits", "validation": 0.2}, shuffled=(2, 5, 8))()
    assert plain.validation is not None
    assert mixed.validation is not None
    some = torch.tensor([2, 5, 8])
    for one, two in ((plain.train, mixed.train), (plain.validation, mixed.validation)):
        touched = torch.isin(one.labels, some)
        assert torch.equal(one.labels[~touched], two.labels[~touched])
        assert torch.equal(one.labels.bincount(), two.labels.bincount())
        right = (one.labels == two.labels)[touched].double().mean()
        assert float(right) == pytest.approx(1 / 3, abs=0.15)
    assert torch.equal(plain.test.labels, mixed.test.labels)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"classes": (1, 1)}, "names a class twice"),
        ({"shuffled": (3,)}, "two classes or more"),
        ({"size": 0}, "size = 0 must be 1 or more"),
        ({"channels": 2}, "channels = 2 must be 1 or 3"),
        ({"of": {"name": "digts"}}, "Did you mean digits"),
        ({"of": {"train": 3}}, "A data set needs a name"),
    ],
)
def test_part_rejects(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Part(**settings)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"classes": (3, 10)}, "there is no class 10 among the 10 of digits"),
        ({"classes": (3, 4), "shuffled": (0, 2)}, "no class 2 among the 2 of digits that are"),
        ({"of": {"name": "worlds:user_data"}, "size": 3}, "are of images, not of inputs of"),
        ({"train": 5000}, "5000 examples are asked for"),
    ],
)
def test_part_says_what_the_data_do_not_allow(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Part(**settings)()


# --- Joined -------------------------------------------------------------------------------------


def test_halves_joined_are_the_whole() -> None:
    source = Joined()()
    assert source.classes == 10
    assert torch.equal(source.train.labels.bincount(), DIGITS.train.labels.bincount())
    assert source.train.ids.tolist() == list(range(1437))
    order = (DIGITS.train.labels >= 5).int().argsort(stable=True)
    assert torch.equal(arrays(source.train).inputs, arrays(DIGITS.train.take(order)).inputs)
    assert torch.equal(source.train.labels, DIGITS.train.labels[order])


def test_each_is_normalised_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "user_data", coloured_source)
    table = {"name": "part", "of": {"name": "worlds:user_data"}, "size": 8, "channels": 1}
    parts = [load(table), DIGITS]
    source = Joined((table, {"name": "digits"}))()
    assert source.classes == 14
    assert source.validation is None  # the digits hold nothing out
    first = 0
    for part in parts:
        (expected,) = part.train.batches(5000)
        got = arrays(source.train).inputs[first : first + len(part.train)]
        assert torch.equal(got, expected.inputs)
        first += len(part.train)
    both = Joined((table, table))()
    assert both.validation is not None
    assert both.validation.labels.unique().tolist() == list(range(8))
    assert not set(both.validation.ids.tolist()) & set(both.train.ids.tolist())


def test_what_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="name the data sets"):
        Joined(())
    with pytest.raises(ValueError, match="different shapes"):
        Joined(({"name": "digits"}, {"name": "part", "size": 4}))()


@pytest.mark.parametrize("one", [Part(classes=(1, 2)), Joined(), ImageFolder()])
def test_settings_are_written_out(one: Any) -> None:
    assert build(type(one), settings_of(one)) == one
    if isinstance(one, Joined):
        assert one.of[0]["of"] == {"name": "digits", "validation": 0.0}


# --- Folders ------------------------------------------------------------------------------------


def folder(path: Path, classes: list[str], each: int = 2) -> None:
    for number, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(each):
            image = torch.full((3, 20, 30), 0.1 + 0.2 * number + 0.05 * i)
            to_pil_image(image).save(path / name / f"{i}.png")


def test_folders_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBLIVIO_DATA", str(tmp_path))
    folder(tmp_path / "pets/train", ["cat", "dog", "owl"])
    folder(tmp_path / "pets/test", ["cat", "dog", "owl"], 1)
    source = load({"name": "image_folder", "path": "pets", "test": "test", "size": 16})
    assert (len(source.train), len(source.test)) == (6, 3)
    assert (source.classes, source.shape) == (3, (3, 16, 16))
    assert source.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    (batch,) = source.train.batches(9)
    assert batch.inputs.shape == (6, 3, 16, 16)
    assert torch.equal(batch.labels, source.train.labels)
    # Normalised by ImageNet's colours; the second image of the second class is 0.35 bright.
    assert float(batch.inputs[3, 0].mean()) == pytest.approx((0.35 - 0.485) / 0.229, abs=0.02)


def test_folders_that_are_not_there_or_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBLIVIO_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="There are no folders of images"):
        ImageFolder()()
    folder(tmp_path / "imagenet/train", ["cat", "dog"], 1)
    folder(tmp_path / "imagenet/val", ["cat", "owl"], 1)
    with pytest.raises(ValueError, match="only one of them has dog, owl"):
        ImageFolder()()
    with pytest.raises(ValueError, match="must be 1 or more"):
        ImageFolder(size=0)
