"""The judge knows what images show, and owes nothing to the run that asks for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import gan_worlds
import laws
from oblivio.core import Data, Run, Split
from oblivio.data.arrays import Arrays, Augment
from oblivio.data.dataset import Loaded
from oblivio.judge import Judge, judge, whole
from oblivio.mask import Mask
from oblivio.train import Recipe, fit

RUN = Run.on("cpu")
TRAIN, TEST = gan_worlds.pictures(120, seed=1), gan_worlds.pictures(60, seed=2)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept in the process."""
    monkeypatch.setattr("oblivio.judge._made", {})


def weights(judge: Judge) -> dict[str, torch.Tensor]:
    return dict(judge.model.state_dict())


def test_it_knows_what_it_has_never_seen() -> None:
    for role in ("report", "method"):
        found = judge(TRAIN, RUN, role)
        assert float((found.classes_of(TEST.inputs) == TEST.labels).double().mean()) > 0.9
        assert 80 < found.accuracy <= 100
        assert found.classes == 3


def test_the_two_judges_have_nothing_in_common() -> None:
    report, method = judge(TRAIN, RUN, "report"), judge(TRAIN, RUN, "method")
    assert report.digest != method.digest
    assert report.features(TEST.inputs).shape == (60, 128)
    assert method.features(TEST.inputs).shape == (60, 64)


@pytest.mark.usefixtures("forgetful")
def test_it_depends_on_nothing_but_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on seed, mask, order, augmentation and way of storage, nor on what is random."""
    found = []
    turned = TRAIN.take(torch.arange(len(TRAIN)).flip(0))
    augmented = replace(TRAIN, augment=Augment(crop=2, flip=True))
    for n, data in enumerate((TRAIN, turned, augmented)):
        monkeypatch.setattr("oblivio.judge._made", {})
        run = Run.on("cpu", seed=n, mask=Mask({"0.weight": torch.zeros(3, dtype=torch.bool)}))
        with laws.random_state(n), laws.untouched_randomness():
            found.append(judge(data, run, "method"))
    assert len({one.digest for one in found}) == 1
    for other in found[1:]:
        laws.assert_same_state(weights(found[0]), weights(other))


def test_the_parts_of_any_split_have_one_judge() -> None:
    one, two = (Split.of(TRAIN, TRAIN.ids[rows]) for rows in (torch.arange(9), torch.arange(9, 50)))
    together = whole(one.forget, one.retain)
    assert torch.equal(together.ids, TRAIN.ids.sort().values)
    assert torch.equal(together.inputs, TRAIN.take(TRAIN.ids.argsort()).inputs)
    assert judge(together, RUN, "method") is judge(whole(two.forget, two.retain), RUN, "method")
    assert judge(together, RUN, "method") is judge(TRAIN, RUN, "method")


def test_data_of_any_kind_are_gathered() -> None:
    """A Dataset gives what the network sees; so do tensors that are held differently."""
    images = torch.arange(4 * 4).view(4, 1, 2, 2) / 8 - 1
    dataset = TensorDataset(images, torch.arange(4))
    loaded = Loaded(dataset, torch.arange(4), torch.tensor([3, 1, 2, 0]))
    found = whole(loaded)
    assert torch.equal(found.ids, torch.arange(4))
    assert torch.equal(found.inputs, images[[3, 1, 2, 0]])
    assert found.labels.tolist() == [3, 1, 2, 0]
    pixels = torch.full((2, 1, 2, 2), 255, dtype=torch.uint8)
    others = Arrays(pixels, torch.tensor([0, 1]), torch.tensor([8, 9]), mean=(0.5,), std=(0.5,))
    found = whole(others, loaded)
    assert found.labels.tolist() == [3, 1, 2, 0, 0, 1]
    assert torch.allclose(found.inputs[4:], torch.ones(2, 1, 2, 2))
    assert whole(others).inputs.dtype == torch.uint8


def test_it_hears_of_every_change() -> None:
    """Of a pixel, a label and an id."""
    digests = {judge(TRAIN, RUN, "method").digest}
    inputs, labels, ids = TRAIN.inputs.clone(), TRAIN.labels.clone(), TRAIN.ids.clone()
    inputs[-1, 0, 0, 0] += 0.01
    labels[0] = 1
    ids[0] += 1
    for change in ({"inputs": inputs}, {"labels": labels}, {"ids": ids}):
        digests.add(judge(replace(TRAIN, **change), RUN, "method").digest)  # pyright: ignore
    assert len(digests) == 4


def test_features_lead_to_classes_whatever_the_batch() -> None:
    own = judge(TRAIN, RUN, "method")
    full, small = own.features(TEST.inputs), own.features(TEST.inputs, batch_size=7)
    assert full.dtype == torch.float32
    assert torch.allclose(full, small, atol=1e-5)
    with torch.no_grad():
        direct = own.model(TEST.inputs)
        assert torch.allclose(own.model[-1](full), direct, atol=1e-5)
    assert torch.equal(own.called(full), direct.argmax(1))
    assert torch.equal(own.classes_of(TEST.inputs, batch_size=7), direct.argmax(1))
    assert own.features(TEST.inputs[:0]).shape == (0, 64)
    assert not own.model.training
    assert not any(p.requires_grad for p in own.model.parameters())


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[Arrays]:
    """What each judge is trained on, of which it learns nothing."""
    seen: list[Arrays] = []

    def learns_nothing(model: nn.Module, data: Arrays, recipe: Recipe, run: Run) -> nn.Module:
        seen.append(data)
        return fit(model, data, replace(recipe, epochs=0), run)

    monkeypatch.setattr("oblivio.judge.fit", learns_nothing)
    return seen


@pytest.mark.usefixtures("forgetful")
def test_a_tenth_of_every_class_is_held_out(taught: list[Arrays]) -> None:
    """By which it is judged itself."""
    found = judge(TRAIN, RUN, "method")
    assert taught[0].labels.bincount().tolist() == [36, 36, 36]
    held = TRAIN.take(torch.where(~torch.isin(TRAIN.ids, taught[0].ids))[0])
    right = found.classes_of(held.inputs) == held.labels
    assert found.accuracy == pytest.approx(100 * float(right.double().mean()))
    assert found.accuracy < 60


@pytest.mark.usefixtures("forgetful")
def test_no_class_is_held_out_whole(taught: list[Arrays]) -> None:
    """A class of one image is learned, whichever it is, and the others are held out as ever."""
    for place in range(len(TRAIN)):
        labels = TRAIN.labels.clone()
        labels[place] = 3
        judge(replace(TRAIN, labels=labels), RUN, "method")
        assert taught[-1].labels.bincount().tolist()[3] == 1
        assert len(taught[-1]) < 0.93 * len(TRAIN)


@pytest.mark.usefixtures("forgetful")
def test_judges_of_other_precision_are_others() -> None:
    rough = Run.on("cpu", precision="bf16-mixed")
    one, other = judge(TRAIN, RUN, "method"), judge(TRAIN, rough, "method")
    assert one.digest != other.digest
    assert judge(TRAIN, RUN, "method") is one


@pytest.mark.usefixtures("forgetful")
def test_it_learns_for_longer_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels without rhyme or reason take it twice; those that it knows, once."""
    lengths: list[int] = []

    def counted(model: nn.Module, data: Data, recipe: Recipe, run: Run) -> nn.Module:
        lengths.append(recipe.epochs)
        return fit(model, data, replace(recipe, epochs=min(recipe.epochs, 2)), run)

    monkeypatch.setattr("oblivio.judge.fit", counted)
    monkeypatch.setattr("oblivio.judge.STEPS", 6)
    monkeypatch.setattr("oblivio.judge.LONGER", 10)
    draw = torch.Generator().manual_seed(0)
    senseless = replace(TRAIN, labels=TRAIN.labels[torch.randperm(120, generator=draw)])
    judge(senseless, RUN, "method")
    assert lengths == [3, 5]
    lengths.clear()
    monkeypatch.setattr("oblivio.judge.GOOD", 0.0)
    judge(TRAIN, RUN, "method")
    assert lengths == [3]


# --- On the disk --------------------------------------------------------------------------------


@pytest.mark.usefixtures("forgetful")
def test_it_is_kept_beside_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = replace(RUN, beside=tmp_path / "gan.safetensors")
    made = judge(TRAIN, run, "method")
    assert [p.name for p in tmp_path.iterdir()] == [f"judge-method.{made.digest}.safetensors"]
    monkeypatch.setattr("oblivio.judge._made", {})
    with monkeypatch.context() as patch:
        patch.setattr("oblivio.judge.fit", None)  # it is not trained again
        read = judge(TRAIN, run, "method")
    assert read is not made
    assert (read.accuracy, read.digest) == (made.accuracy, made.digest)
    laws.assert_same_state(weights(made), weights(read))
    assert torch.equal(made.features(TEST.inputs), read.features(TEST.inputs))


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("what", ["cut", "changed", "other"])
def test_a_damaged_file_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run = replace(RUN, beside=tmp_path / "gan.safetensors")
    made = judge(TRAIN, run, "method")
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    bad = {"cut": good[:-9], "changed": good[:-1] + bytes([good[-1] ^ 1]), "other": b"{}"}[what]
    path.write_bytes(bad)
    monkeypatch.setattr("oblivio.judge._made", {})
    laws.assert_same_state(weights(made), weights(judge(TRAIN, run, "method")))
    assert path.read_bytes() == good


# --- What cannot be judged ----------------------------------------------------------------------


def test_one_class_cannot_be_judged() -> None:
    alone = TRAIN.take(torch.where(TRAIN.labels == 1)[0])
    with pytest.raises(ValueError, match="All 40 images have label 1, so there is nothing"):
        judge(alone, RUN, "report")


@pytest.mark.usefixtures("unchecked")
def test_there_are_two_roles() -> None:
    with pytest.raises(ValueError, match="reporter"):
        judge(TRAIN, RUN, "reporter")  # pyright: ignore[reportArgumentType]


def test_what_is_no_image_cannot_be_judged() -> None:
    flat = replace(TRAIN, inputs=TRAIN.inputs.flatten(1))
    with pytest.raises(ValueError, match="A CNN takes images"):
        judge(flat, RUN, "report")
