"""A folder of results: records as JSON, models as safetensors, each written whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from oblivio.files import weights_digest, write_whole

Record = dict[str, Any]


def _quiet(_: str) -> None:
    """Hear a warning and do nothing."""


@dataclass(frozen=True)
class Store:
    """The folder of an experiment: `experiment.toml`, `records/`, `models/`, `report.html`.

    Two processes may share it: every file is written beside its place and then moved there, which
    is one operation, and equal keys mean equal contents.

    Args:
        folder: Where.
        shared: A folder of models that several experiments share; None is `models` in `folder`.
        warn: Hears one sentence for everything that is damaged.
        kind: The subfolder of the records: `records` of cells, `evidence` of many shadow models.
    """

    folder: Path
    shared: Path | None = None
    warn: Callable[[str], None] = field(default=_quiet, compare=False)
    kind: str = "records"

    @property
    def evidence(self) -> Store:
        """The same folder's records of shadow models."""
        return replace(self, kind="evidence")

    @property
    def models(self) -> Path:
        """The folder of weights."""
        return self.shared or self.folder / "models"

    def create(self) -> None:
        """Make the folder.

        Raises:
            PermissionError: If it cannot be made or written to.
        """
        try:
            for part in (self.folder / self.kind, self.models):
                part.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=part).close()
        except OSError as error:
            raise PermissionError(
                f"Cannot write to the folder {self.folder} ({error.strerror}): "
                f"name another with --out."
            ) from error

    def write_record(self, record: Record) -> None:
        """Put a record in its place."""
        text = json.dumps(record, indent=1, ensure_ascii=False, default=str)
        write_whole(self._record(record["key"]), text.encode())

    def read_record(self, key: str) -> Record | None:
        """The record of this key, unless there is none or it is damaged (which is said).

        Returns:
            The record or None.
        """
        path = self._record(key)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["key"] == key and record["status"] in ("done", "failed", "skipped"):
                return record
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.warn(f"The record {path} is damaged: it is made again.")
        return None

    def records(self) -> list[Record]:
        """All readable records, in the order of their keys."""
        found = (self.read_record(p.stem) for p in sorted((self.folder / self.kind).glob("*.json")))
        return [record for record in found if record is not None]

    def write_model(self, key: str, model: nn.Module, about: Mapping[str, Any]) -> None:
        """Put a model's weights in their place, with a digest and what else is to be remembered."""
        self.write_tensors(key, model.state_dict(), about)

    def write_tensors(
        self, key: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> None:
        """Put named tensors in their place, with a digest and what else is to be remembered."""
        from safetensors.torch import save

        # Copies: tied weights share memory, which the format does not allow.
        state = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        note = json.dumps({**about, "digest": weights_digest(state)}, default=str)
        write_whole(self.weights(key), save(state, metadata={"oblivio": note}))

    def read_model(self, key: str, model: nn.Module) -> dict[str, Any] | None:
        """Fill a model with the weights of this key.

        Returns:
            What was remembered with them; None if there are none, or if they are damaged (said).
        """
        found = self.read_tensors(key)
        if found is None:
            return None
        try:
            model.load_state_dict(found[0])
            return found[1]
        except (ValueError, KeyError, RuntimeError):
            return self._made_again(key)

    def read_tensors(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The named tensors of this key.

        Returns:
            They, and what was remembered with them; None if there are none, or if they are damaged
            (said).
        """
        from safetensors import SafetensorError, safe_open

        path = self.weights(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # ruff: ignore[in-dict-keys]
                about = json.loads((file.metadata() or {})["oblivio"])
            if about["digest"] == weights_digest(state):
                return state, about
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError):
            pass
        return self._made_again(key)

    def _made_again(self, key: str) -> None:
        self.warn(f"The weights {self.weights(key)} are damaged or do not fit: made again.")

    def weights(self, key: str) -> Path:
        """Where the weights of this key stand, whether there are any or not."""
        return self.models / f"{key}.safetensors"

    def state(self, key: str) -> Path:
        """Where a long training of the model of this key keeps its state until it is done."""
        return self.models / f"{key}.state"

    def has_model(self, key: str) -> bool:
        """Whether there are weights of this key, damaged or not."""
        return self.weights(key).exists()

    def forget_model(self, key: str) -> None:
        """Take a model's weights off the disk."""
        self.weights(key).unlink(missing_ok=True)

    def forget_beside(self, key: str) -> None:
        """Take off the disk what was computed for a model and kept beside its weights."""
        for path in self.models.glob(f"{key}.*.safetensors"):
            path.unlink(missing_ok=True)

    def _record(self, key: str) -> Path:
        return self.folder / self.kind / f"{key}.json"
