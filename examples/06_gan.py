"""A GAN of one's own forgets a class, beside a GAN that never saw it.

A generator and a discriminator learn handwritten digits; then every 3 is to go. How many of a
thousand generated images show a 3 is said by a classifier of real digits.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from oblivio import GAN, Adversarial, Origin, Run, Split, Trial, as_data, unlearn
from oblivio.gan.cascade import Cascade
from oblivio.gan.original import Original
from oblivio.gan.retrain import Retrain
from oblivio.metrics.class_share import ClassShare

torch.set_num_threads(1)  # small networks are fastest so

# Your data: images in [-1, 1], as a generator that ends in tanh makes them.
pixels, labels = load_digits(return_X_y=True)
images = torch.tensor(pixels / 8 - 1, dtype=torch.float32).view(-1, 1, 8, 8)
targets = torch.tensor(labels)
train, test = as_data((images[:1400], targets[:1400])), as_data((images[1400:], targets[1400:]))


# Your players. One makes images of latents (n, 16), the other gives a logit for each image; the
# features that this one returns beside it do no harm.
class Generator(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            *(nn.Linear(16, 128), nn.BatchNorm1d(128), nn.ReLU()),
            *(nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU()),
            *(nn.Linear(128, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))),
        )


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Flatten(), nn.Linear(64, 128), nn.LeakyReLU(0.2)),
            *(nn.Linear(128, 128), nn.LeakyReLU(0.2)),
        )
        self.logit = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return self.logit(features), features


def pair() -> GAN:
    return GAN(Generator(), Discriminator(), latent=16)


# How it was trained. Retraining needs it; the cascade would do without.
origin = Origin(pair, Adversarial(steps=1000, lr=1e-3, average=0.99), seed=0)
run = Run.on("cpu", seed=0, origin=origin)
model = origin.make(train, run)

# What can be done before anyone asks: a classifier by which the cascade tells what is generated.
cascade = Cascade(recipe=Adversarial(steps=200, lr=1e-3, average=0.99))
cascade.prepare(model, train, run)

# The request: every 3.
split = Split.of(train, train.ids[train.labels == 3])

for name, method in (("before", Original()), ("cascade", cascade), ("retrained", Retrain())):
    outcome = unlearn(method, model, split, run)
    trial = Trial(model, outcome.model, split, test, outcome.seconds, notes=outcome.notes)
    share = ClassShare(samples=1000)(trial, run)["class_share"]
    print(f"{name:9} {share:4.1f} % of the images show a 3, after {outcome.seconds:.1f} s")
