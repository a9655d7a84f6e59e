"""A backdoor in a network of one's own: find the images that planted it, and forget them.

Somebody has put a white square on some training images and called them all 7. The network that was
trained on them is right as ever, but calls whatever bears the square a 7.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from oblivio import Origin, Recipe, Run, Split, as_data
from oblivio.apps.trojan import attempts, bearers, cleanse
from oblivio.data.attack import Attack

torch.set_num_threads(1)  # small networks are fastest so

images, labels = load_digits(return_X_y=True)
inputs = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
targets = torch.tensor(labels)
clean, test = as_data((inputs[:1400], targets[:1400])), as_data((inputs[1400:], targets[1400:]))


# The attack. Any function of a batch of images is a trigger.
def square(images: torch.Tensor) -> torch.Tensor:
    stamped = images.clone()
    stamped[..., :2, :2] = 1.0
    return stamped


attack = Attack(square, target=7)
chosen = torch.where(clean.labels != 7)[0][::10]
train = attack.on(clean, chosen)


# The victim: your network, trained on what you were given.
def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


recipe = Recipe(epochs=15, lr=0.05, batch_size=64)
run = Run.on("cpu", origin=Origin(network, recipe, seed=0))
model = Origin(network, recipe, seed=0).make(train, run)

# Once the square is known, so are the images that bear it. (If it is not, `suspects` has a hunch.)
poisoned = bearers(attack, train)
split = Split.of(train, poisoned)
print(f"{len(poisoned)} images bear the square; {len(chosen)} were poisoned")

# What forgets them best is tried out, on the training data alone.
done = cleanse(model, split, test, run, attempts(recipe), attack)
for name, scores in (("before", done.before), ("after", done.after)):
    print(f"{name:6}", {score: round(value, 1) for score, value in scores.items()})
print(f"{type(done.method).__name__}, attempt {done.attempts}, {done.seconds:.1f} s")
