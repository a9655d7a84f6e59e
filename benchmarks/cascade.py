"""What forgetting a class costs a GAN beside retraining: the cascade's seconds, search included.

A training is as long as its steps: some are timed, in turns with the cascade, and the experiment
has so many times as many. The images are scikit-learn's digits, enlarged to MNIST's shape and to
CIFAR-10's: what they show does not change what a step costs.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from benchmarks.timing import Row, ratio
from oblivio import GAN, Adversarial, Arrays, Run, Split, fit_gan, unlearn
from oblivio.gan.cascade import Cascade
from oblivio.models.dcgan import DCGAN

TIMED = 100


def speed_up(shape: tuple[int, int, int], training: Adversarial, forgetting: Adversarial) -> float:
    """How many times as long as the cascade a training of all its steps takes."""
    pixels, target = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    images = interpolate(images, shape[1:], mode="bilinear").expand(-1, *shape).contiguous()
    labels = torch.tensor(target, dtype=torch.int64)
    data = Arrays(images, labels)
    held, known = data.take(torch.arange(300)), data.take(torch.arange(300, len(data)))
    split = Split.of(known, known.ids[known.labels == 3])
    run = Run.on("cpu", precision="bf16-mixed", held_out=held)
    torch.manual_seed(0)
    gan: GAN = DCGAN(width=32)(shape, 10)
    fit_gan(gan, known, Adversarial(steps=300, batch_size=32, lr=1e-3, average=0.9), run)
    method = Cascade(learn=2, fake_label="unseen", settle=20, recipe=forgetting)
    method.prepare(gan, known, run)
    some = Adversarial(steps=TIMED, batch_size=training.batch_size)
    factor = ratio(
        lambda: fit_gan(gan, known, some, run), lambda: unlearn(method, gan, split, run), turns=3
    )
    return factor * training.steps / TIMED


def rows() -> list[Row]:
    mnist = speed_up((1, 28, 28), Adversarial(steps=20_000), Adversarial(steps=100, lr=1e-4))
    cifar = speed_up(
        (3, 32, 32),
        Adversarial(steps=24_000, batch_size=32),
        Adversarial(steps=84, lr=1e-4, batch_size=64),
    )
    return [
        {
            "what": f"training of a GAN ÷ cascade that forgets a class: {name}",
            "value": f"{value:.0f}×",
            "aim": f"≥ {aim}× (on a GPU)",
            "ok": value >= aim,
        }
        for name, value, aim in (
            ("MNIST's shape, 20,000 steps, 100", mnist, 185),
            ("CIFAR-10's shape, 24,000 steps, 84", cifar, 284),
        )
    ]
