"""Many small models at once: stacked weights, one step for all.

`fit_many` is `fit` of each model and `make_many` is `Origin.make` of each, to rounding. What cannot
be trained at once is trained one after another.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oblivio.core import Data, Origin, Outputs, Run, derive, predict
from oblivio.data.arrays import Arrays, batch_starts
from oblivio.fleet.packing import agrees, alike, pack, packable
from oblivio.fleet.together import Job, fit_together, memory
from oblivio.shadow import Answers, answers
from oblivio.train import Recipe, fit

LEAST = 8
"""A model of which fewer fit the memory at once is trained alone, which is then no slower."""


def fit_many(
    models: Sequence[nn.Module], data: Sequence[Data], recipe: Recipe, runs: Sequence[Run]
) -> list[nn.Module]:
    """Train many models in place, each on its own data: `fit` of each, to rounding.

    Models that are alike, on equally many examples, are trained together where they can be packed
    and are small enough, so many at a time as `MEMORY` allows; all others one after another. Each
    run is told how many were trained `together`.

    Args:
        models: Distinct ones.
        data: Each model's.
        recipe: How.
        runs: Each model's; its seed decides the order of the data and the augmentation.

    Returns:
        The same modules, in eval mode.

    Raises:
        FloatingPointError: If the loss of a model is no longer a finite number at the end of an
            epoch; models that were being trained together with it are left as they were.
        ValueError: If there are not as many models, data and runs, one model is given twice, or a
            mask does not fit.
    """
    _same_length(models=models, data=data, runs=runs)
    if len({id(model) for model in models}) < len(models):
        raise ValueError("A model is given twice: give copies, each is trained on its own data.")
    for k in _fit_packed(models, data, recipe, runs):
        with _naming(k):
            fit(models[k], data[k], recipe, runs[k])
        runs[k].note(together=1)
    return list(models)


def make_many(origins: Sequence[Origin], data: Sequence[Data], run: Run) -> list[nn.Module]:
    """Build and train many models: `origin.make(data, run)` of each, to rounding.

    Args:
        origins: If the `train` of all is the same `Recipe`, they are trained as by `fit_many`.
        data: Each model's.
        run: Where.

    Returns:
        The trained networks, in eval mode, on the run's device.

    Raises:
        FloatingPointError: As `fit_many`.
        ValueError: If there are not as many origins as data.
    """
    _same_length(origins=origins, data=data)
    made: dict[int, nn.Module] = {}
    alone: list[int] = list(range(len(origins)))
    recipe = origins[0].train if origins else None
    if isinstance(recipe, Recipe) and all(origin.train == recipe for origin in origins):
        made = {k: origin.fresh().to(run.device) for k, origin in enumerate(origins)}
        here = [own.to(run.device) for own in data]
        own = replace(run, mask=None, beside=None)
        runs = [replace(own, seed=derive(origin.seed, "order")) for origin in origins]
        alone = _fit_packed(list(made.values()), here, recipe, runs)
    for k in alone:
        with _naming(k):
            made[k] = origins[k].make(data[k], run)
        run.note(together=1)
    return [made[k] for k in range(len(origins))]


def predict_many(models: Sequence[nn.Module], data: Data) -> Float[Tensor, "models n classes"]:
    """The logits of each model over the same data: `predict` of each.

    One after another, as they take about a thousandth of the time that training takes.

    Args:
        models: They stay as they are.
        data: What to look at.

    Returns:
        Logits in float32, on the CPU.
    """
    return torch.stack([predict(model, data).logits for model in models])


def answers_many(models: Sequence[nn.Module], data: Data) -> Answers:
    """The answers of many models on the same data, one row for each model."""
    labels = data.labels.cpu()
    every = predict_many(models, data)
    return Answers.joined([answers(Outputs(logits, labels)) for logits in every])


def _same_length(**given: Sequence[object]) -> None:
    if len({len(things) for things in given.values()}) > 1:
        counts = " and ".join(f"{len(things)} {name}" for name, things in given.items())
        raise ValueError(f"There are {counts}; there must be as many of each.")


@contextmanager
def _naming(place: int) -> Generator[None]:
    """Say which model it was."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"Model {place}: {error}") from None


# --- Which are trained together -----------------------------------------------------------------


def _fit_packed(
    models: Sequence[nn.Module], data: Sequence[Data], recipe: Recipe, runs: Sequence[Run]
) -> list[int]:
    """Train in place what can be trained together.

    Returns:
        The places of the models that cannot.
    """
    groups: dict[object, list[Job]] = {}
    kinds: list[nn.Module] = []
    alone: list[int] = []
    for k, (model, own, run) in enumerate(zip(models, data, runs, strict=True)):
        usual = run.fabric.world_size == 1 and not run.compile
        if usual and type(own) is Arrays and packable(model):
            key = (_kind(model, kinds), *_kind_of_case(own, run))
            groups.setdefault(key, []).append(Job(k, model, own, run))
        else:
            alone.append(k)
    for jobs in groups.values():
        most = _most(jobs, recipe)
        if most < 2:
            alone += [job.place for job in jobs]
            continue
        parts = -(-len(jobs) // most)
        for i in range(parts):
            fit_together(jobs[i * len(jobs) // parts : (i + 1) * len(jobs) // parts], recipe)
    return sorted(alone)


def _kind(model: nn.Module, kinds: list[nn.Module]) -> int:
    """The number of the first network that a model is like, itself if there is none."""
    for number, other in enumerate(kinds):
        if alike(model, other):
            return number
    kinds.append(model)
    return len(kinds) - 1


def _kind_of_case(data: Arrays, run: Run) -> tuple[object, ...]:
    """What must be the same for models to be trained together, besides their network."""
    x, masked = data.inputs, None if run.mask is None else tuple(run.mask.keep)
    kind = (x.shape, x.dtype, x.device, data.augment, data.mean, data.std)
    return *kind, id(run.fabric), masked


def _most(jobs: Sequence[Job], recipe: Recipe) -> int:
    """How many to train at a time; 1 where packing does not pay, or would not be the same."""
    data, device = jobs[0].data, jobs[0].run.device
    if len(jobs) < 2 or len(data) == 0:
        return 1
    few = torch.arange(min(len(data), 8))
    models = [job.model.to(device) for job in jobs[:2]]
    samples = [jobs[0].data.take(few), jobs[1].data.take(len(data) - 1 - few)]
    inputs = [data.made(sample.inputs, None, None).to(device) for sample in samples]
    if inputs[0].is_floating_point():  # as a run of another precision would feed them
        inputs = [x.to(next(models[0].parameters()).dtype) for x in inputs]
    if not agrees(models, inputs):
        return 1
    batch = -(-len(data) // len(batch_starts(len(data), recipe.batch_size)))
    most = memory(device) // _bytes(models[0], inputs[0], batch)
    return most if most >= LEAST else 1


def _bytes(model: nn.Module, inputs: Tensor, batch: int) -> int:
    """What training a model takes: weights, gradient, two moments, and what a step keeps."""
    weights, kept = sum(p.nbytes for p in model.parameters()), 0

    def count(x: Tensor) -> Tensor:
        nonlocal kept
        kept += x.nbytes
        return x

    with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x), torch.enable_grad():
        pack([model]).train()(inputs)
    return 4 * weights + max(0, kept - weights) * batch // len(inputs)
