"""What an experiment's model is, a classifier or a GAN, and what suits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from oblivio.adversarial import Adversarial
from oblivio.catalogue import find, names
from oblivio.generative import GAN
from oblivio.train import Recipe

Kind = Literal["classifier", "gan"]

METHODS: Mapping[Kind, str] = {"classifier": "methods", "gan": "gan"}
"""The family of the methods that work on a kind of model."""

PLURAL: Mapping[str, str] = {"classifier": "classifiers", "gan": "GANs", "any": "both"}

Table = Mapping[str, Any]


def recipe_of(model: Table, train: Table) -> type[Recipe] | type[Adversarial]:
    """What trains a model: what its class makes decides, or else whether it is trained by steps.

    Args:
        model: Its table; a class, or a user's factory, may say in `makes` what it makes.
        train: The settings of the training.

    Returns:
        The class of the recipe.

    Raises:
        ValueError: If there is no such model.
    """
    name = str(model.get("name"))
    usual = "gan" if ":" in name and "steps" in train else "classifier"
    made = getattr(find("models", name), "makes", usual)
    return Adversarial if made == "gan" else Recipe


def usual_metrics(kind: Kind) -> list[str]:
    """The metrics of such models that need not be asked for by name."""
    return [
        name
        for name in names("metrics")
        if judges(name) in (kind, "any") and not getattr(find("metrics", name), "on_request", False)
    ]


def judges(metric: str) -> str:
    """What a metric judges: "classifier", "gan", or "any"."""
    return getattr(find("metrics", metric), "of", "classifier")


def works_on(family: str, name: str) -> str:
    """What a name of a family is for, in a word, where there is more than one possibility.

    Returns:
        "classifiers", "GANs", "both" or nothing.

    Example:
        >>> works_on("methods", "fine_tune"), works_on("models", "dcgan"), works_on("data", "mnist")
        ('classifiers', 'GANs', '')
    """
    if family == "metrics":
        return PLURAL[judges(name)]
    if family == "models":
        return PLURAL[getattr(find("models", name), "makes", "classifier")]
    return next((PLURAL[kind] for kind, own in METHODS.items() if own == family), "")


def check_recipe(model: Table, recipe: Recipe | Adversarial) -> None:
    """See that the recipe trains what the model's class makes.

    Raises:
        ValueError: If it does not.
    """
    wanted = recipe_of(model, {"steps": 0} if isinstance(recipe, Adversarial) else {})
    if not isinstance(recipe, wanted):
        raise ValueError(
            f"train is a {type(recipe).__name__}, but the model {model['name']} is trained by "
            f"{wanted.__name__}."
        )


def check_made(kind: Kind, name: str, network: nn.Module) -> None:
    """See that a network is of the kind that the training is for.

    Raises:
        ValueError: If it is not.
    """
    if kind == "gan" and not isinstance(network, GAN):
        raise ValueError(
            f"model {name} makes a {type(network).__name__}, but what [train] trains by steps is a "
            "GAN: let it give an oblivio.GAN(generator, discriminator, latent), or train it by "
            "epochs."
        )
    if kind != "gan" and isinstance(network, GAN):
        raise ValueError(
            f"model {name} makes a GAN, which is trained by steps, not by epochs: give "
            "[train] steps = 5000."
        )


def of_classifiers(recipe: Recipe | Adversarial, who: str) -> Recipe:
    """The recipe, if it is one of classifiers.

    Args:
        recipe: An experiment's.
        who: Who can do nothing with GANs: how the error's sentence begins.

    Returns:
        The recipe.

    Raises:
        ValueError: If it is one of GANs.
    """
    if isinstance(recipe, Adversarial):
        raise ValueError(f"{who} works on classifiers, but the experiment's model is a GAN.")
    return recipe


def check_metrics(kind: Kind, metrics: Iterable[str]) -> None:
    """See that the metrics judge such models.

    Raises:
        ValueError: If one does not.
    """
    for name in metrics:
        if judges(name) not in (kind, "any"):
            raise ValueError(
                f"metrics {name} judges {PLURAL[judges(name)]}, but the experiment's models are "
                f"{PLURAL[kind]}; these are judged by {', '.join(usual_metrics(kind))}."
            )


def check_scenario(kind: Kind, scenario: str) -> None:
    """See that a scenario suits such models.

    Raises:
        ValueError: If it poisons what GANs learn from.
    """
    if kind == "gan" and hasattr(find("scenarios", scenario), "poison"):
        raise ValueError(
            f"scenarios {scenario}: whether its poison works is read off a classifier's answers, "
            "which a GAN does not give; ask for another scenario."
        )


def check_gan(pruners: Sequence[Table], shadows: int) -> None:
    """See that nothing is asked for that only classifiers have.

    Args:
        pruners: Tables of them.
        shadows: How many shadow models are asked for.

    Raises:
        ValueError: If something is.
    """
    if pruners:
        raise ValueError(f"pruners {pruners[0].get('name')}: GANs are not pruned; leave it out.")
    if shadows:
        raise ValueError(
            "evidence: what shadow models are asked is how sure classifiers are, which a GAN does "
            "not say; leave out [evidence]."
        )
