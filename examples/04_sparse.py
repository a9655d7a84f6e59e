"""Prune first, then unlearn: does a sparse network forget a digit more easily than a dense one?

Handwritten digits, a small convolutional network, 95 % of its prunable weights removed by
magnitude. Both models forget the digit 3 by fine-tuning on the others, and both stand beside their
own retrained rival. One seed: `oblivio run sparse-digits` has five, and intervals.
"""

import torch

from oblivio import Origin, Pruned, Recipe, Run, Split, Trial, unlearn
from oblivio.data.sets.digits import Digits
from oblivio.methods.fine_tune import FineTune
from oblivio.methods.retrain import Retrain
from oblivio.metrics.accuracy import Accuracy
from oblivio.models.cnn import CNN
from oblivio.prune.magnitude import Magnitude

torch.set_num_threads(1)  # small networks are fastest so

digits = Digits()()
train, test = digits.train, digits.test
split = Split.of(train, train.ids[train.labels == 3])

origin = Origin(
    lambda: CNN(channels=(16, 32), hidden=64)((1, 8, 8), 10),
    Recipe(epochs=20, lr=0.05, batch_size=64),
    seed=0,
)
run = Run.on("cpu", seed=0, origin=origin)
dense = origin.make(train, run)

pruner = Magnitude(sparsity=0.95, rewind=1)
for method in (Retrain(), FineTune(Recipe(epochs=10, lr=0.2, batch_size=64))):
    name = type(method).__name__
    outcome = unlearn(method, dense, split, run)
    print("dense ", name, Accuracy()(Trial(dense, outcome.model, split, test), run))

    pruned = Pruned(pruner, method)
    sparse = pruned.prepare(dense, train, run)  # once, before anyone asks to forget
    outcome = unlearn(pruned, sparse, split, run)
    print("sparse", name, Accuracy()(Trial(sparse, outcome.model, split, test), run))
