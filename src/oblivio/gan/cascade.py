"""Cascaded unlearning of a GAN: substitution, fake label, unlearning and learning by turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oblivio.adversarial import Adversarial, Duel, as_gan, endless, generator_loss
from oblivio.catalogue import unknown
from oblivio.core import Data, Part, Progress, Run, Split, derive, resting
from oblivio.gan._label import Label, LabelName, fake_labels
from oblivio.gan._latents import Located, Made, Search, few, joined, locate, pool
from oblivio.gan._stop import Stop
from oblivio.gan._substitute import Rule, substitutes, told
from oblivio.gan._turns import plan
from oblivio.generative import GAN, Images, Labels
from oblivio.judge import judge, whole

Substitute = Literal["auto", "near", "project", "random", "real", "none"]
HELD = 5  # kept latents in an unlearning turn's batch for each forgotten one


@dataclass(frozen=True)
class Cascade:
    """Sends forgotten latents to substitutes, gives forgotten images a fake label, and learns on.

    Learning and unlearning alternate. An unlearning turn is a step of each player:

        D: min  ℓ_fake(D(F))                                          the fake label
        G: min  w [ E‖G(z_f) − s(z_f)‖² + κ E‖G(z_r) − G_o(z_r)‖² ]   the substitution
                + λ E ℓ_G(D(G(z_f)))

    with means over pixels. G makes half a batch of z_f in one go with five times as many z_r, whose
    statistics are therefore about those of any batch; D learns the fake label with BatchNorm's
    running statistics, as it is judged, and has a batch's own in the adversarial term, as in any
    step of G. G takes these steps by an Adam of their own: their slopes are much steeper than those
    of learning, whose steps they would shorten. A learning turn is an ordinary step of both players
    on the retained images, with ρ ℓ_fake(D(F)) added to D's loss. The last turns are learning
    alone: ending on unlearning leaves D and G out of balance. Where the fake label is a level, D
    learns it once G is done, in steps of its own that settle it; before that, it would only lead G
    astray.

    Args:
        substitute: What a forgotten latent is to make: what the nearest latent that is kept makes
            (near), what z makes once it is moved off along the mean difference (project), what any
            kept latent makes (random), or the nearest retained image (real). "auto" is project for
            a class of an unconditional pair, else near; "none" leaves out the substitution, and
            G's unlearning step with it.
        fake_label: What D is to say of forgotten images: that they are not real (zero), what it
            says of generated ones (generated), or what it says of images of their classes that were
            never seen, which `run.held_out` gives (unseen). "auto" is, for items, unseen where
            there are held-out images, else generated; for a class, zero while G learns and, where
            there are held-out images of it, unseen in the end, so that D does not know the ones it
            was trained on from others. "none" leaves D alone.
        learn: Learning turns for each unlearning one.
        closing: The share of all turns that close with learning.
        cascaded: Whether turns alternate; if not, all unlearning comes first.
        weight: w.
        keep: κ: how much what is kept is held where it was (ours; 0 is the paper's reading).
        adversarial: λ.
        remind: ρ (ours): without it what D has unlearned comes back while it learns on.
        settle: How many steps of D alone come last (ours), in which ℓ_fake(D(F)) is added to its
            ordinary loss: None is 100 for a level (unseen, generated), and none for zero; with 0 a
            level holds while G learns. A label that is settled so plays no part before and takes
            nothing from G's quality, which counts when there are few steps.
        few: How many retained images are learned from, the same share of every class as far as it
            goes; None is all. The judge, and the substitute "real", look at all in any case.
        latents: How many are drawn to find forgotten ones and substitutes in.
        search: How latents of single images are found.
        stop: When the unlearning ends before its turns are over.
        recipe: Of both players; its steps are all of G's, unlearning and learning together, and so
            the budget that fine-tuning has.

    Raises:
        ValueError: If a number is out of range, there is no such substitute or label, or the steps
            leave no turn for unlearning.

    Source: Sun, Zhu, Chang and Zhou (2023), whose abstract names substitution, fake label and
    cascade; what they are made of here is our reconstruction.
    """

    substitute: Substitute = "auto"
    fake_label: LabelName = "auto"
    learn: int = 4
    closing: float = 0.3
    cascaded: bool = True
    weight: float = 10.0
    keep: float = 1.0
    adversarial: float = 0.1
    remind: float = 0.2
    settle: int | None = None
    few: int | None = None
    latents: int = 4096
    search: Search = Search()
    stop: Stop = Stop()
    recipe: Adversarial = Adversarial(steps=200)

    reads: ClassVar[frozenset[Part]] = frozenset({"forget", "retain"})

    def __post_init__(self) -> None:
        for name, ok, range_ in (
            ("learn", self.learn >= 0, "0 or more"),
            ("closing", 0 <= self.closing < 1, "from 0 to below 1"),
            ("weight", self.weight > 0, "above 0"),
            ("keep", self.keep >= 0, "0 or more"),
            ("adversarial", self.adversarial >= 0, "0 or more"),
            ("remind", self.remind >= 0, "0 or more"),
            ("settle", (self.settle or 0) >= 0, "0 or more"),
            ("few", self.few is None or self.few >= 2, "2 or more"),
            ("latents", self.latents >= 16, "16 or more"),
        ):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)} must be {range_}.")
        for name, kind in (("substitute", Substitute), ("fake_label", LabelName)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(unknown(name, getattr(self, name), get_args(kind)))
        rounds, _ = plan(self.recipe.steps, self.learn, self.closing, self.cascaded)
        if not any("unlearn" in turns for turns in rounds):
            raise ValueError(
                f"recipe.steps = {self.recipe.steps} leave no turn for unlearning, with learn = "
                f"{self.learn} and closing = {self.closing}: take more steps, or less of those."
            )

    def prepare(self, model: nn.Module, data: Data, run: Run) -> None:
        """Train the judge that locates latents, before anyone asks to forget."""
        if len(data.labels.unique()) > 1:
            judge(whole(data), run, "method")

    def __call__(self, model: nn.Module, split: Split, run: Run) -> nn.Module:
        """The unlearned pair: generator, its average, and discriminator.

        Returns:
            The pair, in eval mode.

        Raises:
            FloatingPointError: If a loss is no longer a finite number.
            ValueError: If the pair never makes the class to forget, or there is no unseen image to
                take a level from.
        """
        gan = as_gan(model)
        frozen = cast(GAN, resting(gan))
        targets = None if self.substitute == "none" else self._targets(frozen, split, run)
        duel = Duel(gan, self.recipe, run)
        undoing = duel.adam(gan.generator, self.recipe.lr)
        early, last = fake_labels(self.fake_label, self.settle, duel, split)
        some = split.retain if self.few is None else few(split.retain, self.few)
        if len(some) < 2:
            raise ValueError(
                "A GAN cannot go on learning from a single image: BatchNorm needs two."
            )
        retain = endless(some, min(self.recipe.batch_size, len(some)), run)
        enough = self.stop.watch(duel, split)
        also = (lambda: self.remind * early()) if early and self.remind else None
        rounds, closing = plan(self.recipe.steps, self.learn, self.closing, self.cascaded)
        done, value = 0, torch.zeros(())
        for number, turns in enumerate(rounds, 1):
            for turn in turns:
                if turn == "learn" or (targets is None and early is None):
                    value = duel.learn(retain, also)
                else:
                    value = self._unlearn(duel, targets, early, undoing)
            done += len(turns)
            self._tell(run, done, value)
            if enough(number):
                break
        for _ in range(closing):
            value = duel.learn(retain, also)
        self._tell(run, self.recipe.steps, value)
        if last is not None:
            self._settle(duel, retain, last, self.stop.of_discriminator.watch(duel, split))
        return duel.finish()

    def _settle(
        self,
        duel: Duel,
        retain: Iterator[tuple[Images, Labels]],
        label: Label,
        enough: Callable[[int], bool],
    ) -> None:
        """D learns the fake label beside its ordinary loss, at the full rate; G rests."""
        duel.recipe = replace(self.recipe, schedule="constant")
        value = torch.zeros(())
        for number in range(1, (100 if self.settle is None else self.settle) + 1):
            value = duel.discriminate(*next(retain), label)
            if enough(number):
                break
        self._tell(duel.run, self.recipe.steps, value)

    def _tell(self, run: Run, done: int, value: Tensor) -> None:
        """Tell how many turns are done, with the last one's loss."""
        loss, recipe = float(value), self.recipe
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss} after turn {done} of {recipe.steps}: the learning rate "
                f"{recipe.lr:g} or the weight {self.weight:g} is too high."
            )
        run.tell(Progress(done, recipe.steps, loss))

    def _targets(self, frozen: GAN, split: Split, run: Run) -> Targets:
        """Which latents are to make what; says of ten of them what becomes of them."""
        drawn = pool(frozen, self.latents, derive(run.seed, "pool"))
        # Items are located by their pixels: images without labels will do.
        asked = len(split.gone) > 0 or self.substitute == "real"
        own = judge(whole(split.forget, split.retain), run, "method") if asked else None
        found = locate(frozen, drawn, split, own, self.search, derive(run.seed, "ball"))
        seed = derive(run.seed, "substitute")
        gone = joined([here.gone for here in found])
        instead = joined(
            [substitutes(frozen, at, self._rule(frozen, at), split, own, seed) for at in found]
        )
        run.note(located=len(gone), moved=told(gone, instead))
        return Targets(gone, instead, found[0].kept)

    def _rule(self, gan: GAN, here: Located) -> Rule:
        """By which rule substitutes are chosen."""
        if self.substitute != "auto":
            return cast(Rule, self.substitute)
        return "project" if len(here.classes) and gan.classes is None else "near"

    def _unlearn(
        self,
        duel: Duel,
        targets: Targets | None,
        label: Label | None,
        adam: torch.optim.Adam,
    ) -> Float[Tensor, ""]:
        """An unlearning turn: D learns the fake label, G the substitution.

        Returns:
            The last loss.
        """
        loss = torch.zeros(())
        if label is not None:
            loss = label()
            duel.step_discriminator(loss)
        if targets is None:
            return loss.detach()
        n = self.recipe.batch_size // 2
        seed = derive(duel.run.seed, "rows", duel.generator_steps)
        gone, kept = (
            torch.randint(len(some), (count,), generator=seeded_draw(seed + place))
            for place, (some, count) in enumerate(((targets.gone, n), (targets.kept, HELD * n)))
        )
        z, y = on(duel, targets.gone.take(gone), targets.kept.take(kept))
        fake = duel.make(z, y)
        loss = away(fake[:n], targets.instead.images[gone])
        if self.keep:
            loss = loss + self.keep * away(fake[n:], targets.kept.images[kept])
        loss = self.weight * loss
        if self.adversarial:
            labels = None if y is None else y[:n]
            with duel.discriminator_as_it_is():
                shown = duel.score(duel.seen(fake[:n], "substitute"), labels)
            loss = loss + self.adversarial * generator_loss(shown, self.recipe.loss)
        duel.step_generator(loss, adam)
        return loss.detach()


@dataclass(frozen=True)
class Targets:
    """Latents to re-assign, what they are to make instead, and latents to hold."""

    gone: Made
    instead: Made
    kept: Made


def on(duel: Duel, *parts: Made) -> tuple[Tensor, Tensor | None]:
    """Latents and labels of all parts together, on the device."""
    z = torch.cat([some.latents for some in parts]).to(duel.run.device)
    labels = [some.labels for some in parts if some.labels is not None]
    return z, torch.cat(labels).to(duel.run.device) if labels else None


def away(made: Images, wanted: Images) -> Float[Tensor, ""]:
    """Mean over images and pixels of (G(z) − s)²."""
    return (made - wanted.to(made.device)).square().mean()


def seeded_draw(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)
