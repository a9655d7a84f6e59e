"""A compact file gives the weights back, is small, and is whole or refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import laws
from oblivio.compact import is_compact, load_compact, packed, save_compact, unpacked
from oblivio.core import Run
from oblivio.mask import Mask
from oblivio.models import factory, load_weights
from oblivio.prune.random import Random
from worlds import pictures


def network() -> nn.Module:
    torch.manual_seed(0)
    return factory({"name": "cnn", "channels": [8, 16], "hidden": 64}, (1, 8, 8), 3)()


def sparse_network(sparsity: float = 0.95) -> nn.Module:
    model = network()
    return Random(sparsity)(model, pictures(3), Run.on("cpu")).apply(model)


def assert_same_bits(found: Tensor, value: Tensor) -> None:
    """Every bit but the sign of zero: −0.0 + 0 is 0.0."""
    assert found.shape == value.shape
    assert found.dtype == value.dtype
    assert bits(found + 0) == bits(value + 0)


def bits(value: Tensor) -> list[int]:
    return list(value.contiguous().view(-1).view(torch.uint8).tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sparsity", [0.0, 0.95])
def test_round_trip(tmp_path: Path, dtype: torch.dtype, sparsity: float) -> None:
    model = sparse_network(sparsity).to(dtype)
    save_compact(model, tmp_path / "a.safetensors")
    state = load_compact(tmp_path / "a.safetensors")
    assert list(state) == list(model.state_dict())  # names in their order
    assert {v.dtype for v in state.values()} == {dtype, torch.int64}  # BatchNorm counts batches
    for name, value in model.state_dict().items():
        assert_same_bits(state[name], value)


def test_values_that_are_no_ordinary_numbers_come_back_and_minus_zero_is_zero() -> None:
    value = torch.zeros(5000)
    value[:5] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-45, -0.0])
    parts = packed(value)
    assert list(parts) == ["values", "places"]
    back = unpacked(parts, [5000])
    assert bits(back[:4]) == bits(value[:4])
    assert math.copysign(1, float(value[4])) == -1
    assert math.copysign(1, float(back[4])) == 1


@given(
    shape=st.lists(st.integers(0, 9), max_size=4),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_density_comes_back(shape: list[int], density: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    value = torch.randn(shape, generator=draw) * (torch.rand(shape, generator=draw) < density)
    parts = packed(value)
    assert sum(p.numel() * p.element_size() for p in parts.values()) <= 4 * value.numel()
    assert_same_bits(unpacked(parts, shape), value)
    wide = value.transpose(0, -1) if len(shape) > 1 else value  # not contiguous
    assert torch.equal(unpacked(packed(wide), list(wide.shape)), wide)


def test_it_is_small(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))
    Random(0.95)(model, pictures(3), Run.on("cpu")).apply(model)
    save_compact(model, tmp_path / "small")
    save_file(model.state_dict(), tmp_path / "dense")
    dense = os.path.getsize(tmp_path / "dense")
    assert os.path.getsize(tmp_path / "small") <= 0.1 * dense
    # A dense model takes hardly more than in the ordinary file.
    save_compact(network(), tmp_path / "full")
    save_file(network().state_dict(), tmp_path / "ordinary")
    more = os.path.getsize(tmp_path / "full") - os.path.getsize(tmp_path / "ordinary")
    assert more < 2000


class Tied(nn.Module):
    """Two layers share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(40, 40, bias=False), nn.Linear(40, 40, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("steps", torch.tensor([3, 0, 0, 0]))
        self.register_buffer("none", torch.zeros(0))
        self.register_buffer("nothing", torch.zeros(0))


@pytest.mark.parametrize("zero", [0, 1500])
def test_tied_weights_stand_once(tmp_path: Path, zero: int) -> None:
    model = Tied()
    with torch.no_grad():
        model.one.weight.view(-1)[:zero] = 0
    save_compact(model, tmp_path / "a")
    assert os.path.getsize(tmp_path / "a") < 1600 * 4 + 900 - 3 * zero
    state = load_compact(tmp_path / "a")
    laws.assert_same_state(state, model.state_dict())
    assert state["one.weight"].data_ptr() == state["two.weight"].data_ptr()
    other = Tied()
    other.load_state_dict(state)
    assert other.one.weight is other.two.weight


def test_a_masked_models_ordinary_file_is_read_by_anyone(tmp_path: Path) -> None:
    model = sparse_network()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    again = network()
    again.load_state_dict(load_file(tmp_path / "a.safetensors"))
    laws.assert_same_state(again.state_dict(), model.state_dict())
    kept, found = Mask.of(model).keep, Mask.of(again).keep
    assert all(torch.equal(kept[name], found[name]) for name in kept)
    assert not is_compact(tmp_path / "a.safetensors")


def test_load_weights_reads_it(tmp_path: Path) -> None:
    model = sparse_network()
    save_compact(model, tmp_path / "a.safetensors")
    assert is_compact(tmp_path / "a.safetensors")
    again = network()
    assert load_weights(again, tmp_path / "a.safetensors") is again
    assert not laws.differs(model, again)
    with pytest.raises(ValueError, match="does not fit the model"):
        load_weights(nn.Linear(2, 2), tmp_path / "a.safetensors")


def test_loading_does_not_touch_the_model_that_was_saved(tmp_path: Path) -> None:
    model = sparse_network()
    before = laws.snapshot(model)
    save_compact(model, tmp_path / "a")
    for value in load_compact(tmp_path / "a").values():
        value.zero_()
    laws.assert_same(before, laws.snapshot(model))


# --- What is refused ----------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_compact(tmp_path / "missing")


def test_foreign_files(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "ordinary", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not a compact one.*load_file"):
        load_compact(tmp_path / "ordinary")
    for content in (b"", b"not weights", bytes(range(256)) * 8):
        (tmp_path / "junk").write_bytes(content)
        with pytest.raises(ValueError, match="not a safetensors file"):
            load_compact(tmp_path / "junk")
        with pytest.raises(ValueError, match="not a safetensors file"):
            is_compact(tmp_path / "junk")


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    save_compact(sparse_network(), tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        (tmp_path / "a.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged"):
            load_compact(tmp_path / "a.safetensors")
        with pytest.raises(ValueError, match="cannot be read"):
            load_weights(network(), tmp_path / "a.safetensors")


VALUES, PLACES = torch.tensor([1.0, 2.0]), torch.tensor([0b10010000], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("tensors", "listed"),
    [
        ({"values:w": VALUES, "places:w": PLACES}, "[["),
        ({"values:w": VALUES, "places:w": PLACES}, "[3]"),
        ({"values:w": VALUES, "places:w": PLACES}, '[["w", [9]]]'),
        ({"values:w": VALUES, "places:w": PLACES}, '[["w", [3]]]'),  # a place after the end
        ({"values:w": VALUES, "places:w": PLACES}, '[["w", [-4]]]'),
        ({"values:w": VALUES, "places:w": PLACES}, '[["w", "v"]]'),
        ({"values:w": VALUES, "places:w": PLACES}, "[]"),
        ({"values:w": VALUES, "places:w": PLACES, "whole:v": PLACES.clone()}, '[["w", [4]]]'),
        ({"values:w": VALUES, "places:w": PLACES, "whole:w": PLACES.clone()}, '[["w", [4]]]'),
        ({"values:w": VALUES, "places:w": PLACES | 1}, '[["w", [8]]]'),
        ({"values:w": VALUES[None], "places:w": PLACES}, '[["w", [4]]]'),
        ({"values:w": VALUES, "places:w": PLACES.float()}, '[["w", [4]]]'),
        ({"values:w": VALUES}, '[["w", [4]]]'),
        ({"places:w": PLACES}, '[["w", [4]]]'),
        ({"whole:w": VALUES}, '[["w", [4]]]'),
        ({}, '[["w", [4]]]'),
    ],
)
def test_parts_that_do_not_belong_together(
    tmp_path: Path, tensors: dict[str, Tensor], listed: str
) -> None:
    save_file(tensors, tmp_path / "a", metadata={"oblivio.compact": listed})
    with pytest.raises(ValueError, match="damaged"):
        load_compact(tmp_path / "a")


def test_the_format_is_what_its_description_says(tmp_path: Path) -> None:
    save_file(
        {"values:w": VALUES, "places:w": PLACES},
        tmp_path / "a",
        metadata={"oblivio.compact": '[["w", [2, 2]], ["v", "w"]]'},
    )
    state = load_compact(tmp_path / "a")
    assert state["w"].tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert state["v"] is state["w"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_compact(network(), tmp_path / "a")
    before = (tmp_path / "a").read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save_compact(sparse_network(), tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == before
    with pytest.raises(FileNotFoundError):
        save_compact(network(), tmp_path / "no folder" / "a")
