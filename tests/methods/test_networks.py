"""Methods that look at single gradients take networks like those that are built in, but narrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers

import worlds
from oblivio.core import Method, Run, Split, unlearn
from oblivio.mask import zeros
from oblivio.methods.deepclean import DeepClean
from oblivio.methods.fisher_masking import FisherMasking
from oblivio.methods.lfssd import LFSSD
from oblivio.methods.ssd import SSD
from oblivio.models.vit import ViT
from oblivio.train import Recipe

ONCE = Recipe(epochs=1, lr=1e-3, batch_size=8, weight_decay=0.0)


def residual() -> nn.Module:
    """Two blocks of a ResNet: skip connections, and activations that are used twice, in place."""
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        BasicBlock(8, 8),
        BasicBlock(8, 16, stride=2, downsample=shortcut),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def plain() -> nn.Module:
    """The beginning of a VGG, with BatchNorm and a biased convolution before it."""
    return nn.Sequential(
        make_layers([8, "M", 16, "M"], batch_norm=True), nn.Flatten(), nn.Linear(256, 2)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": residual,
    "plain": plain,
    "transformer": lambda: ViT(depth=2, width=16, heads=2, hidden=16)((3, 16, 16), 2),
}


@pytest.mark.parametrize(
    "method",
    [DeepClean(recipe=ONCE), FisherMasking(recipe=ONCE), SSD(alpha=1.0), LFSSD(alpha=1.0)],
    ids=lambda method: type(method).__name__,
)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_is_taken(network: str, method: Method) -> None:
    data = worlds.pictures(6, 2, (3, 16, 16))
    torch.manual_seed(0)
    model = NETWORKS[network]()
    outcome = unlearn(method, model, Split.of(data, data.ids[:2]), Run.on("cpu"))
    told: Any = outcome.notes["explanation"]
    assert [row[0] for row in told["layers"]] == [name for name, _ in model.named_parameters()]
    assert sum(row[2] for row in told["layers"]) == sum(p.numel() for p in model.parameters())
    assert outcome.notes["changed"] == pytest.approx(
        sum(row[1] for row in told["layers"]) / sum(row[2] for row in told["layers"])
    )
    assert 0.001 < float(str(outcome.notes["changed"])) < 0.99
    for name, value in outcome.model.state_dict().items():
        assert bool(value.isfinite().all()), name
    assert zeros(outcome.model)[1] < 0.5
