"""Data that are not images: patients ask to be forgotten by a classifier of tumours."""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from oblivio import Origin, Recipe, Run, Trial, as_data, unlearn
from oblivio.methods.gradient_ascent import GradientAscent
from oblivio.methods.original import Original
from oblivio.methods.retrain import Retrain
from oblivio.metrics.accuracy import Accuracy
from oblivio.scenarios.random import Random

torch.set_num_threads(1)  # small networks are fastest so

table, diagnosis = load_breast_cancer(return_X_y=True)
table = (table - table.mean(0)) / table.std(0)
x, y = torch.tensor(table, dtype=torch.float32), torch.tensor(diagnosis)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, test = as_data((x[order[:400]], y[order[:400]])), as_data((x[order[400:]], y[order[400:]]))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))


origin = Origin(network, Recipe(epochs=60, lr=0.05, batch_size=32), seed=0)
run = Run.on("cpu", origin=origin)
model = origin.make(train, run)
split = Random(count=80)(train, seed=0)

print(f"{len(split.forget)} of {len(train)} patients are to be forgotten (split {split.digest})")
ascent = GradientAscent(Recipe(epochs=20, lr=0.3, batch_size=80, weight_decay=0.0))
for method in (Original(), Retrain(), ascent):
    outcome = unlearn(method, model, split, run)
    scores = Accuracy()(Trial(model, outcome.model, split, test), run)
    rounded = {name: round(value, 1) for name, value in scores.items()}
    print(f"{type(method).__name__:15}", rounded, f"{outcome.seconds:.3f} s", dict(outcome.notes))
