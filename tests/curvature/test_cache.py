"""What is kept over all of the data gives a request's diagonals, or is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import laws
import worlds
from oblivio.core import Batch, Note, Origin, Run, Split, unlearn
from oblivio.curvature import cache
from oblivio.curvature.cache import Unfit, data_digest, diagonals, find, keep, place
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import Loaded

KINDS = get_args(cache.Kind)
N = 60


def network(seed: int = 0) -> nn.Module:
    """In float64, with a convolution and BatchNorm's own statistics."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
    )
    model.double()(worlds.pictures(N, 3, (1, 6, 6), dtype=torch.float64).inputs)
    return model.eval()


def examples(n: int = N) -> Arrays:
    return worlds.pictures(n, 3, (1, 6, 6), dtype=torch.float64)


def shuffled(data: Arrays, seed: int) -> Arrays:
    return data.take(torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.on("cpu", beside=tmp_path / "net.of.mine.safetensors")


def assert_near(one: dict[str, Tensor], two: dict[str, Tensor], scale: dict[str, Tensor]) -> None:
    """To 1e-10 of each parameter's largest number over the whole."""
    assert list(one) == list(two)
    for name in one:
        assert one[name].dtype == torch.float64
        worst = float((one[name] - two[name]).abs().max())
        assert worst <= 1e-10 * float(scale[name].max()), name


# --- It is right ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_subtraction_gives_what_a_pass_over_the_retain_set_gives(run: Run, kind: Any) -> None:
    """Several sizes of D_f, down to one example and up to all but one, in other orders."""
    model, data = network(), examples()
    keep(model, data, run, kind)
    for seed, count in enumerate((1, 7, 30, 59)):
        train = shuffled(data, seed)
        split = Split.of(train, train.ids[:count])
        split = Split(split.forget, shuffled(split.retain, seed + 10))
        kept, slow = (
            diagonals(model, split, run, kind),
            diagonals(model, split, replace(run, beside=None), kind),
        )
        for one, two in zip(kept, slow, strict=True):
            assert_near(one, two, slow.whole)
        assert all(bool((value >= 0).all()) for part in kept for value in part.values())


def test_kinds_differ(run: Run) -> None:
    model, data = network(), examples()
    found = {k: cache._measured(model, data, run, k)["4.weight"] for k in KINDS}
    for one, two in (("data", "model"), ("data", "outputs"), ("model", "outputs")):
        assert not torch.allclose(found[one], found[two], rtol=0.05)
    assert len({keep(model, data, run, kind) for kind in KINDS}) == 3


def test_rounding_never_makes_a_diagonal_negative(run: Run) -> None:
    """Only D_f moves these weights: the difference of two equal sums is 0 up to its rounding."""
    model, data = nn.Linear(4, 3).double(), examples().take(torch.arange(N))
    inputs = data.inputs.flatten(1)[:, :4].clone()
    inputs[:, 2] *= torch.arange(N) < 7
    data = Arrays(inputs, data.labels, data.ids)
    keep(model, data, run)
    retain = diagonals(model, Split.of(data, data.ids[:7]), run).retain["weight"]
    assert bool((retain >= 0).all())
    assert float(retain[:, 2].max()) < 1e-15
    assert float(retain[:, 0].min()) > 1e-3


def test_the_file_stands_beside_the_weights_and_holds_means(run: Run) -> None:
    model, data = network(), examples()
    path = keep(model, data, run)
    assert run.beside is not None
    assert path == run.beside.parent / "net.of.mine.fisher-data.safetensors"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[cache.KEY])
        means = {name: file.get_tensor(name) for name in file.keys()}  # ruff: ignore[in-dict-keys]
    assert (about["n"], about["kind"], about["seed"], about["format"]) == (N, "data", 0, 1)
    expected = cache.diagonal(model, data)
    assert_near({name: means[name] for name in expected}, expected, expected)


def test_the_first_request_keeps_and_the_second_reads(run: Run) -> None:
    """Only the second says what was prepared."""
    model, data, notes = network(), examples(), []
    run = replace(run, tell=notes.append)
    split = Split.of(data, data.ids[:7])
    first = diagonals(model, split, run)
    assert notes == []
    before = place(run, "data").stat().st_mtime_ns
    second = diagonals(model, split, run)
    for one, two in zip(first, second, strict=True):
        assert_near(one, two, first.whole)
    assert keep(model, data, run) == place(run, "data")
    assert place(run, "data").stat().st_mtime_ns == before
    (note,) = notes
    assert isinstance(note, Note)
    assert note.name == "prepared_seconds"
    assert 0 < float(str(note.value)) < 60


def test_without_a_place_nothing_is_kept(run: Run, tmp_path: Path) -> None:
    model, data = network(), examples()
    nowhere = replace(run, beside=None)
    diagonals(model, Split.of(data, data.ids[:7]), nowhere)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="say where they stand"):
        keep(model, data, nowhere)


def test_a_model_that_is_made_anew_has_no_diagonal_beside_it(run: Run) -> None:
    seen: list[Run] = []

    def train(model: nn.Module, _: object, own: Run) -> nn.Module:
        seen.append(own)
        return model

    Origin(network, train).make(examples(), run)
    assert seen[0].beside is None


@pytest.mark.parametrize("kind", KINDS)
def test_model_and_random_state_stay(run: Run, kind: Any) -> None:
    model, data = network().train(), examples()
    before = laws.snapshot(model)
    with laws.untouched_randomness():
        keep(model, data, run, kind)
        diagonals(model, Split.of(data, data.ids[:7]), run, kind)
    laws.assert_same(before, laws.snapshot(model))


def test_frozen_and_tied_weights(run: Run) -> None:
    model, data = network(), examples()
    model.get_parameter("0.weight").requires_grad_(False)
    model.append(nn.Linear(3, 3).double()).append(nn.Linear(3, 3).double())
    model[6].weight = model[5].weight  # pyright: ignore
    keep(model, data, run)
    found = diagonals(model, Split.of(data, data.ids[:7]), run)
    assert "0.weight" not in found.whole
    assert "6.weight" not in found.whole
    assert list(found.retain) == list(found.whole) == list(found.forget)


# --- What a request reads ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Counted:
    """Arrays that remember which examples' inputs were asked for, in order."""

    data: Arrays
    read: list[int] = field(default_factory=list)

    @property
    def ids(self) -> Tensor:
        return self.data.ids

    @property
    def labels(self) -> Tensor:
        return self.data.labels

    def __len__(self) -> int:
        return len(self.data)

    def take(self, positions: Tensor) -> Counted:
        return Counted(self.data.take(positions), self.read)

    def to(self, device: torch.device) -> Counted:
        return Counted(self.data.to(device), self.read)

    def batches(self, size: int, **options: Any) -> Iterator[Batch]:
        start = 0
        for batch in self.data.batches(size, **options):
            self.read.extend(self.ids[start : start + len(batch.labels)].tolist())
            start += len(batch.labels)
            yield batch


def test_a_request_reads_the_forget_set_and_32_examples_at_most(run: Run) -> None:
    model, data = network(), examples(300)
    keep(model, data, run)
    plain = Split.of(data, data.ids[50:60])
    alone = Counted(plain.forget)
    cache.diagonal(model, alone)
    split = Split(Counted(plain.forget), Counted(plain.retain))
    diagonals(model, split, run)
    forget, retain = split.forget.read, split.retain.read  # pyright: ignore
    assert len(set(retain)) == len(retain) <= cache.LOOKED_AT
    looked = cache.LOOKED_AT - len(retain)  # the others are in D_f
    assert sorted(set(forget)) == sorted(plain.forget.ids.tolist())
    assert len(forget) == len(alone.read) + looked


# --- What does not belong is refused ------------------------------------------------------------


def one_step(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    nn.functional.cross_entropy(model(data.inputs), data.labels).backward()
    torch.optim.SGD(model.parameters(), 1e-6).step()
    return model, data


def other_statistics(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    model.get_buffer("1.running_mean").add_(1e-6)
    return model, data


def another_type(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    return model.float(), replace(data, inputs=data.inputs.float())


def one_id(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    """To one that was free: neither the order nor an example that is looked at changes."""
    return model, replace(data, ids=data.ids + (torch.arange(N) == 21))


def two_labels(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    labels = data.labels.clone()
    labels[[20, 21]] = labels[[21, 20]]
    assert not torch.equal(labels, data.labels)
    return model, replace(data, labels=labels)


def an_input(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    inputs = data.inputs.clone()
    inputs[data.ids.argmin()] += 1e-9  # the smallest id is always looked at
    return model, replace(data, inputs=inputs)


def one_less(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    return model, data.take(torch.arange(N - 1))


def frozen(model: nn.Module, data: Arrays) -> tuple[nn.Module, Arrays]:
    model.get_parameter("4.bias").requires_grad_(False)
    return model, data


Change = Callable[[nn.Module, Arrays], tuple[nn.Module, Arrays]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_step, "here: the weights differ. Delete"),
        (other_statistics, "here: the weights differ. Delete"),
        (another_type, "the weights differ"),
        (one_id, "here: the training data differ"),
        (two_labels, "here: the training data differ"),
        (an_input, "here: the training data differ"),
        (one_less, "its n is 60, not 59; the training data differ"),
        (frozen, "4.bias is not in the model or frozen in it"),
    ],
)
def test_a_stale_file_is_refused_and_stays(run: Run, change: Change, said: str) -> None:
    model, data = network(), examples()
    before = keep(model, data, run).read_bytes()
    model, data = change(model, data)
    split = Split.of(data, data.ids[:7])
    with pytest.raises(Unfit, match=said) as refusal:
        diagonals(model, split, run)
    assert "Delete it, or run `oblivio fisher` again" in str(refusal.value)
    with pytest.raises(Unfit, match=said):
        keep(model, data, run)
    assert place(run, "data").read_bytes() == before


def rewritten(path: Path, values: Callable[[Any], Any], about: Callable[[Any], Any]) -> None:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # ruff: ignore[in-dict-keys]
        said = json.loads(file.metadata()[cache.KEY])
    tensors = values(tensors)
    said = about({**said, "values": cache.weights_digest(tensors)})
    save_file(tensors, path, metadata={cache.KEY: json.dumps(said)})


def same(thing: Any) -> Any:
    return thing


@pytest.mark.parametrize(
    ("values", "about", "said"),
    [
        (same, lambda a: {**a, "format": 2}, "its format is 2, not 1"),
        (same, lambda a: {**a, "kind": "model"}, "its kind is 'model', not 'data'"),
        (same, lambda a: {**a, "seed": 1}, "its seed is 1, not 0"),
        (same, lambda a: {**a, "n": None}, "its n is None, not 60"),
        (same, lambda _: {}, "its format is None"),
        (same, lambda _: 7, "holds no diagonal"),
        (same, lambda a: {**a, "values": "0"}, "numbers cannot be right"),
        (lambda v: {k: v[k] for k in list(v)[1:]}, same, "0.bias is not in the file"),
        (lambda v: {**v, "9.weight": v["4.bias"].clone()}, same, "9.weight is not in the model"),
        (lambda v: {**v, "4.bias": v["4.bias"] * torch.nan}, same, "numbers cannot be right"),
        (lambda v: {**v, "4.bias": v["4.bias"] / 0}, same, "numbers cannot be right"),
        (lambda v: {**v, "4.bias": -v["4.bias"]}, same, "numbers cannot be right"),
        (lambda v: {**v, "4.bias": v["4.bias"][:2]}, same, "numbers cannot be right"),
        (lambda v: {k: x.float() for k, x in v.items()}, same, "numbers cannot be right"),
    ],
)
def test_a_foreign_file_is_refused(run: Run, values: Any, about: Any, said: str) -> None:
    model, data = network(), examples()
    rewritten(keep(model, data, run), same, same)
    assert find(model, [data], run, "data") is not None
    rewritten(place(run, "data"), values, about)
    with pytest.raises(Unfit, match=said):
        diagonals(model, Split.of(data, data.ids[:7]), run)


@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "folder", "plain weights"])
def test_a_damaged_file_is_refused(run: Run, how: str) -> None:
    model, data = network(), examples()
    path = keep(model, data, run)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    if how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "plain weights":
        save_file({n: v.clone() for n, v in model.state_dict().items()}, path)
    else:
        path.write_bytes({"cut": content[:-9], "empty": b"", "flipped": content}[how])
    with pytest.raises(Unfit, match="damaged"):
        diagonals(model, Split.of(data, data.ids[:7]), run)


def test_a_file_of_another_kind_is_not_taken_for_this_one(run: Run) -> None:
    model, data = network(), examples()
    keep(model, data, run, "model").rename(place(run, "data"))
    with pytest.raises(Unfit, match="kind is 'model', not 'data'"):
        keep(model, data, run, "data")


def test_what_is_not_finite_is_not_kept(run: Run) -> None:
    model, data = network(), examples()
    with torch.no_grad():
        model.get_parameter("4.weight").fill_(1e200)
    with pytest.raises(FloatingPointError, match="not finite"):
        keep(model, data, run)
    assert not place(run, "data").exists()


def test_a_kind_that_does_not_exist(run: Run, unchecked: None) -> None:
    model, data = network(), examples()
    for own in (run, replace(run, beside=None)):
        with pytest.raises(ValueError, match="Did you mean data"):
            diagonals(model, Split.of(data, data.ids[:7]), own, "date")  # pyright: ignore
    with pytest.raises(ValueError, match="Did you mean model"):
        keep(model, data, run, "modell")  # pyright: ignore


# --- The fingerprint of data ---------------------------------------------------------------------


def test_the_fingerprint_knows_neither_order_nor_parts_nor_kind_of_data() -> None:
    data = examples(100)
    whole = data_digest([data])
    for seed in range(3):
        other = shuffled(data, seed)
        one, two = other.take(torch.arange(30)), other.take(torch.arange(30, 100))
        assert data_digest([other]) == data_digest([one, two]) == data_digest([two, one]) == whole
    pairs = TensorDataset(data.inputs, data.labels)
    assert data_digest([Loaded(pairs, data.labels, data.ids)]) == whole
    assert data_digest([data.take(torch.arange(99))]) != whole
    assert data_digest([examples(3)]) != data_digest([examples(2)])


def test_the_fingerprint_looks_at_inputs_all_over_the_data() -> None:
    data, whole = examples(100), data_digest([examples(100)])
    seen = []
    for row in range(100):
        inputs = data.inputs.clone()
        inputs[row] += 1
        seen.append(data_digest([replace(data, inputs=inputs)]) != whole)
    assert sum(seen) == cache.LOOKED_AT
    assert all(any(seen[row : row + 5]) for row in range(95))
    few = examples(5)
    changed = replace(few, inputs=few.inputs * (1 + 1e-12))
    assert data_digest([changed]) != data_digest([few])


def test_through_the_door_the_copy_is_the_model_of_the_file(run: Run) -> None:
    """`unlearn` hands a method a copy on the device: its weights have the same fingerprint."""

    class Ask:
        reads = frozenset({"forget", "retain"})

        def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
            diagonals(model, split, run)
            return model

    model, data = network(), examples()
    keep(copy.deepcopy(model), data, run)
    outcome = unlearn(Ask(), model, Split.of(data, data.ids[:7]), run)
    assert set(outcome.notes) == {"prepared_seconds"}
