"""Networks by name build what they say, and weights are loaded or refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import laws
from oblivio.catalogue import find, names
from oblivio.core import Origin
from oblivio.models import factory, load_weights
from oblivio.train import Recipe

CLASSIFIERS = [name for name in names("models") if not hasattr(find("models", name), "makes")]

SHAPES = [
    *((name, (3, 32, 32)) for name in CLASSIFIERS),
    *((name, shape) for name in ("mlp", "cnn", "resnet18") for shape in ((1, 28, 28), (1, 8, 8))),
]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=str)
def test_network_gives_one_row_of_logits_per_example(name: str, shape: tuple[int, ...]) -> None:
    """From a factory that is a function of the seed alone, and leaves the random state alone."""
    origin = Origin(factory({"name": name}, shape, 7), Recipe(epochs=1), seed=3)
    with laws.random_state(1), laws.untouched_randomness():
        model = origin.fresh().eval()
    x = torch.randn(2, *shape)
    logits = model(x)
    assert logits.shape == (2, 7)
    assert bool(logits.isfinite().all())
    # Eval mode looks at each example alone.
    torch.testing.assert_close(model(x[:1]), logits[:1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", names("models"))
def test_fresh_is_a_function_of_the_seed(name: str) -> None:
    """Every randomly drawn tensor follows the seed: with another one, it differs."""
    build = factory({"name": name}, (3, 32, 32), 10)
    with laws.random_state(1):
        one = Origin(build, Recipe(), 0).fresh().state_dict()
    with laws.random_state(2):
        same, other = (Origin(build, Recipe(), seed).fresh().state_dict() for seed in (0, 1))
    laws.assert_same_state(one, same)
    for key, value in one.items():
        if value.ndim > 1:
            assert not torch.equal(value, other[key]), key


@pytest.mark.parametrize(
    ("spec", "shape", "count"),
    [
        ({"name": "resnet18"}, (3, 32, 32), 11_173_962),
        ({"name": "vgg16_bn"}, (3, 32, 32), 14_728_266),
        # Fewer inputs to the first layer: 64 filters of 3×3, two channels less.
        ({"name": "resnet18"}, (1, 32, 32), 11_173_962 - 64 * 9 * 2),
        ({"name": "vgg16_bn"}, (1, 32, 32), 14_728_266 - 64 * 9 * 2),
        # torchvision's own ResNet-18, with 10 classes instead of 1,000.
        ({"name": "resnet18"}, (3, 224, 224), 11_689_512 - 990 * 513),
        ({"name": "mlp", "hidden": [64]}, (1, 8, 8), 65 * 64 + 65 * 10),
        ({"name": "mlp", "hidden": []}, (1, 8, 8), 65 * 10),
        (
            {"name": "cnn", "channels": [4], "hidden": 8},
            (1, 8, 8),
            9 * 4 + 2 * 4 + (4 * 4 * 4 + 1) * 8 + 9 * 10,
        ),
    ],
    ids=str,
)
def test_number_of_parameters(spec: dict[str, Any], shape: tuple[int, ...], count: int) -> None:
    assert parameters(factory(spec, shape, 10)()) == count


def test_resnet18_keeps_small_images_large() -> None:
    network = factory({"name": "resnet18"}, (3, 32, 32), 10)()
    assert isinstance(network.maxpool, nn.Identity)
    assert network.get_parameter("conv1.weight").shape == (64, 3, 3, 3)
    before = network.get_submodule("layer1")(torch.randn(1, 64, 32, 32))
    assert before.shape == (1, 64, 32, 32)


@pytest.mark.parametrize(
    ("name", "shape", "match"),
    [
        ("cnn", (64,), "takes images"),
        ("cnn", (1, 3, 8), "cannot be halved 2 times"),
        ("vgg16_bn", (1, 28, 28), "32×32 pixels or more"),
        ("vgg16_bn", (64,), "takes images"),
        ("resnet18", (64,), "takes images"),
    ],
)
def test_network_refuses_inputs_that_do_not_fit(
    name: str, shape: tuple[int, ...], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        factory({"name": name}, shape, 10)()


# --- Vision transformers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((1, 8, 8), 2), ((1, 28, 28), 4), ((3, 32, 32), 4), ((3, 64, 64), 8), ((2, 7, 7), 1)],
)
def test_vit_cuts_images_into_patches(shape: tuple[int, ...], patch: int) -> None:
    network = factory({"name": "vit", "depth": 1}, shape, 5)()
    assert network.get_parameter("conv_proj.weight").shape == (64, shape[0], patch, patch)
    tokens = (shape[1] // patch) ** 2 + 1
    assert network.get_parameter("encoder.pos_embedding").shape == (1, tokens, 64)
    assert network(torch.randn(2, *shape)).shape == (2, 5)


def spread(model: nn.Module, name: str) -> float:
    return float(model.get_parameter(name).detach().std())


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_vit_begins_as_torchvision_says(channels: int) -> None:
    """Patches to tokens with a spread of 1/√fan-in; what torchvision leaves zero is drawn."""
    settings = {"width": 1024, "heads": 2, "depth": 1, "patch": 4}
    network = factory({"name": "vit", **settings}, (channels, 8, 8), 10)()
    # A normal distribution cut at ±2, not at two standard deviations, keeps its spread.
    assert spread(network, "conv_proj.weight") == pytest.approx((16 * channels) ** -0.5, rel=0.05)
    assert not bool(network.get_parameter("conv_proj.bias").any())
    for name in ("class_token", "heads.head.weight", "encoder.pos_embedding"):
        assert spread(network, name) == pytest.approx(0.02, rel=0.1), name


def test_vit_learns_everywhere_from_the_first_step_on() -> None:
    network = factory({"name": "vit"}, (1, 8, 8), 3)()
    network(torch.randn(4, 1, 8, 8))[:, 0].sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_vit_passes_its_settings_on() -> None:
    spec = {"name": "vit", "depth": 3, "heads": 2, "width": 6, "hidden": 5, "dropout": 0.25}
    network = factory(spec, (1, 8, 8), 3)()
    assert len(list(network.get_submodule("encoder.layers").children())) == 3
    assert network.get_parameter("encoder.layers.encoder_layer_2.mlp.0.weight").shape == (5, 6)
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.25}
    (heads,) = {m.num_heads for m in network.modules() if isinstance(m, nn.MultiheadAttention)}
    assert heads == 2


@pytest.mark.parametrize(
    ("settings", "shape", "match"),
    [
        ({}, (64,), "takes square images"),
        ({}, (1, 8, 12), "takes square images"),
        ({"patch": 5}, (1, 8, 8), "must be one of 1, 2, 4, 8"),
        ({"patch": 9}, (1, 8, 8), "cannot be cut into patches of 9×9"),
        ({"width": 10}, (1, 8, 8), "cannot be shared equally by 4 heads"),
        ({"depth": 0}, (1, 8, 8), "depth = 0 must be 1 or more"),
        ({"patch": 0}, (1, 8, 8), "patch = 0 must be 1 or more"),
        ({"dropout": 1.0}, (1, 8, 8), "from 0 to below 1"),
    ],
)
def test_vit_refuses_what_does_not_fit(
    settings: dict[str, Any], shape: tuple[int, ...], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        factory({"name": "vit", **settings}, shape, 3)()


# --- Networks of timm ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"architecture": "resnet10t"}, (1, 32, 32)),
        # Made for 224 pixels: built for those of the data.
        (
            {"architecture": "vit_tiny_patch16_224", "settings": {"patch_size": 4, "depth": 1}},
            (2, 16, 16),
        ),
    ],
    ids=str,
)
def test_timm_gives_what_it_is_asked_for(settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    network = factory({"name": "timm", **settings}, shape, 7)().eval()
    assert network(torch.randn(2, *shape)).shape == (2, 7)
    assert type(network).__module__.startswith("timm.models.")


def test_timm_refuses_what_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"no architecture 'resnet81'\. Did you mean resnet18"):
        factory({"name": "timm", "architecture": "resnet81"}, (3, 32, 32), 10)()
    with pytest.raises(ValueError, match="take images"):
        factory({"name": "timm"}, (64,), 10)()


def test_timm_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'oblivio\[timm\]'"):
        factory({"name": "timm"}, (3, 32, 32), 10)()


def test_factory_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="Did you mean resnet18"):
        factory({"name": "resnet"}, (3, 32, 32), 10)
    with pytest.raises(ValueError, match="There is no field 'width'"):
        factory({"name": "mlp", "width": 3}, (3, 32, 32), 10)


# --- A user's own -------------------------------------------------------------------------------


def test_own_factory_is_given_what_it_asks_for() -> None:
    model = factory({"name": "worlds:tiny_network", "width": 9}, (1, 8, 8), 3)()
    assert parameters(model) == 65 * 9 + 10 * 3
    assert parameters(factory({"name": "worlds:plain_network"}, (1, 8, 8), 3)()) == 10
    assert parameters(factory({"name": "worlds:greedy_network", "width": 6}, (4,), 3)()) == 14


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("worlds:missing", "Cannot import 'worlds:missing'"),
        ("no_such_module:network", "Cannot import"),
    ],
)
def test_own_factory_must_exist(name: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        factory({"name": name}, (4,), 2)


def test_own_factory_must_take_its_settings() -> None:
    with pytest.raises(ValueError, match=r"no argument 'widht'\. Did you mean width"):
        factory({"name": "worlds:tiny_network", "widht": 9}, (1, 8, 8), 3)


# --- Weights ------------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def save_safetensors(state: dict[str, Tensor], path: Path) -> None:
    save_file(state, path)


SAVE: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "a.safetensors": save_safetensors,
    "a.pt": torch.save,
    "b.pth": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
}


@pytest.mark.parametrize("name", SAVE)
def test_weights_come_back(tmp_path: Path, name: str) -> None:
    saved = network()
    saved(torch.randn(8, 4))  # BatchNorm's statistics are part of it
    SAVE[name](saved.state_dict(), tmp_path / name)
    model = network()
    assert laws.differs(model, saved)
    assert load_weights(model, str(tmp_path / name)) is model
    laws.assert_same_state(model.state_dict(), saved.state_dict())


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        load_weights(network(), tmp_path / "missing.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", bytes(range(256)) * 8])
def test_broken_weights(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        load_weights(network(), tmp_path / name)


def test_truncated_weights(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        SAVE[name](network().state_dict(), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match="cannot be read"):
            load_weights(network(), tmp_path / name)


class Harmful:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of a stranger runs",)


def test_code_in_a_checkpoint_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"0.weight": Harmful()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        load_weights(network(), tmp_path / "a.pt")
    assert capsys.readouterr().out == ""


def test_whole_models_and_other_objects_are_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "model.pt")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    for name in ("model.pt", "list.pt", "tensor.pt"):
        with pytest.raises(ValueError, match="cannot be read"):
            load_weights(network(), tmp_path / name)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("0.bias"), r"0\.bias is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is not in the model"),
        (
            lambda s: s.update({"2.weight": torch.zeros(5, 3)}),
            r"2\.weight is \(5, 3\), the model's is \(2, 3\)",
        ),
        (lambda s: [s.pop(k) for k in list(s)[:5]], "and 2 more"),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], match: str
) -> None:
    state = dict(network().state_dict())
    change(state)
    torch.save(state, tmp_path / "a.pt")
    model = network()
    before = laws.snapshot(model)
    with pytest.raises(ValueError, match=match):
        load_weights(model, tmp_path / "a.pt")
    laws.assert_same(before, laws.snapshot(model))
