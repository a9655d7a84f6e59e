"""Weights of a sparse model in a small file: only what is not zero, and a bit for each place.

A tensor of n values of b bytes, of which k are not zero, takes k b + n / 8 bytes: at 95 % zeros
in float32, 8 % of the dense tensor. A masked model's ordinary file is as large as a dense one's.

The file is safetensors. A tensor `name` that is worth it stands as `values:name`, its values that
are not zero in a row, and `places:name`, one bit per place (first is the highest of a byte);
any other stands as `whole:name`. The metadata's `oblivio.compact` lists all tensors in their order,
each with its shape or, for tied weights, with the name of the tensor that it is the same as.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from torch import Tensor, nn

from oblivio.files import write_whole

KEY = "oblivio.compact"
NAMED = 200
"""What one more tensor takes in the file's header, in bytes, about."""

Value = Shaped[Tensor, "..."]


def save_compact(model: nn.Module, path: str | Path) -> None:
    """Write a model's weights and buffers; the file is whole or not there at all.

    They come back bit for bit, except that −0.0 may become 0.0: it is zero too, and half of the
    weights that a mask removes end as that. `oblivio.models.load_weights` reads
    the file if its name ends with `.safetensors`.

    Args:
        model: Any; it pays where tensors are mostly zero.
        path: Where; a file that is there is replaced.
    """
    from safetensors.torch import save

    listed: list[tuple[str, list[int] | str]] = []
    tensors: dict[str, Tensor] = {}
    seen: dict[Any, str] = {}
    for name, value in model.state_dict().items():
        tied = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and tied in seen:
            listed.append((name, seen[tied]))
            continue
        seen[tied] = name
        listed.append((name, list(value.shape)))
        for kind, part in packed(value.detach().cpu()).items():
            tensors[f"{kind}:{name}"] = part
    write_whole(Path(path), save(tensors, metadata={KEY: json.dumps(listed)}))


def load_compact(path: str | Path) -> dict[str, Tensor]:
    """The state dict that `save_compact` wrote, dense; tied weights are the same tensor again.

    Returns:
        Tensors by name, in the model's order, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or was not written by `save_compact`.
    """
    tensors, listed = _read(Path(path))
    if listed is None:
        raise ValueError(
            f"{path} is an ordinary safetensors file, not a compact one: read it with "
            f"safetensors.torch.load_file."
        )
    state: dict[str, Tensor] = {}
    try:
        for name, shape in json.loads(listed):
            parts = {
                kind: tensors.pop(f"{kind}:{name}")
                for kind in ("whole", "values", "places")
                if f"{kind}:{name}" in tensors
            }
            state[name] = state[shape] if isinstance(shape, str) else unpacked(parts, shape)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"The compact file {path} is damaged: {error}.") from error
    if tensors:
        raise ValueError(f"The compact file {path} is damaged: {min(tensors)} is not listed.")
    return state


def is_compact(path: str | Path) -> bool:
    """Whether `save_compact` wrote this file.

    Returns:
        The answer.

    Raises:
        ValueError: If it is not a safetensors file, or is damaged.
    """
    return _read(Path(path), header=True)[1] is not None


def packed(value: Value) -> dict[str, Tensor]:
    """A tensor as `values` and `places` where that is smaller, else `whole`.

    Returns:
        Contiguous tensors by what they are.
    """
    places = value != 0
    bytes_ = int(places.sum()) * value.element_size() + math.ceil(value.numel() / 8) + NAMED
    if not value.is_floating_point() or bytes_ >= value.numel() * value.element_size():
        return {"whole": value.contiguous().clone()}
    bits = torch.from_numpy(np.packbits(places.flatten().numpy()))
    return {"values": value[places], "places": bits}


def unpacked(parts: Mapping[str, Tensor], shape: list[int]) -> Value:
    """The tensor that `packed` took apart.

    Returns:
        A dense tensor.

    Raises:
        ValueError: If the parts do not belong together.
    """
    if parts.keys() == {"whole"}:
        if list(parts["whole"].shape) != shape:
            raise ValueError(f"a tensor is {tuple(parts['whole'].shape)}, not {tuple(shape)}")
        return parts["whole"]
    if parts.keys() != {"values", "places"}:
        raise ValueError("a part of a tensor is missing")
    values, places = parts["values"], _bits(parts["places"], math.prod(shape))
    if values.shape != (int(places.sum()),):
        raise ValueError(f"{len(values)} values have {int(places.sum())} places")
    return torch.zeros(len(places), dtype=values.dtype).masked_scatter_(places, values).view(shape)


def _bits(packed: UInt8[Tensor, " bytes"], count: int) -> Bool[Tensor, " count"]:
    """The first `count` bits; the rest of the last byte must be zero."""
    if packed.dtype != torch.uint8 or packed.shape != (math.ceil(count / 8),):
        raise ValueError(f"there should be a bit for each of {count} places")
    bits = np.unpackbits(packed.numpy()).astype(bool)
    if bits[count:].any():
        raise ValueError("there are more places than values")
    return torch.from_numpy(bits[:count])


def _read(path: Path, *, header: bool = False) -> tuple[dict[str, Tensor], str | None]:
    """A safetensors file's tensors, unless only its header is wanted, and what is listed in it."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            names = [] if header else file.keys()
            return {n: file.get_tensor(n) for n in names}, (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged or not a safetensors file: {reason}.") from error
