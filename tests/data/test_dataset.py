"""Whatever the user has becomes data, or a sentence that says why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from oblivio import as_data
from oblivio.core import Data, Run, Split
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import Loaded, loaded
from oblivio.train import Recipe, fit
from worlds import tiny_network

X = torch.randn(11, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(11) % 3
LABELS = Y.tolist()


class Items(Dataset[Any]):
    """A map-style Dataset that keeps a list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        return self.items[position]


def pairs(labels: Any = LABELS, inputs: Any = X) -> Items:
    return Items(list(zip(inputs, labels, strict=True)))


SAME = {
    "tensors": (X, Y),
    "numpy": (X.numpy(), Y.numpy()),
    "tensor and numpy": (X, Y.numpy()),
    "int32": (X, Y.int()),
    "uint8 labels": (X, Y.byte()),
    "TensorDataset": TensorDataset(X, Y),
    "Dataset": pairs(),
    "Dataset of int32": pairs(labels=Y.int()),
    "Dataset of numpy int16": pairs(labels=Y.numpy().astype(np.int16)),
    "Data": Arrays(X, Y),
}


@pytest.mark.parametrize("kind", SAME)
def test_as_data_takes(kind: str) -> None:
    data = as_data(SAME[kind])
    assert isinstance(data, Data)
    assert len(data) == 11
    assert data.ids.tolist() == list(range(11))
    assert data.labels.dtype == torch.int64
    assert torch.equal(data.labels, Y)
    batches = list(data.batches(4))
    assert [len(b.labels) for b in batches] == [3, 4, 4]
    assert torch.equal(torch.cat([b.inputs for b in batches]), X)
    assert torch.equal(torch.cat([b.labels for b in batches]), Y)
    assert all(b.labels.dtype == torch.int64 and b.share == 1 for b in batches)


def test_as_data_keeps_data_and_its_ids() -> None:
    data = Arrays(X, Y, torch.arange(11) + 100)
    assert as_data(data) is data


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("examples", "error", "match"),
    [
        ((X, Y.float()), TypeError, "whole numbers"),
        ((X, Y > 0), TypeError, "whole numbers"),
        ((X, Y[:, None]), TypeError, "one whole number"),
        ((X, Y - 1), ValueError, "A label is -1"),
        ((X, Y[:5]), ValueError, "11 inputs, 5 labels"),
        ((X.clone().index_fill(0, torch.tensor([3, 5]), float("nan")), Y), ValueError, "2 of 11"),
        ((X.clone().index_fill(0, torch.tensor([3]), float("inf")), Y), ValueError, "has id 3"),
        ((X[:0], Y[:0]), ValueError, "no examples"),
        (Items([]), ValueError, "empty"),
        (pairs(labels=Y.float().tolist()), TypeError, "whole numbers"),
        (pairs(labels=(Y - 1).tolist()), ValueError, "A label is -1"),
        (
            pairs(inputs=X.clone().index_fill(0, torch.tensor([9]), float("nan"))),
            ValueError,
            "id 9",
        ),
        (Items([(Image.new("L", (8, 8)), 0)]), TypeError, "gives Image.*ToTensor"),
        (Items([X[0], X[1]]), TypeError, "must give .input, label."),
        (Items([(X[0], 0, 1)]), TypeError, "must give .input, label."),
        (3, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
        ("mnist", TypeError, "it gives str"),
    ],
)
def test_as_data_refuses(examples: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        as_data(examples)


def test_as_data_refuses_streams() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield X[0], 0

    with pytest.raises(TypeError, match="map-style Dataset"):
        as_data(Stream())


def test_a_bad_example_is_named_by_its_id_in_later_batches_too() -> None:
    inputs = torch.zeros(600, 2)
    inputs[517, 1] = float("nan")
    with pytest.raises(ValueError, match="has id 517"):
        loaded(pairs(labels=[0] * 600, inputs=inputs))


# --- A Dataset and tensors do the same ----------------------------------------------------------


def test_loaded_is_in_the_same_order_as_arrays() -> None:
    one, two = as_data(pairs()), as_data((X, Y))
    for part in ((0, 1), (0, 2), (1, 2)):
        a = list(one.batches(4, shuffle=7, part=part))
        b = list(two.batches(4, shuffle=7, part=part))
        for left, right in zip(a, b, strict=True):
            assert torch.equal(left.inputs, right.inputs)
            assert torch.equal(left.labels, right.labels)
            assert left.share == right.share


def test_loaded_ids_stay_with_the_examples_through_take_of_take() -> None:
    data = as_data(pairs()).take(torch.tensor([9, 4, 7, 0])).take(torch.tensor([2, 0]))
    assert isinstance(data, Loaded)
    assert data.ids.tolist() == [7, 9]
    assert data.labels.tolist() == Y[[7, 9]].tolist()
    (batch,) = data.batches(5)
    assert torch.equal(batch.inputs, X[[7, 9]])
    assert data.to(torch.device("cpu")) is data


def test_loaded_splits_and_trains_as_arrays_do() -> None:
    def trained(data: Data) -> Tensor:
        torch.manual_seed(0)
        model = tiny_network(3, (4,))
        split = Split.of(data, [1, 2])
        fit(model, split.retain, Recipe(epochs=2, batch_size=4), Run.on("cpu"))
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(trained(as_data(pairs(labels=Y.int()))), trained(as_data((X, Y))))


def test_reading_a_dataset_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    data = as_data(pairs())
    list(data.batches(4, shuffle=3))
    list(data.batches(4))
    assert torch.equal(before, torch.get_rng_state())


def test_loaded_with_workers_is_the_same() -> None:
    data = loaded(pairs(), workers=1)
    (batch,) = data.batches(11, shuffle=2)
    (expected,) = as_data((X, Y)).batches(11, shuffle=2)
    assert torch.equal(batch.inputs, expected.inputs)
