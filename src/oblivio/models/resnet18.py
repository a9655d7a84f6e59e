"""ResNet-18 with the stem for small images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18, with the CIFAR stem for small images.

    Up to 64 pixels: a 3×3 stem with stride 1 and no max-pooling.

    Source: He et al. 2016, torchvision's class; the stem as in Jia et al. 2023, for CIFAR.
    """

    def __call__(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Build it.

        Returns:
            The untrained network.

        Raises:
            ValueError: If the input is not an image.
        """
        if len(shape) != 3:
            raise ValueError(
                f"ResNet-18 takes images (channels, height, width), not inputs of {shape}."
            )
        from torchvision.models import resnet18

        network = resnet18(num_classes=classes)
        small = max(shape[1:]) <= 64
        if small or shape[0] != 3:
            side, stride = (3, 1) if small else (7, 2)
            network.conv1 = nn.Conv2d(shape[0], 64, side, stride, padding=side // 2, bias=False)
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        if small:
            network.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        return network
