"""Two players and their steps, of which every training and unlearning of a GAN is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oblivio.adversarial.augment import AUGMENTS
from oblivio.adversarial.losses import Logits, discriminator_loss, generator_loss
from oblivio.adversarial.recipe import Adversarial
from oblivio.core import Data, Run, convolves, derive, seeded
from oblivio.data.arrays import batch_starts
from oblivio.generative import GAN, Images, Labels


class Duel:
    """Two players, each with its Adam; what a step of either is.

    Random numbers of a step derive from the run's seed and the step's number, so that a training
    that is taken up again draws the same.

    Args:
        gan: The pair; it is trained in place.
        recipe: How.
        run: Where, and with which seed.

    Raises:
        ValueError: If the precision is neither bf16-mixed nor 32-true, or there are several
            processes.
    """

    def __init__(self, gan: GAN, recipe: Adversarial, run: Run) -> None:
        if run.precision not in ("bf16-mixed", "32-true"):
            raise ValueError(
                f"GANs train with precision 32-true or bf16-mixed, not {run.precision}."
            )
        if run.fabric.world_size > 1:
            raise ValueError(
                f"A GAN is trained by one process, not by {run.fabric.world_size}: leave out "
                "devices and strategy."
            )
        gan.to(run.device).train()
        gan.average.eval()
        wide = convolves(gan) if run.channels_last is None else run.channels_last
        self.layout = torch.channels_last if wide else torch.contiguous_format
        for player in (gan.generator, gan.discriminator, gan.average):
            player.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        self.gan, self.recipe, self.run = gan, recipe, run
        self.generator_steps = self.discriminator_steps = 0
        self.generator_adam = self.adam(gan.generator, recipe.lr)
        self.discriminator_adam = self.adam(gan.discriminator, recipe.lr_discriminator or recipe.lr)

    def adam(self, player: nn.Module, lr: float) -> torch.optim.Adam:
        """A new Adam for all of a player's weights, whose rate follows the recipe's schedule."""
        fused = self.run.device.type in ("cpu", "cuda")
        group = {"params": list(player.parameters()), "initial_lr": lr}
        return torch.optim.Adam([group], lr, betas=self.recipe.betas, fused=fused)

    def draw(self, n: int, *what: object) -> tuple[Tensor, Labels | None]:
        """Latents and, for a conditional pair, labels, that depend on the step and on `what`."""
        seed = derive(self.run.seed, *what, self.generator_steps, self.discriminator_steps)
        return self.gan.latents(n, seed), self.gan.labels(n, seed + 1)

    def seen(self, images: Images, *what: object) -> Images:
        """Images as the discriminator is shown them: augmented."""
        images = images.to(self.run.device, non_blocking=True).contiguous(memory_format=self.layout)
        if not self.recipe.augment:
            return images
        steps = self.generator_steps, self.discriminator_steps
        seed = derive(self.run.seed, "augment", *what, *steps)
        draw = torch.Generator().manual_seed(seed)
        for name in self.recipe.augment:
            images = AUGMENTS[name](images, draw)
        return images

    def score(self, images: Images, labels: Labels | None = None) -> Logits:
        """D's logits, in the run's precision."""
        with self.run.fabric.autocast():
            return self.gan.score(images, labels).float()

    def make(self, z: Tensor, labels: Labels | None = None) -> Images:
        """G's images, in the run's precision."""
        with self.run.fabric.autocast():
            return self.gan.make(z, labels).float()

    def discriminate(
        self,
        real: Images,
        labels: Labels | None,
        also: Callable[[], Float[Tensor, ""]] | None = None,
    ) -> Float[Tensor, ""]:
        """One step of D on real images and as many generated ones.

        Args:
            real: Images to call real.
            labels: Theirs; looked at where the pair is conditional.
            also: Gives what is added to its loss. It is asked last: what it reads of D's buffers,
                such as running statistics, the other two would change before the gradient is taken.

        Returns:
            The loss.
        """
        z, wanted = self.draw(len(real), "discriminate")
        y = None if self.gan.classes is None else labels
        with torch.no_grad():
            fake = self.make(z, wanted)
        value = discriminator_loss(
            self.score(self.seen(real, "real"), y),
            self.score(self.seen(fake, "fake"), wanted),
            self.recipe.loss,
        )
        self.step_discriminator(value if also is None else value + also())
        return value.detach()

    def generate(self, n: int) -> Float[Tensor, ""]:
        """One step of G on this many latents.

        Returns:
            The loss.
        """
        z, labels = self.draw(n, "generate")
        with self.discriminator_as_it_is():
            fake = self.score(self.seen(self.make(z, labels), "made"), labels)
        value = generator_loss(fake, self.recipe.loss)
        self.step_generator(value)
        return value.detach()

    @contextmanager
    def discriminator_as_it_is(self) -> Generator[None]:
        """What D says meanwhile has no gradient for its weights, which saves computing it."""
        learning = [p for p in self.gan.discriminator.parameters() if p.requires_grad]
        for weight in learning:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in learning:
                weight.requires_grad_(True)

    def step_discriminator(self, loss: Float[Tensor, ""]) -> None:
        """Follow a loss's gradient with D."""
        done = self.discriminator_steps / max(1, self.recipe.steps * self.recipe.d_steps)
        self._step(self.discriminator_adam, loss, done)
        self.discriminator_steps += 1

    def step_generator(self, loss: Float[Tensor, ""], adam: torch.optim.Adam | None = None) -> None:
        """Follow a loss's gradient with G, by an Adam of its own if given; the average follows."""
        self._step(
            adam or self.generator_adam, loss, self.generator_steps / max(1, self.recipe.steps)
        )
        self.generator_steps += 1
        # Few steps are averaged over fewer, so that the first weights are soon forgotten.
        warm = (1 + self.generator_steps) / (10 + self.generator_steps)
        self.gan.follow(min(self.recipe.average, warm))

    def _step(self, adam: torch.optim.Adam, loss: Float[Tensor, ""], done: float) -> None:
        """A step at the rate that the schedule has once this share of all steps is done."""
        cosine = self.recipe.schedule == "cosine"
        for group in adam.param_groups:
            fall = (1 + math.cos(math.pi * min(done, 1))) / 2 if cosine else 1.0
            group["lr"] = group["initial_lr"] * fall
        adam.zero_grad(set_to_none=True)
        self.run.fabric.backward(loss)
        adam.step()

    def learn(
        self,
        batches: Iterator[tuple[Images, Labels]],
        also: Callable[[], Float[Tensor, ""]] | None = None,
    ) -> Float[Tensor, ""]:
        """One ordinary round: D's steps, then one of G.

        Args:
            batches: Real images.
            also: Gives what is added to D's loss in each of its steps.

        Returns:
            D's loss.
        """
        value, n = torch.zeros(()), self.recipe.batch_size
        for _ in range(self.recipe.d_steps):
            images, labels = next(batches)
            value, n = self.discriminate(images, labels, also), len(images)
        self.generate(n)
        return value

    def finish(self) -> GAN:
        """The pair, laid out as usual, in eval mode; says how many steps it took."""
        self.run.note(
            generator_steps=self.generator_steps, discriminator_steps=self.discriminator_steps
        )
        self.gan.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        for player in (self.gan.generator, self.gan.discriminator):
            player.zero_grad(set_to_none=True)
        return self.gan.eval()


def endless(data: Data, size: int, run: Run, *, start: int = 0) -> Iterator[tuple[Images, Labels]]:
    """Batches without end: pass after pass, each in an order of its own.

    Args:
        data: Real images.
        size: Of a batch.
        run: Whose seed the orders derive from.
        start: How many batches are to be left out at the beginning, as they were had already; the
            random state is afterwards what it was.

    Yields:
        Images and labels.
    """
    per_pass = len(batch_starts(len(data), size))
    pass_, skip = divmod(start, per_pass)
    while True:
        seed = derive(run.seed, "pass", pass_)
        batches = data.batches(size, shuffle=seed, augment=True)
        if skip:
            with seeded(seed):  # a Dataset's transforms may draw
                for _ in range(skip):
                    next(batches)
        for batch in batches:
            yield batch.inputs, batch.labels.to(run.device)
        pass_, skip = pass_ + 1, 0
