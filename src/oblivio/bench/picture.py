"""Examples as pictures that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import torch

from oblivio.core import Data


def pictures(data: Data, places: Sequence[int]) -> dict[str, str]:
    """The examples at these places as PNG images in data URLs.

    Returns:
        By id; none if the examples are no grey or colour images.
    """
    from torchvision.transforms.functional import to_pil_image

    if not places:
        return {}
    chosen = data.take(torch.tensor(places))
    inputs = next(iter(chosen.batches(len(chosen)))).inputs.float().cpu()
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return {}
    low, high = inputs.min(), inputs.max()
    found = {}
    scaled = (inputs - low) / (high - low).clamp(min=1e-9)
    for id_, image in zip(chosen.ids.tolist(), scaled, strict=True):
        file = io.BytesIO()
        to_pil_image(image).save(file, "PNG", optimize=True)
        found[str(id_)] = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return found
