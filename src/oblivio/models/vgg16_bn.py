"""VGG-16 with BatchNorm, for small images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class VGG16BN:
    """VGG-16 with BatchNorm, for 32×32 images.

    torchvision's features with one linear layer on top.

    Source: Simonyan and Zisserman 2015; the single linear layer is the custom for CIFAR.
    """

    def __call__(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Build it.

        Returns:
            The untrained network.

        Raises:
            ValueError: If the input is not an image, or too small to be halved five times.
        """
        if len(shape) != 3 or min(shape[1:]) < 32:
            raise ValueError(
                f"VGG-16 takes images (channels, height, width) of 32×32 pixels or more, not "
                f"inputs of {shape}."
            )
        from torchvision.models import vgg16_bn

        network = vgg16_bn(num_classes=classes)
        if shape[0] != 3:
            first = nn.Conv2d(shape[0], 64, 3, padding=1)
            network.features = nn.Sequential(first, *list(network.features.children())[1:])
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Linear(512, classes)  # pyright: ignore[reportAttributeAccessIssue]
        return network
