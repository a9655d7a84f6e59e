"""What a long training keeps: the best pair so far, and all that it needs to go on."""

from __future__ import annotations

import copy
import io
import math
import random
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oblivio.adversarial.duel import Duel
from oblivio.adversarial.recipe import Adversarial
from oblivio.core import Data, Run, derive, seeded
from oblivio.files import weights_digest, write_whole
from oblivio.generative import GAN

FORMAT = 2  # of the file; another is not taken up
MAGIC = b"\x89oblivio adversarial state\n"
"""What a file begins with, by which a damaged state is told from what is none."""


@dataclass
class Best:
    """The pair with the best quality so far."""

    quality: float = math.inf
    step: int = 0
    state: dict[str, Tensor] | None = None

    def judge(self, gan: GAN, quality: float, step: int) -> None:
        """Keep the pair if it is better than any before."""
        if quality < self.quality:
            self.quality, self.step = quality, step
            self.state = copy.deepcopy(gan.state_dict())


@dataclass(frozen=True)
class State:
    """Where a long training keeps its state, and what must be the same for it to go on.

    Args:
        path: The file; None keeps nothing.
        fingerprint: Of the first weights, the data, the recipe and the seed.
    """

    path: Path | None
    fingerprint: str

    def write(self, duel: Duel, best: Best, step: int, seconds: float) -> None:
        """Put the state in its place, whole or not at all, with the seconds that it took."""
        if self.path is None:
            return
        buffer = io.BytesIO()
        torch.save(
            {
                "fingerprint": self.fingerprint,
                "step": step,
                "seconds": seconds,
                "counts": (duel.generator_steps, duel.discriminator_steps),
                "gan": duel.gan.state_dict(),
                "generator": duel.generator_adam.state_dict(),
                "discriminator": duel.discriminator_adam.state_dict(),
                "random": _random_state(duel.run.device),
                "best": (best.quality, best.step, best.state),
            },
            buffer,
        )
        content = buffer.getvalue()
        write_whole(self.path, MAGIC + sha256(content).digest() + content)

    def read(self, duel: Duel, best: Best) -> tuple[int, float]:
        """Take up the state, if there is one and it is of this very training; a note says if not.

        Returns:
            How many steps are done, and the seconds that they took.
        """
        nothing = 0, 0.0
        if self.path is None or not self.path.exists():
            return nothing
        content = io.BytesIO(_unsealed(self.path.read_bytes()) or b"")
        try:
            found = torch.load(content, map_location=duel.run.device, weights_only=True)
            other = found["fingerprint"] != self.fingerprint
        except Exception:  # whatever kind of damage
            duel.run.note(began_anew="the state on disk is damaged")
            return nothing
        if other:
            duel.run.note(began_anew="the state on disk is that of another training")
            return nothing
        duel.gan.load_state_dict(found["gan"])
        duel.generator_adam.load_state_dict(found["generator"])
        duel.discriminator_adam.load_state_dict(found["discriminator"])
        duel.generator_steps, duel.discriminator_steps = found["counts"]
        best.quality, best.step, best.state = found["best"]
        _set_random_state(found["random"], duel.run.device)
        return int(found["step"]), float(found["seconds"])

    def remove(self) -> None:
        """Take the file off the disk."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def place_for(resume: Path | str | None) -> Path | None:
    """The file of a training's state, once it is sure that nothing else is lost there.

    Its folder is made.

    Args:
        resume: Where a user wants it.

    Returns:
        The file; None keeps nothing.

    Raises:
        PermissionError: If the folder cannot be made or written to.
        ValueError: If something stands there that is no state.
    """
    if resume is None:
        return None
    path = Path(resume)
    if path.exists() and not (path.is_file() and _is_state(path.read_bytes())):
        raise ValueError(
            f"The training's state would be written over {path}, which is something else: give "
            "run.resume another path."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise PermissionError(
            f"Cannot write to the folder {path.parent} ({error.strerror}): give run.resume "
            "another path."
        ) from error
    return path


def _is_state(whole: bytes) -> bool:
    """Whether this is a state, be it damaged or of an older format, which had a seal alone."""
    return MAGIC.startswith(whole[: len(MAGIC)]) or _unsealed(whole) is not None


def _unsealed(whole: bytes) -> bytes | None:
    """What stands under the seal; None if that is broken."""
    sealed = whole.removeprefix(MAGIC)
    return sealed[32:] if sealed[:32] == sha256(sealed[32:]).digest() else None


def _random_state(device: torch.device) -> dict[str, Any]:
    """Of which a user's networks and data may draw, as dropout and transforms do."""
    name, keys, *rest = np.random.get_state()  # ruff: ignore[numpy-legacy-random]
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [name, keys.tolist(), *rest],  # pyright: ignore[reportAttributeAccessIssue]
        "python": random.getstate(),
    }


def _set_random_state(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
    np.random.set_state(states["numpy"])  # ruff: ignore[numpy-legacy-random]
    random.setstate(states["python"])


def fingerprint(gan: GAN, data: Data, recipe: Adversarial, run: Run) -> str:
    """Of all that decides a training's result; of the images, the first few stand for all."""
    if run.resume is None:
        return ""
    with seeded(derive(run.seed, "fingerprint")):  # else a Dataset's transforms would draw
        first = next(data.take(torch.arange(min(len(data), 64))).batches(64)).inputs
    learned = weights_digest({"ids": data.ids, "labels": data.labels, "first": first})
    place = f"{FORMAT} {run.seed} {run.device.type} {run.precision}"
    return f"{weights_digest(gan.state_dict())} {learned} {recipe} {place}"
