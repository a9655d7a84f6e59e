"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from torch import Tensor, nn

from oblivio.adversarial.duel import Duel, endless
from oblivio.adversarial.recipe import Adversarial
from oblivio.adversarial.state import Best, State, fingerprint, place_for
from oblivio.core import Data, Progress, Run, derive, seeded
from oblivio.generative import GAN, as_gan, check_pair


def fit_gan(
    model: nn.Module,
    data: Data,
    recipe: Adversarial,
    run: Run,
    *,
    quality: Callable[[GAN], float] | None = None,
) -> GAN:
    """Train a pair in place.

    Where the run names a file to resume from (`run.resume`), the state is written there every
    `recipe.save_every` steps; a training that finds it goes on from there, to the same bits. That
    holds for networks and transforms that draw from the global random states of torch, NumPy and
    Python too; a random generator of a Dataset's own begins anew. A damaged state, or one of
    another training, is overwritten, and a note says so (`began_anew`); any other file is refused.
    The state is removed at the end. Notes say how many seconds were spent before it went on, and
    how many on judging quality since.

    Args:
        model: The pair, a `GAN`.
        data: Real images in [-1, 1].
        recipe: How.
        run: Where; its seed decides the order of the data and all latents.
        quality: Judges the pair, less is better. It is asked every `recipe.check_every` steps
            alone, and the best is kept; where that is 0, it is never asked, and the last is kept.

    Returns:
        The same pair, in eval mode.

    Raises:
        FloatingPointError: If a loss or a weight is no longer a finite number, or a quality is NaN.
        PermissionError: If the folder of `run.resume` cannot be made or written to.
        TypeError: If the model is no GAN.
        ValueError: If there is no batch of two images, pair and images do not suit each other, or
            something stands at `run.resume` that is no state of a training.
    """
    gan = as_gan(model)
    if len(data) < 2:
        raise ValueError("A GAN cannot be trained on a single image: BatchNorm needs two.")
    path = place_for(run.resume)
    # A user's networks may draw random numbers, as dropout does.
    with seeded(derive(run.seed, "networks")):
        check_pair(gan, {"training": data})
        return _trained(Duel(gan, recipe, run), data, quality, path)


def _trained(
    duel: Duel, data: Data, quality: Callable[[GAN], float] | None, path: Path | None
) -> GAN:
    """The loop; its state stands at this path."""
    recipe, run, best = duel.recipe, duel.run, Best()
    sound = _sound(duel.gan)
    state = State(path, fingerprint(duel.gan, data, recipe, run))
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
            best.judge(duel.gan, _judged(duel.gan, quality, step, recipe), step)
            judging += time.perf_counter() - begun
        if step % recipe.save_every == 0 and step < recipe.steps:
            state.write(duel, best, step, before + time.perf_counter() - start - judging)
    if best.state is not None:
        duel.gan.load_state_dict(best.state)
        run.note(best_step=best.step, best_quality=best.quality)
    if before or judging:
        run.note(seconds_before=before, seconds_judging=judging)
    lost = sorted(sound - _sound(duel.gan))
    if lost:
        what = f"The weight {lost[0]} is no longer finite"
        raise FloatingPointError(_diverged(what, recipe.steps, recipe))
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
        what = f"The discriminator's loss is {float(value)}"
        raise FloatingPointError(_diverged(what, step, recipe))
    return float(value)


def _diverged(what: str, step: int, recipe: Adversarial) -> str:
    """What came of it, and why."""
    return (
        f"{what} after step {step} of {recipe.steps}: the learning rate {recipe.lr:g} is too high, "
        "or the images are not in [-1, 1]."
    )


def _sound(gan: GAN) -> set[str]:
    """The weights and buffers that are finite; a user's mask may have been infinite all along."""
    named = chain(gan.named_parameters(), gan.named_buffers())
    return {name for name, value in named if bool(value.isfinite().all())}


def _judged(gan: GAN, quality: Callable[[GAN], float], step: int, recipe: Adversarial) -> float:
    """The quality; a judge that needs another mode leaves it as it was.

    Returns:
        The number.

    Raises:
        FloatingPointError: If it is NaN.
    """
    modes = [(module, module.training) for module in gan.modules()]
    value = float(quality(gan))
    for module, mode in modes:
        module.training = mode
    if math.isnan(value):
        raise FloatingPointError(
            f"The quality is nan after step {step} of {recipe.steps}: lower the learning rate "
            f"{recipe.lr:g} if the pair diverged, or let `quality` give a number."
        )
    return value
