"""Networks by name, one per file: frozen dataclasses whose call builds an untrained `nn.Module`.

Each is called with the shape of one input and the number of classes. A network of the user's own is
named `package.module:factory`; what the factory does not ask for, it is not given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oblivio.catalogue import build, find, unknown
from oblivio.compact import is_compact, load_compact
from oblivio.generative import GAN


def factory(
    spec: Mapping[str, Any], shape: tuple[int, ...], classes: int
) -> Callable[[], nn.Module]:
    """What builds the network that a table such as `{name = "mlp", hidden = [64]}` asks for.

    Args:
        spec: `name`, and the network's settings.
        shape: Of one input.
        classes: How many logits the network is to give.

    Returns:
        A function without arguments; it draws the first weights from torch's random state.

    Raises:
        ValueError: If there is no such network, or a setting is wrong.
    """
    settings = dict(spec)
    name = settings.pop("name")
    made = find("models", name)
    if ":" not in name:
        return partial(build(made, settings, f"model {name}"), shape, classes)
    asked = inspect.signature(made).parameters
    greedy = any(p.kind is p.VAR_KEYWORD for p in asked.values())
    for setting in settings:
        if setting not in asked and not greedy:
            raise ValueError(f"model {name}: {unknown('argument', setting, asked)}")
    known = {"shape": shape, "classes": classes}
    return partial(made, **settings, **{k: v for k, v in known.items() if k in asked})


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Fill a model with weights from a file: safetensors, compact or not, or a torch state dict.

    Where a GAN's file has no average, the average begins as the generator.

    Returns:
        The same model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is broken or its tensors do not fit; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_compact(path) if is_compact(path) else load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"The checkpoint {path} cannot be read: {reason}") from error
    if isinstance(model, GAN) and not any(name.startswith("average.") for name in state):
        # Trained elsewhere without a moving average: it begins as the generator.
        players = [(name.partition("."), value) for name, value in state.items()]
        state |= {f"average.{rest}": v for (player, _, rest), v in players if player == "generator"}
    own = model.state_dict()
    wrong = [
        *(f"{name} is missing" for name in own if name not in state),
        *(f"{name} is not in the model" for name in state if name not in own),
        *(
            f"{name} is {tuple(state[name].shape)}, the model's is {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ),
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"The checkpoint {path} does not fit the model: {'; '.join(wrong[:3])}{more}."
        )
    model.load_state_dict(state)
    return model
