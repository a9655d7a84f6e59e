"""An image cannot be forgotten while a copy of it is retained."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from gan_worlds import gan_case, pictures
from oblivio.core import Split, unlearn
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import Loaded
from oblivio.gan.original import Original
from oblivio.generative import check_copies


def copied(rows: list[int], to: list[int], *, labels: bool = True) -> Arrays:
    """Pictures of which some stand twice."""
    data = pictures(60)
    inputs, own = data.inputs.clone(), data.labels.clone()
    inputs[to] = inputs[rows]
    if labels:
        own[to] = own[rows]
    return replace(data, inputs=inputs, labels=own)


def test_a_copy_among_the_retained_is_named() -> None:
    data = copied([0, 1], [30, 31])
    ids = data.ids.tolist()
    split = Split.of(data, ids[:9])
    said = rf"other ids: {ids[0]} \(as {ids[30]}\), {ids[1]} \(as {ids[31]}\). Forget those too"
    with pytest.raises(ValueError, match=said):
        check_copies(split)
    check_copies(Split.of(data, [*ids[2:9], ids[40]]))
    check_copies(Split.of(data, [*ids[:9], *ids[30:32]]))


def test_many_copies_are_counted() -> None:
    data = copied(list(range(8)), list(range(20, 28)))
    with pytest.raises(ValueError, match=r"(\d+ \(as \d+\), ){4}\d+ \(as \d+\) and 3 more\. "):
        check_copies(Split.of(data, data.ids[:9]))


def test_one_copy_may_have_several() -> None:
    data = copied([0, 0], [30, 31])
    with pytest.raises(ValueError, match=r"(\d+) \(as \d+\), \1 \(as \d+\)\. "):
        check_copies(Split.of(data, data.ids[:9]))


def test_the_smallest_difference_makes_another_image() -> None:
    data = copied([0], [30])
    data.inputs[30, 0, 0, 0] = torch.nextafter(data.inputs[30, 0, 0, 0], torch.tensor(2.0))
    check_copies(Split.of(data, data.ids[:9]))


def test_a_class_goes_whatever_is_retained_under_another_label() -> None:
    """A blank image of class 2 and one of class 0: the class is to go, not the image."""
    data = copied([2], [30], labels=False)
    assert (int(data.labels[2]), int(data.labels[30])) == (2, 0)
    check_copies(Split.of(data, data.ids[data.labels == 2]))
    both = torch.cat([data.ids[data.labels == 2], data.ids[[0]]])
    check_copies(Split.of(data, both))
    with pytest.raises(ValueError, match=rf"other ids: {int(data.ids[2])} \(as"):
        check_copies(Split.of(data, data.ids[[2]]))


def test_data_of_any_kind_are_looked_at() -> None:
    """Bytes as networks see them, and Datasets."""
    images = torch.arange(6 * 4, dtype=torch.uint8).view(6, 1, 2, 2)
    images[5] = images[0]
    arrays = Arrays(images, torch.arange(6) % 2, mean=(0.5,), std=(0.5,))
    pairs = TensorDataset(images / 12 - 1, torch.arange(6) % 2)
    loaded = Loaded(pairs, torch.arange(6) % 2, torch.arange(6))
    for data in (arrays, loaded):
        with pytest.raises(ValueError, match=r"other ids: 0 \(as 5\)\."):
            check_copies(Split.of(data, [0, 1]))
        check_copies(Split.of(data, [1, 2]))


def test_it_is_said_before_anything_is_done() -> None:
    here, data = gan_case(class_wise=False), copied([0], [30])
    with pytest.raises(ValueError, match="retained under other ids"):
        unlearn(Original(), here.original, Split.of(data, data.ids[:9]), here.run)
    unlearn(Original(), here.original, Split.of(data, data.ids[1:9]), here.run)


def test_it_is_quick() -> None:
    """60,000 images of MNIST's size: some tenths of a second of computing."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60_000, 1, 28, 28), generator=draw, dtype=torch.uint8)
    data = Arrays(images, torch.arange(60_000) % 10, mean=(0.5,), std=(0.5,))
    split = Split.of(data, torch.arange(256))
    start = time.process_time()
    check_copies(split)
    assert time.process_time() - start < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
def test_real_data_have_no_copies(name: str) -> None:
    """So that any of their images can be forgotten."""
    from oblivio.data.source import load

    if name != "digits" and not os.environ.get("OBLIVIO_DATA"):
        pytest.skip("OBLIVIO_DATA says where the data are")
    train: Any = load({"name": name}).train
    contents = [image.numpy().tobytes() for image in train.inputs]
    assert len(set(contents)) == len(train)
