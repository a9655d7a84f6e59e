"""Forget twenty images from a network that is not ours, and see it beside retraining."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from oblivio import Origin, Recipe, Run, Split, Trial, as_data, unlearn
from oblivio.methods.fine_tune import FineTune
from oblivio.methods.retrain import Retrain
from oblivio.metrics.accuracy import Accuracy
from oblivio.metrics.membership import Membership

torch.set_num_threads(1)  # small networks are fastest so

# Your data: any pair of tensors, or any map-style Dataset of (input, label).
images, labels = load_digits(return_X_y=True)
inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
train, test = as_data((inputs[:1400], targets[:1400])), as_data((inputs[1400:], targets[1400:]))


# Your network, and how it was trained. Retraining needs both; other methods need neither.
def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))


origin = Origin(network, Recipe(epochs=30, lr=0.05, batch_size=64), seed=0)
run = Run.on("cpu", seed=0, origin=origin)
model = origin.make(train, run)

# The request: these twenty images.
split = Split.of(train, list(range(100, 120)))

for method in (Retrain(), FineTune(Recipe(epochs=5, lr=0.05, batch_size=64))):
    outcome = unlearn(method, model, split, run)
    trial = Trial(model, outcome.model, split, test, outcome.seconds)
    scores = {**Accuracy()(trial, run), **Membership()(trial, run)}
    print(type(method).__name__, {name: round(value, 1) for name, value in scores.items()})
