"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from torch import Tensor

from oblivio.adversarial.duel import Duel, endless
from oblivio.adversarial.recipe import Adversarial
from oblivio.adversarial.state import Best, State, fingerprint
from oblivio.core import Data, Progress, Run, derive, seeded
from oblivio.generative import GAN, check_pair


def fit_gan(
    model: GAN,
    data: Data,
    recipe: Adversarial,
    run: Run,
    *,
    quality: Callable[[GAN], float] | None = None,
) -> GAN:
    """Train a pair in place.

    Where the run names a file to resume from (`run.resume`), the state is written there every
    `recipe.save_every` steps; a training that finds it goes on from there, to the same bits. The
    file is removed at the end. Notes say how many seconds were spent before it went on, and how
    many on judging quality since.

    Args:
        model: The pair.
        data: Real images in [-1, 1].
        recipe: How.
        run: Where; its seed decides the order of the data and all latents.
        quality: Judges the pair every `recipe.check_every` steps, less is better; the best is kept.

    Returns:
        The same pair, in eval mode.

    Raises:
        FloatingPointError: If a loss is no longer a finite number.
        ValueError: If there is no batch of two images, or pair and images do not suit each other.
    """
    if len(data) < 2:
        raise ValueError("A GAN cannot be trained on a single image: BatchNorm needs two.")
    # A user's networks may draw random numbers, as dropout does.
    with seeded(derive(run.seed, "networks")):
        check_pair(model, {"training": data})
        return _trained(Duel(model, recipe, run), data, quality)


def _trained(duel: Duel, data: Data, quality: Callable[[GAN], float] | None) -> GAN:
    """The loop."""
    recipe, run, best = duel.recipe, duel.run, Best()
    state = State(run.resume, fingerprint(duel.gan, data, recipe, run))
    done, before = state.read(duel, best)
    start, judging = time.perf_counter(), 0.0
    size = min(recipe.batch_size, len(data))
    batches = endless(data, size, run, start=done * recipe.d_steps)
    every = max(1, recipe.steps // 100)
    for step in range(done + 1, recipe.steps + 1):
        value = duel.learn(batches)
        if step % every == 0 or step == recipe.steps:
            run.tell(Progress(step, recipe.steps, finite(value, step, recipe)))
        if recipe.check_every and quality is not None and step % recipe.check_every == 0:
            begun = time.perf_counter()
            best.judge(duel.gan, quality(duel.gan), step)
            judging += time.perf_counter() - begun
        if step % recipe.save_every == 0 and step < recipe.steps:
            state.write(duel, best, step, before + time.perf_counter() - start - judging)
    if best.state is not None:
        duel.gan.load_state_dict(best.state)
        run.note(best_step=best.step, best_quality=best.quality)
    if before or judging:
        run.note(seconds_before=before, seconds_judging=judging)
    state.remove()
    return duel.finish()


def finite(value: Tensor, step: int, recipe: Adversarial) -> float:
    """A loss as a number.

    Returns:
        The number.

    Raises:
        FloatingPointError: If it is not finite.
    """
    if not math.isfinite(float(value)):
        raise FloatingPointError(
            f"The discriminator's loss is {float(value)} after step {step} of {recipe.steps}: the "
            f"learning rate {recipe.lr:g} is too high, or the images are not in [-1, 1]."
        )
    return float(value)
