"""Records and models: whole or not at all, and damage is noticed."""

import pytest
import torch
from torch import nn

from oblivio.bench.store import Store, write_whole

KEY = "0123456789abcdef"


@pytest.fixture
def store(tmp_path):
    said = []
    made = Store(tmp_path / "results", warn=said.append)
    made.create()
    return made, said


def test_record_comes_back(store):
    store, said = store
    record = {"key": KEY, "status": "done", "metrics": {"ua": 1 / 3}}
    store.write_record(record)
    assert store.read_record(KEY) == record
    assert store.records() == [record]
    assert store.read_record("f" * 16) is None
    assert said == []


@pytest.mark.parametrize("damage", ["", "{", '{"key": "other", "status": "done"}', "[]", "\x00"])
def test_damaged_record_is_said_and_left_out(store, damage):
    store, said = store
    store.write_record({"key": KEY, "status": "done"})
    (store.folder / "records" / f"{KEY}.json").write_text(damage)
    assert store.read_record(KEY) is None
    assert len(said) == 1
    assert KEY in said[0]


def test_model_comes_back_bit_by_bit(store):
    store, said = store
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    store.write_model(KEY, model, {"seconds": 1.5})
    assert store.read_model(KEY, other)["seconds"] == 1.5
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    assert said == []


def test_tied_weights_are_kept(store):
    store, _ = store

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2, bias=False)
            self.b = nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

    model, other = Tied(), Tied()
    store.write_model(KEY, model, {})
    assert store.read_model(KEY, other) is not None
    assert torch.equal(other.b.weight, model.a.weight)


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "other network"])
def test_damaged_model_is_said_and_not_used(store, how):
    store, said = store
    store.write_model(KEY, nn.Linear(3, 2), {})
    path = store.folder / "models" / f"{KEY}.safetensors"
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[-1] ^= 1
    path.write_bytes({"truncated": content[:-4], "empty": b""}.get(how, bytes(content)))
    model = nn.Linear(4, 2) if how == "other network" else nn.Linear(3, 2)
    assert store.read_model(KEY, model) is None
    assert len(said) == 1


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="Cannot write to the folder"):
        Store(tmp_path / "file" / "inside").create()
