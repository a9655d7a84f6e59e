"""Harmful classes forgotten and their model transferred, as an experiment; and ImageNet's file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18
from torchvision.transforms.functional import to_pil_image

from oblivio.bench import run as bench
from oblivio.bench.spec import Experiment, experiments, read
from oblivio.bench.store import Store
from oblivio.train import Recipe

HALF = {"name": "part", "classes": [5, 6, 7, 8, 9], "train": 30, "test": 60}
SHORT = {"epochs": 2, "batch_size": 32}
HARMFUL = {"name": "harmful", "target": HALF, "repeats": 1, "recipe": SHORT, "probe": SHORT}
SMALL = Experiment(
    name="small",
    data={"name": "part", "classes": [0, 1, 2, 3, 4], "train": 200, "test": 100},
    model={"name": "mlp", "hidden": [16]},
    train=Recipe(epochs=2, lr=0.05, batch_size=64),
    scenarios=(HARMFUL, {**HARMFUL, "by": "gradient"}, {**HARMFUL, "by": "chance"}),
    methods=({"name": "fine_tune", "recipe": SHORT},),
    metrics=({"name": "transfer", "target": HALF, "probe": SHORT, "full": SHORT},),
    seeds=1,
)


def test_an_experiment_notes_what_it_forgets_once(tmp_path: Path) -> None:
    experiment, store = SMALL.resolved(), Store(tmp_path)
    store.create()
    bench.check(experiment)
    records = bench.run(experiment, store, jobs=1, tell=lambda _: None)
    assert [record["status"] for record in records] == ["done"] * 9
    for scenario in experiment.scenarios:
        mine = [r for r in records if r["cell"]["scenario"] == scenario]
        assert len({record["split"]["digest"] for record in mine}) == 1
        noted = [r for r in mine if "forgotten_classes" in r["notes"]]
        assert [r["cell"]["method"]["name"] for r in noted] == ["original"]
        (gone,) = noted[0]["notes"]["forgotten_classes"]
        harm = noted[0]["notes"].get(f"harm_{scenario['by']}", {str(gone): 0.0})
        assert max(harm, key=harm.get) == str(gone)
        # The control does not depend on what was forgotten, nor on the method.
        assert len({r["metrics"]["transfer_scratch"] for r in mine}) == 1
    assert json.loads(json.dumps(records)) == records


def test_a_target_of_another_shape_is_said_before_anything_is_trained() -> None:
    other = {**HARMFUL, "target": {**HALF, "size": 9}}
    with pytest.raises(ValueError, match=r"The target's inputs are 1×9×9.*size = 8, channels = 1"):
        bench.check(replace(SMALL, scenarios=(other,)).resolved())


@pytest.mark.parametrize("name", [name for name in experiments() if name.startswith("transfer")])
def test_experiments_judge_by_the_target_they_rank_for(name: str) -> None:
    """Else classes would be ranked for another task than they are forgotten for."""
    experiment = read(name, device="cpu")
    (metric,) = (m for m in experiment.metrics if m["name"] == "transfer")
    targets = [s["target"] for s in experiment.scenarios if s["name"] == "harmful"]
    assert targets
    assert all(target == metric["target"] for target in targets)


def test_the_file_for_imagenet_runs_on_a_few_images_with_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBLIVIO_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(0)
    for place in ("imagenet/train", "imagenet/val", "pets/train", "pets/test"):
        for label in "abc":
            (tmp_path / place / label).mkdir(parents=True)
            for i in range(2):
                image = to_pil_image(torch.rand(3, 36, 36, generator=draw))
                image.save(tmp_path / place / label / f"{i}.png")
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    text = experiments()["transfer-imagenet"].read_text(encoding="utf-8")
    text = text.replace("workers = 8", "size = 32").replace("worst = 100", "worst = 1")
    text = text.replace("epochs = 90", "epochs = 1").replace("epochs = 20", "epochs = 1")
    text = text.replace("epochs = 2,", "epochs = 1,")
    (tmp_path / "tiny.toml").write_text(text, encoding="utf-8")
    experiment, store = read(tmp_path / "tiny.toml", device="cpu"), Store(tmp_path / "out")
    experiment = replace(
        experiment, scenarios=experiment.scenarios[:1], methods=experiment.methods[::2]
    )
    store.create()
    records = bench.run(experiment, store, jobs=1, tell=lambda _: None)
    assert [(r["status"], r["reason"]) for r in records] == [("done", None)] * 2
    assert all(0 <= record["metrics"]["transfer_full"] <= 100 for record in records)
    assert set(records[0]["notes"]["harm_gradient"]) == {"0", "1", "2"}
