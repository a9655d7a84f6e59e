"""Any network of the timm library."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Timm:
    """Any image network of the timm library (pip install 'oblivio[timm]').

    An architecture that is made for one size of images is built for that of the data. Most are
    meant for 224 pixels and make little of small images.

    Args:
        architecture: One of `timm.list_models()`, such as "vit_tiny_patch16_224"; a dot and a tag
            may follow, which say what `pretrained` weights have seen.
        pretrained: Whether to download weights and begin from them, in retraining too. What is to
            be forgotten must not be among the images that they have seen.
        settings: What else `timm.create_model` is given, such as `{ patch_size = 4 }`.

    Source: Wightman 2019, PyTorch Image Models.
    """

    architecture: str = "resnet18"
    pretrained: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Build it.

        Returns:
            The network; untrained, unless pretrained weights are asked for.

        Raises:
            ImportError: If timm is not installed.
            ValueError: If timm has no such architecture, or the input is not an image.
        """
        try:
            import timm
        except ModuleNotFoundError as error:
            raise ImportError(
                f"The network {self.architecture!r} comes from timm, which is not installed: "
                f"pip install 'oblivio[timm]'."
            ) from error
        if not timm.is_model(self.architecture):
            near = difflib.get_close_matches(self.architecture, timm.list_models(), n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                f"timm has no architecture {self.architecture!r}.{hint} "
                f"`timm.list_models()` lists them all."
            )
        if len(shape) != 3:
            raise ValueError(
                f"timm's networks take images (channels, height, width), not inputs of {shape}."
            )
        known = timm.get_pretrained_cfg(self.architecture)
        sized = {"img_size": shape[1:]} if known is not None and known.fixed_input_size else {}
        given = {"in_chans": shape[0], "num_classes": classes, **sized, **self.settings}
        return timm.create_model(self.architecture, pretrained=self.pretrained, **given)
