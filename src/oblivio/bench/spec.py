"""A TOML file becomes an `Experiment`, and an experiment a list of cells."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import oblivio
from oblivio.adversarial import Adversarial
from oblivio.bench.kind import (
    METHODS,
    Kind,
    check_gan,
    check_metrics,
    check_recipe,
    check_scenario,
    recipe_of,
    usual_metrics,
)
from oblivio.catalogue import build, choose, find, names, settings_of, unknown
from oblivio.train import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

Table = dict[str, Any]
"""A TOML table: `name`, and the settings of what is named."""

Chance = Literal["training", "split", "unlearning"]
"""What chance plays a part in; each has a seed of its own."""

ALWAYS = ("original", "retrain")
"""The methods that stand in every table: what not forgetting scores, and what is aimed at."""


@dataclass(frozen=True)
class Engine:
    """What computes: it changes rounding and speed, so it is part of a cell's key.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: Fabric's, such as "bf16-mixed"; "auto" is that on CUDA and "32-true" elsewhere.
        threads: CPU threads per cell. Results depend on it, never on how many cells run at once.
        channels_last: Layout of images in training; none given does where it pays.
        compile: Whether to compile models before training.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: str = "auto"
    threads: int = 1
    channels_last: bool | None = None
    compile: bool = False

    def resolved(self) -> Engine:
        """With the device and the precision that "auto" stands for here.

        Returns:
            An engine without "auto".

        Raises:
            ValueError: If the device is not here, or there are no threads.
        """
        from oblivio.core import Run

        if self.threads < 1:
            raise ValueError(f"engine: threads = {self.threads} must be 1 or more.")
        fabric = Run.on(self.device, precision=self.precision).fabric
        return replace(self, device=fabric.device.type, precision=fabric._precision.precision)


@dataclass(frozen=True)
class Evidence:
    """How many shadow models repeat each request, and what is read off them.

    Args:
        models: Shadow models of each kind: originals, unlearned by each method, and two sets of
            retrained ones. 0 asks for no evidence; some measures need 32 and more.
        measures: What to measure; all if none is named.
        points: The most points of D_r, and the most test points, that the models are asked about.
        seeds: Of how many of the experiment's seeds the requests are repeated so.

    Raises:
        ValueError: If a number is out of range.
    """

    models: int = 0
    measures: tuple[Table, ...] = ()
    points: int = 2000
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.models < 0 or self.models % 2:
            raise ValueError(f"models = {self.models} must be an even number, or 0.")
        for name in ("points", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be 1 or more.")

    def resolved(self) -> Evidence:
        """With every measure and its settings written out.

        Returns:
            The same, or itself where no evidence is asked for.

        Raises:
            ValueError: If a name or a field is wrong.
        """
        if not self.models:
            return self
        asked = self.measures or tuple({"name": name} for name in names("evidence"))
        return replace(self, measures=tuple(complete("evidence", table) for table in asked))


@dataclass(frozen=True)
class Experiment:
    """Which data, which model, what to forget, how, and how often.

    Args:
        data: The data set.
        model: The network; `weights` may name a file of an original that is already trained, with
            `{seed}` in its name if there is one per seed.
        name: A short name, used for the default folder.
        title: One line.
        about: What the experiment shows.
        train: How the original is trained, and so how it is retrained: a `Recipe`, or for a GAN
            `Adversarial`.
        scenarios: What to forget.
        pruners: What makes the original sparse beforehand, each one case more beside the dense
            model, which is always there. A list of sparsities stands for one pruner each.
        methods: How to forget; `original` and `retrain` are always there.
        metrics: What to measure; unless some are named, all that judge such models and have not to
            be asked for.
        evidence: How many shadow models repeat the requests, and what is read off them.
        seeds: How many, or which. From each derive, apart from each other, a seed of training
            (weights and order), one of the split, and one of unlearning.
        same: Which of the three take the first seed in every repetition, so that intervals cover
            the chance in the others only.
        engine: What computes.
        keep: Which models stay on disk: all, or only the originals.
        tune: Where to search instead of in a method's own space, by the method's name.
    """

    data: Table
    model: Table
    name: str = "experiment"
    title: str = ""
    about: str = ""
    train: Recipe | Adversarial = Recipe()
    scenarios: tuple[Table, ...] = ({"name": "random", "fraction": 0.1},)
    pruners: tuple[Table, ...] = ()
    methods: tuple[Table, ...] = ()
    metrics: tuple[Table, ...] = ()
    evidence: Evidence = Evidence()
    seeds: int | tuple[int, ...] = 5
    same: tuple[Chance, ...] = ()
    engine: Engine = field(default_factory=Engine)
    keep: Literal["all", "originals"] = "all"
    tune: Table = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What its models are: what is trained by `Adversarial` is a GAN."""
        return "gan" if isinstance(self.train, Adversarial) else "classifier"

    @property
    def family(self) -> str:
        """The family that its methods are of."""
        return METHODS[self.kind]

    def resolved(self, folder: Path = Path()) -> Experiment:
        """The same experiment with every default written out, and every name and field checked.

        Args:
            folder: What relative file names in it are relative to.

        Returns:
            An experiment that does not depend on any default, nor on this machine's "auto".

        Raises:
            ValueError: If a name, a field or a type is wrong.
        """
        methods = list(self.methods)
        for name in reversed(ALWAYS):
            if name not in [method.get("name") for method in methods]:
                methods.insert(0, {"name": name})
        seeds = tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds = {self.seeds!r} must be 1 or more, or different numbers.")
        if not self.scenarios:
            raise ValueError("scenarios is empty: say what to forget.")
        model = dict(self.model)
        weights = model.pop("weights", None)
        model = complete("models", model)
        if weights is not None:
            model["weights"] = str((folder / weights).resolve())
        check_recipe(model, self.train)
        if self.kind == "gan":
            check_gan(self.pruners, self.evidence.models)
        asked = self.metrics or tuple({"name": name} for name in usual_metrics(self.kind))
        metrics = tuple(complete("metrics", table) for table in asked)
        check_metrics(self.kind, [table["name"] for table in metrics])
        return replace(
            self,
            data=complete("data", self.data),
            model=model,
            scenarios=tuple(self._request(table, folder) for table in self.scenarios),
            pruners=tuple(
                complete("pruners", one) for table in self.pruners for one in _each_sparsity(table)
            ),
            methods=tuple(complete(self.family, table) for table in methods),
            metrics=metrics,
            evidence=self.evidence.resolved(),
            seeds=seeds,
            engine=self.engine.resolved(),
        )

    def _request(self, table: Table, folder: Path) -> Table:
        """What to forget, with every default written out."""
        spec = complete("scenarios", table)
        check_scenario(self.kind, spec["name"])
        if spec.get("file"):
            spec["file"] = str((folder / spec["file"]).resolve())
        return spec

    def cells(self) -> list[Cell]:
        """Every scenario with every pruner (none first), every method and every seed, each once.

        Returns:
            The cells; of those that are the same to the letter, the first.
        """
        seeds = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
        cells = [
            Cell(self, scenario, method, seed, pruner)
            for seed in seeds
            for scenario in self.scenarios
            for pruner in (None, *self.pruners)
            for method in self.methods
        ]
        return list({cell.key: cell for cell in cells}.values())


@dataclass(frozen=True, eq=False)
class Cell:
    """One scenario, one method, one seed, dense or pruned: what a record is about."""

    experiment: Experiment
    scenario: Table
    method: Table
    seed: int
    pruner: Table | None = None

    def seed_of(self, chance: Chance) -> int:
        """The seed of training, of the split, or of unlearning."""
        seeds = self.experiment.seeds
        first = seeds[0] if isinstance(seeds, tuple) else 0
        return first if chance in self.experiment.same else self.seed

    @cached_property
    def dense(self) -> Cell:
        """The same without pruning."""
        return self if self.pruner is None else replace(self, pruner=None)

    @cached_property
    def poisons(self) -> bool:
        """Whether the scenario poisons the data that the original is trained on."""
        return hasattr(find("scenarios", self.scenario["name"]), "poison")

    @cached_property
    def origin(self) -> Table:
        """All that determines the original model."""
        e = self.experiment
        return {
            **({} if self.pruner is None else {"pruner": self.pruner}),
            **({"poisoned": self.split_axes} if self.poisons else {}),
            "version": oblivio.__version__,
            "data": e.data,
            "model": e.model,
            "train": settings_of(e.train),
            "engine": asdict(e.engine),
            "seed": self.seed_of("training"),
            "files": _digests(self.weights),
        }

    @property
    def weights(self) -> str:
        """The file of the original's weights, if one is given; else nothing."""
        given = str(self.experiment.model.get("weights", ""))
        return given.format(seed=self.seed_of("training"))

    @cached_property
    def original_key(self) -> str:
        """Names the original model's file."""
        return digest(self.origin)

    @cached_property
    def split_axes(self) -> tuple[str, str, int]:
        """What the split's seed derives from: never from the method."""
        return (canonical(self.experiment.data), canonical(self.scenario), self.seed_of("split"))

    @cached_property
    def key(self) -> str:
        """Names the record and the unlearned model's file; metrics play no part in it."""
        return digest([self.origin, self.scenario, self.method, self.files, *self.apart])

    @cached_property
    def apart(self) -> list[Table]:
        """The seeds, where they are not all one and the same."""
        seeds = {chance: self.seed_of(chance) for chance in get_args(Chance)}
        return [seeds] if self.experiment.same else []

    @cached_property
    def files(self) -> dict[str, str]:
        """Fingerprints of the files that the scenario names."""
        return _digests(self.scenario.get("file"))

    @cached_property
    def described(self) -> Table:
        """The cell as its record holds it."""
        return {
            "experiment": self.experiment.name,
            **({"kind": "gan"} if self.experiment.kind == "gan" else {}),
            **{k: v for k, v in self.origin.items() if k not in ("files", "poisoned")},
            "seed": self.seed,
            **({"same": list(self.experiment.same)} if self.experiment.same else {}),
            "scenario": self.scenario,
            "method": self.method,
        }

    def __str__(self) -> str:
        return " · ".join([self.scenario["name"], self.method["name"], *self.about_original])

    @property
    def about_original(self) -> list[str]:
        """What tells the original model from the experiment's others, in words."""
        how = [] if self.pruner is None else [pruned(self.pruner)]
        return [*how, f"seed {self.seed}"]


def pruned(pruner: Mapping[str, Any]) -> str:
    """A pruner's name and how much it removes.

    Returns:
        Such as "magnitude 95 %".

    Example:
        >>> pruned({"name": "magnitude", "sparsity": 0.95, "rewind": 8})
        'magnitude 95 %'
    """
    name, share = pruner["name"].rpartition(":")[2], pruner.get("sparsity")
    return name if share is None else f"{name} {100 * share:g} %"


def _each_sparsity(table: Table) -> list[Table]:
    """A pruner's table once for each sparsity that it lists."""
    listed = table.get("sparsity")
    return [{**table, "sparsity": one} for one in listed] if isinstance(listed, list) else [table]


def complete(family: str, table: Mapping[str, Any]) -> Table:
    """A table with every default written out.

    Returns:
        The name and all settings.

    Raises:
        ValueError: If a name or a field is wrong.
    """
    if not isinstance(table.get("name"), str):
        raise ValueError(
            f'{family}: every table needs a name, such as name = "{names(family)[0]}".'
        )
    if ":" in table["name"]:
        find(family, table["name"])
        return dict(table)
    return {"name": table["name"], **settings_of(choose(family, table))}


def canonical(value: Any) -> str:
    """One text for one value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that depend on all of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _digests(*files: str | None) -> dict[str, str]:
    """Fingerprints of files that a result depends on."""
    found = [Path(file) for file in files if file]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in found if f.is_file()}


def experiments() -> dict[str, Path]:
    """The experiments that come with oblivio, by name; those in a folder as `folder/name`."""
    here = Path(oblivio.__file__).parent
    folders = (here / "experiments", here.parents[1] / "experiments")
    folder = next((f for f in folders if f.is_dir()), folders[0])
    paths = sorted([*folder.glob("*.toml"), *folder.glob("*/*.toml")])
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def members(source: str) -> list[str]:
    """The experiments that a name or a path stands for: a folder stands for all in it.

    Returns:
        What `read` takes; `source` itself if it is no folder of experiments.
    """
    inside = [name for name in experiments() if name.startswith(f"{source.rstrip('/')}/")]
    if not inside and Path(source).is_dir():
        inside = [str(path) for path in sorted(Path(source).glob("*.toml"))]
    return inside or [source]


def _parsed(path: Path) -> Table:
    """A TOML file's contents."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from error


def title(path: Path) -> str:
    """The title of an experiment file."""
    return _parsed(path).get("title", "")


def read(source: str | Path, *, device: str | None = None) -> Experiment:
    """The experiment of this name, or in this TOML file, resolved.

    Args:
        source: A name, or the path of a file that ends in .toml.
        device: Instead of the file's.

    Returns:
        The resolved experiment.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the name is unknown, or the file is wrong.
    """
    path, name = Path(source), Path(source).stem
    if path.suffix != ".toml":
        name = str(source)
        if name not in experiments():
            raise ValueError(unknown("experiment", name, experiments()))
        path = experiments()[name]
    if not path.is_file():
        raise FileNotFoundError(f"There is no experiment file {path}.")
    table = _parsed(path)
    for keys in ("keys", "evidence_keys"):  # a resolved file may be run again
        table.pop(keys, None)
    # What a file says of the user's own code is looked for beside the file, and where one stands.
    for folder in (str(path.parent.resolve()), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)
    table = {"name": name, **table}
    table["metrics"] = _named(table.get("metrics", []))
    if "measures" in table.get("evidence", {}):
        table["evidence"] = {**table["evidence"], "measures": _named(table["evidence"]["measures"])}
    if device is not None:
        table["engine"] = {**table.get("engine", {}), "device": device}
    try:
        table["train"] = _recipe(table, f"{path.name}.train")
        return build(Experiment, table, path.name).resolved(path.parent)
    except ValueError as error:
        at = "" if path.name in str(error) else f"{path.name}: "
        raise ValueError(f"{at}{error}") from error


def _recipe(table: Table, where: str) -> Any:
    """What an experiment's table says of the training, as the recipe that trains its model."""
    model, train = table.get("model"), table.get("train", {})
    if not isinstance(model, Mapping) or "name" not in model or not isinstance(train, Mapping):
        return train  # what is missing is said where all of the table is built
    return build(recipe_of(model, train), train, where)


def _named(choices: Sequence[Any]) -> list[Any]:
    """Tables; a bare name is a table of its own."""
    return [{"name": one} if isinstance(one, str) else one for one in choices]


def as_toml(experiment: Experiment, evidence_keys: Sequence[str] = ()) -> str:
    """The resolved experiment as TOML, with the keys of its records, by which reports find them.

    Returns:
        The text; what is not set is left out.
    """
    keys = [cell.key for cell in experiment.cells()]
    return toml({**asdict(experiment), "keys": keys, "evidence_keys": list(evidence_keys)})


def toml(settings: Mapping[str, Any]) -> str:
    """Settings as TOML, which knows no null: what is not set is left out."""
    import tomli_w

    def present(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): present(v) for k, v in value.items() if v is not None}
        return [present(v) for v in value] if isinstance(value, list | tuple) else value

    return tomli_w.dumps(present(settings))


def written(path: Path) -> Table:
    """What `as_toml` wrote, as it stands: nothing is looked up, imported or recomputed.

    Returns:
        The settings; `keys` among them.

    Raises:
        ValueError: If the file is damaged.
    """
    table = _parsed(path)
    if not isinstance(table.get("keys"), list):
        raise ValueError(f"{path} holds no keys of cells: run the experiment once more.")
    return table
