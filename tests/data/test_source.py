"""Data sets by name: cut to size, held out, normalised; and what is said when they are missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oblivio.catalogue import find, names
from oblivio.data.arrays import Arrays, Augment
from oblivio.data.source import Images, Source, assemble, load, root, stratified

real = pytest.mark.skipif(not os.environ.get("OBLIVIO_DATA"), reason="OBLIVIO_DATA is not set")


def arrays(data: Any) -> Arrays:
    assert isinstance(data, Arrays)
    return data


def counts(data: Any) -> list[int]:
    return torch.bincount(data.labels, minlength=10).tolist()


# --- Handwritten digits, which need no download -------------------------------------------------


def test_digits() -> None:
    source = load({"name": "digits"})
    assert (len(source.train), len(source.test)) == (1437, 360)
    assert (source.classes, source.shape, source.validation) == (10, (1, 8, 8), None)
    assert min(counts(source.train)) >= 139
    assert min(counts(source.test)) >= 34
    assert sum(counts(source.test)) == 360
    (batch,) = source.train.batches(5000)
    assert batch.inputs.shape == (1437, 1, 8, 8)
    assert 0 <= float(batch.inputs.min()) < float(batch.inputs.max()) <= 1
    (other,) = source.test.batches(5000)
    rows = {tuple(x) for x in batch.inputs.flatten(1).tolist()}
    assert sum(tuple(x) in rows for x in other.inputs.flatten(1).tolist()) == 0


def test_validation_is_held_out() -> None:
    whole, source = load({"name": "digits"}), load({"name": "digits", "validation": 0.1})
    assert source.validation is not None
    assert len(source.validation) == 144
    train, held = set(source.train.ids.tolist()), set(source.validation.ids.tolist())
    assert not train & held
    assert train | held == set(whole.train.ids.tolist())
    shares = [h / w for h, w in zip(counts(source.validation), counts(whole.train), strict=True)]
    assert all(abs(share - 0.1) < 0.01 for share in shares)


def test_the_same_digits_every_time() -> None:
    one, two = (
        load({"name": "digits", "validation": 0.1}),
        load({"name": "digits", "validation": 0.1}),
    )
    assert torch.equal(one.train.ids, two.train.ids)
    assert torch.equal(one.test.ids, two.test.ids)


# --- Cutting to size ----------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 9),
)
def test_stratified_takes_the_same_share_of_every_class(
    sizes: list[int], share: float, seed: int
) -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    count = max(1, round(share * len(labels)))
    rows = stratified(labels, count)
    assert len(set(rows.tolist())) == count
    assert rows.tolist() == sorted(rows.tolist())
    for label, size in enumerate(sizes):
        taken = int((labels[rows] == label).sum())
        # A class's first example comes before any other's second: small classes count up.
        assert abs(taken - count * size / len(labels)) <= 1 + len(sizes) * size / len(labels)


def test_stratified_takes_equal_classes_equally() -> None:
    labels = torch.arange(200) % 10
    assert torch.bincount(labels[stratified(labels, 50)]).tolist() == [5] * 10


@pytest.mark.parametrize("count", [0, -1, 11])
def test_stratified_cannot_take_more_than_there_are(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} examples are asked for, but there are 10"):
        stratified(torch.zeros(10, dtype=torch.int64), count)


def test_assemble_keeps_ids_of_the_full_set_and_normalises_all_parts() -> None:
    pixels = torch.randint(256, (40, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    train = Arrays(pixels.to(torch.uint8), torch.arange(40) % 4)
    test = train.take(torch.arange(20))
    source = assemble(
        train, test, sizes=(20, 8), validation=0.2, augment=Augment(1), mean=(0.5,), std=(0.25,)
    )
    assert source.validation is not None
    assert (len(source.train), len(source.validation), len(source.test)) == (16, 4, 8)
    for part in (source.train, source.validation, source.test):
        (batch,) = part.batches(100)
        expected = (pixels[part.ids].double() / 255 - 0.5) / 0.25
        torch.testing.assert_close(batch.inputs.double(), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(part.labels, train.labels[part.ids])


# --- A user's own -------------------------------------------------------------------------------


def test_own_data_set() -> None:
    source = load({"name": "worlds:user_data", "n": 20})
    assert isinstance(source, Source)
    assert (len(source.train), len(source.test)) == (20, 5)
    assert (source.classes, source.shape) == (3, (4,))


def test_own_source_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    import worlds

    made = load({"name": "worlds:user_data"})
    monkeypatch.setattr(worlds, "user_data", lambda: made)
    assert load({"name": "worlds:user_data"}) is made
    wrong = Source(made.train, made.test, 2, made.shape)
    monkeypatch.setattr(worlds, "user_data", lambda: wrong)
    with pytest.raises(ValueError, match="label 2, but 2 classes"):
        load({"name": "worlds:user_data"})


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match="Did you mean mnist"):
        load({"name": "mnits"})
    with pytest.raises(ValueError, match="There is no field 'size'"):
        load({"name": "digits", "size": 3})


# --- Files --------------------------------------------------------------------------------------


def test_root_is_the_named_folder_or_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBLIVIO_DATA", "~/there")
    assert root() == Path.home() / "there"
    monkeypatch.delenv("OBLIVIO_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert root() == Path("/cache/oblivio/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert root() == Path.home() / ".cache/oblivio/data"


@pytest.mark.parametrize("error", [OSError("no\nnetwork"), RuntimeError("no\nnetwork"), OSError()])
@pytest.mark.parametrize("name", [n for n in names("data") if issubclass(find("data", n), Images)])
def test_missing_files_are_named(
    name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    def download(_: Any) -> None:
        raise error

    images = getattr(torchvision.datasets, find("data", name).__name__)
    monkeypatch.setattr(images, "download", download)
    monkeypatch.setenv("OBLIVIO_DATA", str(tmp_path / "folder"))
    with pytest.raises(FileNotFoundError) as caught:
        load({"name": name})
    said = str(caught.value)
    assert str(tmp_path / "folder") in said
    assert "OBLIVIO_DATA" in said
    assert "\n" not in said
    assert (str(error).split("\n")[0] or "OSError") in said


@real
@pytest.mark.parametrize(
    ("name", "shape", "train"),
    [
        ("mnist", (1, 28, 28), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("cifar10", (3, 32, 32), [5000] * 10),
    ],
)
def test_real_images(name: str, shape: tuple[int, ...], train: list[int]) -> None:
    source = load({"name": name, "validation": 0.1})
    assert source.validation is not None
    assert (source.classes, source.shape) == (10, shape)
    total = [a + b for a, b in zip(counts(source.train), counts(source.validation), strict=True)]
    assert total == train
    assert len(source.validation) == sum(train) // 10
    assert not set(source.train.ids.tolist()) & set(source.validation.ids.tolist())
    assert len(source.test) == 10_000
    # Normalised by its own mean and standard deviation.
    some = torch.cat([batch.inputs for batch in source.train.batches(5000)])
    assert some.shape[1:] == shape
    for channel in range(shape[0]):
        assert float(some[:, channel].mean()) == pytest.approx(0, abs=0.01)
        assert float(some[:, channel].std()) == pytest.approx(1, abs=0.01)


@real
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_real_images_cut_to_size(name: str) -> None:
    whole, source = load({"name": name}), load({"name": name, "train": 500, "test": 200})
    assert (len(source.train), len(source.test)) == (500, 200)
    for cut, all_ in ((source.train, whole.train), (source.test, whole.test)):
        for taken, size in zip(counts(cut), counts(all_), strict=True):
            assert abs(taken - len(cut) * size / len(all_)) <= 1
    # Ids are positions in the full set.
    own, full = arrays(source.train), arrays(whole.train)
    assert torch.equal(own.inputs, full.inputs[own.ids])
    assert torch.equal(own.labels, full.labels[own.ids])
