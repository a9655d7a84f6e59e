"""Triggers and attacks: what they put where, on tensors and on Datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset

import worlds
from oblivio.catalogue import find, names, settings_of
from oblivio.core import Data
from oblivio.data import as_data
from oblivio.data.arrays import Arrays, Augment
from oblivio.data.attack import Attack
from oblivio.data.triggers import trigger_of, written_out
from oblivio.data.triggers.blend import Blend
from oblivio.data.triggers.patch import Patch, Place

PLACES: tuple[Place, ...] = ("top left", "top right", "bottom left", "bottom right", "centre")


def images(n: int = 4, dtype: torch.dtype = torch.float32, shape: Any = (2, 5, 7)) -> Tensor:
    drawn = torch.rand(n, *shape, generator=torch.Generator().manual_seed(3))
    return (drawn if dtype.is_floating_point else 255 * drawn).to(dtype)


def black_and_white(x: Tensor, share: float = 0.5) -> Tensor:
    """A user's own trigger."""
    return torch.where(x > share, torch.ones_like(x), torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize("name", names("triggers"))
def test_every_trigger_obeys(name: str, dtype: torch.dtype) -> None:
    """It keeps shape and type, leaves its input alone, and treats every image by itself."""
    trigger, x = find("triggers", name)(), images(dtype=dtype)
    before = x.clone()
    stamped = trigger(x)
    assert torch.equal(x, before)
    assert (stamped.shape, stamped.dtype) == (x.shape, dtype)
    assert not torch.equal(stamped, x)
    assert all(torch.equal(trigger(x[i : i + 1])[0], stamped[i]) for i in range(len(x)))
    assert torch.equal(trigger(x), stamped)
    assert trigger_of({"name": name, **settings_of(trigger)}) == trigger


@given(
    size=st.integers(1, 5),
    margin=st.integers(0, 3),
    place=st.sampled_from(PLACES),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
)
def test_a_patch_is_where_a_loop_puts_it(
    size: int, margin: int, place: Place, height: int, width: int
) -> None:
    patch, x = Patch(size, place, margin, 0.25), images(2, shape=(3, height, width))
    if size + margin > min(height, width):
        with pytest.raises(ValueError, match=f"does not fit images of {height}×{width}"):
            patch(x)
        return
    top = {"top": margin, "bott": height - margin - size, "cent": (height - size) // 2}
    left = {"left": margin, "ight": width - margin - size, "ntre": (width - size) // 2}
    expected = x.clone()
    for row in range(height):
        for column in range(width):
            down, right = row - top[place[:4].strip()], column - left[place[-4:]]
            if 0 <= down < size and 0 <= right < size:
                expected[:, :, row, column] = 0.25
    assert torch.equal(patch(x), expected)


def test_a_patch_on_bytes_takes_its_share_of_255() -> None:
    assert Patch(5, value=0.5)(images(1, torch.uint8, (1, 5, 5))).unique().tolist() == [128]
    with pytest.raises(ValueError, match="Bytes cannot be as bright as 2"):
        Patch(value=2.0)(images(1, torch.uint8))


@given(strength=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_a_blend_is_a_mean_of_image_and_pattern(strength: float, seed: int) -> None:
    blend, x = Blend(strength, seed), images()
    stamped, pattern = blend(x), Blend(1.0, seed)(x)
    assert torch.equal(pattern[0], pattern[1])
    assert torch.allclose(stamped, (1 - strength) * x + strength * pattern, atol=1e-6)
    of_bytes = blend((255 * x).round().to(torch.uint8))
    assert float((of_bytes.float() / 255 - stamped).abs().max()) <= 1.01 / 255


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Patch(size=0), "size = 0 must be 1 or more"),
        (lambda: Patch(margin=-1), "margin = -1"),
        (lambda: Patch(value=float("nan")), "finite"),
        (lambda: Patch(place="bottom"), "no place 'bottom'"),  # pyright: ignore[reportArgumentType]
        (lambda: Blend(strength=0.0), "above 0"),
        (lambda: Blend(strength=1.5), "at most 1"),
        (lambda: Attack(Patch(), -1), "target -1"),
        (lambda: trigger_of({"size": 3}), "A trigger needs a name: one of blend, patch"),
        (lambda: trigger_of({"name": "path"}), r"'path'\. Did you mean patch"),
        (lambda: trigger_of({"name": "patch", "sise": 3}), "Did you mean size"),
    ],
)
def test_rejects(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_a_trigger_of_ones_own() -> None:
    name = f"{__name__}:black_and_white"
    own = trigger_of({"name": name, "share": 0.7})
    assert torch.equal(own(images()), black_and_white(images(), 0.7))
    assert trigger_of({"name": f"{Patch.__module__}:Patch", "size": 2}) == Patch(2)
    assert written_out({"name": name}) == {"name": name}
    assert written_out({"name": "patch", "size": 2}) == {"name": "patch", **settings_of(Patch(2))}


# --- On data ------------------------------------------------------------------------------------


class Pictures(Dataset[Any]):
    """Items of a Dataset that transforms its images itself."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.x[position], int(self.y[position])


ATTACK = Attack(Patch(size=2), target=1)


@pytest.mark.parametrize("kind", ["arrays", "loaded"])
def test_an_attack_changes_the_chosen_and_no_others(kind: str) -> None:
    clean = worlds.pictures(12)
    inputs, labels = clean.inputs.clone(), clean.labels.clone()
    data: Data = clean if kind == "arrays" else as_data(Pictures(inputs, labels))
    chosen = torch.tensor([7, 2, 5])
    poisoned = ATTACK.on(data, chosen)
    assert type(poisoned) is type(data)
    assert torch.equal(poisoned.ids, data.ids)
    (batch,) = poisoned.batches(12)
    assert torch.equal(batch.labels, poisoned.labels)
    for row in range(12):
        hit = row in chosen
        expected = ATTACK.trigger(inputs[row][None])[0] if hit else inputs[row]
        assert torch.equal(batch.inputs[row], expected)
        assert int(batch.labels[row]) == (1 if hit else int(labels[row]))
    assert torch.equal(clean.inputs, inputs)
    assert torch.equal(data.labels, labels)
    # A part of it, in another order, is poisoned likewise.
    part = poisoned.take(torch.tensor([5, 0]))
    (some,) = part.batches(2)
    assert torch.equal(some.inputs, batch.inputs[[5, 0]])
    assert part.labels.tolist() == batch.labels[[5, 0]].tolist()
    (every,) = ATTACK(data).batches(12)
    assert torch.equal(every.inputs, ATTACK.trigger(inputs))
    assert bool((every.labels == 1).all())


def test_the_trigger_goes_on_raw_pixels_before_augmentation_and_normalisation() -> None:
    """Black pictures with a white pixel: normalised it stays the brightest, and it is flipped."""
    black = Arrays(torch.zeros(64, 1, 4, 4, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
    black = replace(black, augment=Augment(flip=True), mean=(0.5,), std=(0.25,))
    poisoned = Attack(Patch(size=1), 1)(black)
    (batch,) = poisoned.batches(64, shuffle=0, augment=True)
    assert sorted(batch.inputs.unique().tolist()) == pytest.approx([-2.0, 2.0])
    right, left = batch.inputs[:, 0, 3, 3] > 0, batch.inputs[:, 0, 3, 0] > 0
    assert bool((right ^ left).all())
    assert 10 < int(left.sum()) < 54


def test_a_dataset_is_poisoned_by_workers_too() -> None:
    clean = worlds.pictures(5)
    data = as_data(Pictures(clean.inputs, clean.labels))
    poisoned = replace(ATTACK.on(data, torch.tensor([1])), workers=1)  # pyright: ignore
    (batch,) = poisoned.batches(5)
    assert torch.equal(batch.inputs[1:2], ATTACK.trigger(clean.inputs[1:2]))


class Foreign:
    """Data of a class of the user's own."""

    def __init__(self, data: Arrays) -> None:
        self.data, self.labels, self.ids = data, data.labels, data.ids

    def __len__(self) -> int:
        return len(self.data)


@pytest.mark.usefixtures("unchecked")
def test_an_attack_says_what_it_cannot_do() -> None:
    vectors = Arrays(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"4\) have|these inputs have 2 dimensions, \(3, 4\)"):
        ATTACK(vectors)
    with pytest.raises(ValueError, match="must keep shape and type of the images"):
        Attack(lambda x: x[..., :2], 0)(worlds.pictures(3))
    with pytest.raises(ValueError, match="must keep shape and type of the images"):
        Attack(lambda x: x.double(), 0)(worlds.pictures(3))
    with pytest.raises(TypeError, match="not on Foreign"):
        ATTACK(Foreign(worlds.pictures(3)))  # pyright: ignore[reportArgumentType]
