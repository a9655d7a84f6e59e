"""What a long training keeps: the best pair so far, and all that it needs to go on."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from oblivio.adversarial.duel import Duel
from oblivio.adversarial.recipe import Adversarial
from oblivio.core import Data, Run
from oblivio.files import weights_digest, write_whole
from oblivio.generative import GAN

FORMAT = 1  # of the file; another is not taken up


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
        write_whole(self.path, sha256(content).digest() + content)

    def read(self, duel: Duel, best: Best) -> tuple[int, float]:
        """Take up the state, if there is one and it is of this very training.

        Returns:
            How many steps are done, and the seconds that they took.
        """
        nothing = 0, 0.0
        if self.path is None or not self.path.is_file():
            return nothing
        try:
            seal, content = (whole := self.path.read_bytes())[:32], whole[32:]
            if seal != sha256(content).digest():
                return nothing
            found = torch.load(io.BytesIO(content), map_location=duel.run.device, weights_only=True)
            if found["fingerprint"] != self.fingerprint:
                return nothing
        except Exception:  # a damaged file of whatever kind: the training begins anew
            return nothing
        duel.gan.load_state_dict(found["gan"])
        duel.generator_adam.load_state_dict(found["generator"])
        duel.discriminator_adam.load_state_dict(found["discriminator"])
        duel.generator_steps, duel.discriminator_steps = found["counts"]
        best.quality, best.step, best.state = found["best"]
        torch.set_rng_state(found["random"][0].cpu())
        if duel.run.device.type == "cuda":
            torch.cuda.set_rng_state(found["random"][1].cpu(), duel.run.device)
        return int(found["step"]), float(found["seconds"])

    def remove(self) -> None:
        """Take the file off the disk."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _random_state(device: torch.device) -> list[Tensor]:
    """Of which a user's networks may draw, as dropout does."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def fingerprint(gan: GAN, data: Data, recipe: Adversarial, run: Run) -> str:
    """Of all that decides a training's result; of the images, the first few stand for all."""
    if run.resume is None:
        return ""
    first = next(data.take(torch.arange(min(len(data), 64))).batches(64)).inputs
    learned = weights_digest({"ids": data.ids, "labels": data.labels, "first": first})
    place = f"{FORMAT} {run.seed} {run.device.type} {run.precision}"
    return f"{weights_digest(gan.state_dict())} {learned} {recipe} {place}"
