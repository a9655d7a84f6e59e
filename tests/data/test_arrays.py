"""Batches of tensors: order, augmentation and normalisation agree with one image at a time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import oracles
import worlds
from oblivio.core import Batch, Data
from oblivio.data.arrays import Arrays, Augment, batch_positions, batch_starts, shifted

SIZES = st.integers(1, 40)


def collected(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    return torch.cat([b.inputs for b in batches]), torch.cat([b.labels for b in batches])


def coloured(n: int, side: int = 6, channels: int = 3, augment: Augment = Augment()) -> Arrays:
    """Bytes that are all above zero, so that padding shows; labels are positions."""
    draw = torch.Generator().manual_seed(n)
    pixels = torch.randint(1, 256, (n, channels, side, side + 1), generator=draw)
    return Arrays(pixels.to(torch.uint8), torch.arange(n), augment=augment)


# --- Augmentation -------------------------------------------------------------------------------


@given(st.data())
def test_shifted_agrees_with_one_pixel_at_a_time(data: st.DataObject) -> None:
    n, c, h, w, padding = (data.draw(st.integers(low, 4)) for low in (1, 1, 1, 1, 0))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    images = torch.randn(n, c, h, w, generator=draw, dtype=torch.float64)
    shifts = torch.randint(2 * padding + 1, (n, 2), generator=draw)
    found = shifted(images, shifts, padding)
    for image, (down, right), cut in zip(images, shifts.tolist(), found, strict=True):
        assert torch.equal(cut, oracles.crop_and_flip(image, down, right, padding, flip=False))


def test_shifted_agrees_with_torchvision() -> None:
    from torchvision.transforms import functional as TF

    images, shifts = coloured(25).inputs, torch.cartesian_prod(torch.arange(5), torch.arange(5))
    found = shifted(images, shifts, 2)
    for image, (down, right), cut in zip(images, shifts.tolist(), found, strict=True):
        assert torch.equal(cut, TF.crop(TF.pad(image, [2]), down, right, 6, 7))  # pyright: ignore


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [0, 1, 2])
def test_every_augmented_image_is_a_crop_and_flip_of_its_own(crop: int, flip: bool) -> None:
    """Of 600 images, every kind of crop and flip is seen, each about as often as any other."""
    n, side = 600, 3
    data = coloured(n, side, 1, Augment(crop, flip))
    x, labels = collected(list(data.batches(128, shuffle=3, augment=True)))
    kinds = list(
        itertools.product(range(2 * crop + 1), range(2 * crop + 1), [False, True][: 1 + flip])
    )
    counts = dict.fromkeys(kinds, 0)
    for image, label in zip(x, labels.tolist(), strict=True):
        source = data.inputs[label].double()
        fits = [
            kind
            for kind in kinds
            if torch.equal(
                (255 * image.double()).round(),
                oracles.crop_and_flip(source, kind[0], kind[1], crop, kind[2]),
            )
        ]
        assert fits, label
        counts[fits[0]] += 1
    expected = n / len(kinds)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def test_nothing_is_augmented_unless_asked() -> None:
    data = coloured(20, augment=Augment(2, True))
    for options in ({}, {"augment": True}, {"shuffle": 1}):
        x, labels = collected(list(data.batches(7, **options)))
        torch.testing.assert_close(x, data.inputs[labels] / 255)


def test_augmentation_does_not_change_the_order() -> None:
    data = coloured(20, augment=Augment(2, True))
    _, plain = collected(list(data.batches(7, shuffle=5)))
    x, labels = collected(list(data.batches(7, shuffle=5, augment=True)))
    assert torch.equal(plain, labels)
    assert not torch.equal(x, data.inputs[labels] / 255)


# --- Normalisation ------------------------------------------------------------------------------


def test_bytes_are_normalised_as_by_torchvision() -> None:
    from torchvision.transforms import Compose, Normalize, ToTensor

    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    data = Arrays(pixels, torch.zeros(2, dtype=torch.int64), mean=mean, std=std)
    transform = Compose([ToTensor(), Normalize(mean, std)])
    expected = torch.stack([transform(image.permute(1, 2, 0).numpy()) for image in pixels])
    (batch,) = data.batches(2)
    assert batch.inputs.dtype == torch.float32
    torch.testing.assert_close(batch.inputs, expected, rtol=1e-6, atol=1e-6)


def test_bytes_without_mean_are_scaled_to_one() -> None:
    (batch,) = coloured(4).batches(4)
    torch.testing.assert_close(batch.inputs, coloured(4).inputs / 255)


def test_floats_are_normalised_only_if_asked() -> None:
    x, y = torch.randn(5, 2, 3, 3), torch.zeros(5, dtype=torch.int64)
    (plain,) = Arrays(x, y).batches(5)
    assert torch.equal(plain.inputs, x)
    (scaled,) = Arrays(x, y, mean=(1.0, 2.0), std=(0.5, 4.0)).batches(5)
    expected = (x - torch.tensor([1.0, 2.0]).view(2, 1, 1)) / torch.tensor([0.5, 4.0]).view(2, 1, 1)
    torch.testing.assert_close(scaled.inputs, expected)


# --- Order --------------------------------------------------------------------------------------


@given(n=SIZES, one=SIZES, two=SIZES, seed=st.integers(0, 2**63 - 1))
def test_a_pass_does_not_depend_on_the_batch_size(n: int, one: int, two: int, seed: int) -> None:
    data = coloured(n, 2, 1, Augment(1, True))
    a = collected(list(data.batches(one, shuffle=seed, augment=True)))
    b = collected(list(data.batches(two, shuffle=seed, augment=True)))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert sorted(a[1].tolist()) == list(range(n))


def test_a_pass_is_a_function_of_its_seed() -> None:
    data = coloured(50, 2, 1, Augment(1, True))
    orders = [collected(list(data.batches(8, shuffle=s)))[1].tolist() for s in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert collected(list(data.batches(8)))[1].tolist() == list(range(50))


@given(n=SIZES, size=SIZES)
def test_batches_are_as_few_and_as_equal_as_can_be(n: int, size: int) -> None:
    sizes = [len(rows) for rows, _ in batch_positions(n, size, (0, 1))]
    assert sum(sizes) == n
    assert len(sizes) == len(batch_starts(n, size)) == math.ceil(n / size)
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    if n > 1 and size > 2:
        assert 1 not in sizes  # which BatchNorm could not normalise


# --- Several processes --------------------------------------------------------------------------


@given(n=SIZES, size=SIZES, world=st.integers(1, 6), seed=st.integers(0, 99))
def test_parts_cover_the_batch_and_their_weighted_mean_is_its_mean(
    n: int, size: int, world: int, seed: int
) -> None:
    """(1/world) Σ_rank share · (mean over the rank's part) = mean over the whole batch."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(n, 1, generator=draw, dtype=torch.float64)
    data = Arrays(values, torch.arange(n))
    whole = list(data.batches(size, shuffle=seed))
    parts = [list(data.batches(size, shuffle=seed, part=(r, world))) for r in range(world)]
    for step, batch in enumerate(whole):  # every process takes part in every step
        own = [part[step] for part in parts]
        mean = sum(float(b.inputs.mean()) * b.share for b in own) / world
        assert mean == pytest.approx(float(batch.inputs.mean()), abs=1e-12)
        counted = torch.cat([b.labels for b in own if b.share > 0])
        assert sorted(counted.tolist()) == sorted(batch.labels.tolist())
        assert all(len(b.labels) > 0 for b in own)
    assert all(len(part) == len(whole) for part in parts)


def test_parts_augment_as_one_process_does() -> None:
    data = coloured(10, 4, 1, Augment(1, True))
    x, labels = collected(list(data.batches(4, shuffle=1, augment=True)))
    whole = dict(zip(labels.tolist(), x, strict=True))
    for rank in range(2):
        x, labels = collected(list(data.batches(4, shuffle=1, augment=True, part=(rank, 2))))
        for image, label in zip(x, labels.tolist(), strict=True):
            assert torch.equal(image, whole[label])


# --- Subsets ------------------------------------------------------------------------------------


@given(st.data())
def test_ids_stay_with_the_examples_through_take_of_take(data: st.DataObject) -> None:
    arrays: Data = worlds.pictures(20, 3, (2,))
    rows = {int(i): row for row, i in enumerate(arrays.ids)}
    first = arrays
    for _ in range(2):
        some = st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=12, unique=True)
        first = first.take(torch.tensor(data.draw(some)))
    where = torch.tensor([rows[int(i)] for i in first.ids])
    assert torch.equal(first.labels, arrays.labels[where])
    (got,), (all_,) = first.batches(100), arrays.batches(100)
    assert torch.equal(got.inputs, all_.inputs[where])


def test_take_keeps_what_a_pass_does() -> None:
    full, mean, std = coloured(9, augment=Augment(1)), (0.5,) * 3, (2.0,) * 3
    data = Arrays(full.inputs, full.labels, full.ids, full.augment, mean, std)
    taken = data.take(torch.tensor([4, 2]))
    assert (taken.augment, taken.mean, taken.std) == (data.augment, data.mean, data.std)
    assert taken.ids.tolist() == [4, 2]
    assert taken.shape == (3, 6, 7)
    assert repr(taken) == "Arrays(2 examples of 3×6×7 torch.uint8, cpu)"


def test_arrays_stay_where_they_are() -> None:
    data = coloured(3)
    assert data.to(torch.device("cpu")) is data
    assert data.to(torch.device("meta")).inputs.device.type == "meta"
    assert data.to(torch.device("meta")).labels.device.type == "cpu"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("labels", [torch.zeros(4), torch.zeros(4, 1).long(), torch.zeros(4).int()])
def test_labels_must_be_whole_numbers(labels: Tensor) -> None:
    with pytest.raises(TypeError, match="one whole number"):
        Arrays(torch.zeros(4, 2), labels)


@pytest.mark.usefixtures("unchecked")
def test_lengths_must_agree() -> None:
    x, y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="4 inputs, 3 labels and 4 ids"):
        Arrays(x, y[:3])
    with pytest.raises(ValueError, match="4 inputs, 4 labels and 2 ids"):
        Arrays(x, y, torch.arange(2))


@pytest.mark.gpu
def test_a_pass_on_the_gpu_is_the_same() -> None:
    data = coloured(50, 8, 3, Augment(2, True))
    x, labels = collected(list(data.batches(16, shuffle=1, augment=True)))
    there = data.to(torch.device("cuda"))
    y, others = collected(list(there.batches(16, shuffle=1, augment=True)))
    assert y.device.type == "cuda"
    assert torch.equal(labels, others.cpu())
    torch.testing.assert_close(x, y.cpu())
