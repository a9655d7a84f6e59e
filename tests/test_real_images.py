"""The main job on real images, cut to a size that tests can bear."""

import os
from dataclasses import replace

import pytest

from oblivio.bench import run as bench
from oblivio.bench.spec import Experiment, read
from oblivio.bench.store import Store
from oblivio.train import Recipe

pytestmark = pytest.mark.skipif("OBLIVIO_DATA" not in os.environ, reason="OBLIVIO_DATA is not set")


@pytest.mark.parametrize(
    ("data", "recipe", "least"),
    [
        ("mnist", Recipe(epochs=3, lr=0.1, batch_size=64, schedule="one_cycle"), 90),
        ("cifar10", Recipe(epochs=4, lr=0.05, batch_size=64, schedule="one_cycle"), 25),
    ],
)
def test_main_job_on_real_images(tmp_path, data, recipe, least):
    experiment = Experiment(
        data={"name": data, "train": 3000, "test": 1000},
        model={"name": "cnn", "channels": [8, 16], "hidden": 32},
        train=recipe,
        scenarios=({"name": "class_wise", "label": 1},),
        methods=({"name": "fine_tune", "recipe": {"epochs": 1, "lr": 0.05}},),
        seeds=1,
    ).resolved()
    store = Store(tmp_path)
    store.create()
    records = bench.run(experiment, store, jobs=1, tell=lambda _: None)
    scores = {record["cell"]["method"]["name"]: record["metrics"] for record in records}
    assert {record["status"] for record in records} == {"done"}
    assert scores["original"]["ta"] > least
    assert scores["original"]["ua"] < 100
    # A class that was never seen is never recognised, and an attack says so.
    assert scores["retrain"]["ua"] == 100
    assert scores["retrain"]["mia_efficacy"] > scores["original"]["mia_efficacy"]
    assert scores["retrain"]["ta"] > least
    assert all(250 < record["split"]["forget"] < 350 for record in records)


@pytest.mark.parametrize("name", ["gan-mnist", "gan-cifar10"])
def test_gans_of_real_images(tmp_path, name):
    """The whole experiment, with a few images, steps and channels."""
    whole = read(name, device="cpu")
    quick = {"steps": 4, "batch_size": 32}
    experiment = replace(
        whole,
        data={**whole.data, "train": 200, "test": 100, "validation": 0.1},
        model={**whole.model, "width": 4, "latent": 8},
        train=replace(whole.train, check_every=min(2, whole.train.check_every), **quick),
        scenarios=tuple({**s, "count": 20} if s.get("count") else s for s in whole.scenarios[:2]),
        methods=tuple(
            {**m, "recipe": {**m["recipe"], **quick, "steps": 8}} if "recipe" in m else m
            for m in whole.methods
        ),
        metrics=tuple(
            {"name": name, **({"samples": 100} if name != "d_score" else {})}
            for name in ("class_share", "frechet", "d_score")
        ),
        seeds=(0,),
    ).resolved()
    store = Store(tmp_path)
    store.create()
    records = bench.run(experiment, store, jobs=1, tell=lambda _: None)
    # So poor a GAN may not make the class at all, of which the cascade says so.
    assert all(
        record["status"] == "done" or "it never learned that class" in record["reason"]
        for record in records
    )
    done = [record["metrics"] for record in records if record["status"] == "done"]
    assert len(done) > len(records) / 2
    assert all(0 <= scores["d_auc"] <= 100 and scores["frechet"] > 0 for scores in done)
    assert len(list((tmp_path / "models").glob("judge-report.*"))) == 1
