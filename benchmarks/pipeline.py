"""Crop, flip and normalise: a batch at a time on tensors, against image by image."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.timing import Row, seconds
from oblivio import Arrays, Augment

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Images(Dataset):
    """Images as torchvision's data sets give them: PIL, one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        from torchvision.transforms.functional import to_pil_image

        self.images = [to_pil_image(image) for image in images]
        self.labels = labels.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[i]), self.labels[i]


def rows() -> list[Row]:
    n = 20_000
    images = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(10, (n,))
    data = Arrays(images, labels, augment=Augment(4, True), mean=MEAN, std=STD)
    loader = DataLoader(Images(images, labels), 256, shuffle=True, num_workers=2)

    def ours() -> None:
        for _ in data.batches(256, shuffle=0, augment=True):
            pass

    def theirs() -> None:
        for _ in loader:
            pass

    ours()
    value = seconds(theirs) / min(seconds(ours) for _ in range(3))
    what = "images per second ÷ torchvision's in a DataLoader with 2 workers, CIFAR-shaped"
    return [{"what": what, "value": f"{value:.1f}×", "aim": "≥ 5×", "ok": value >= 5}]
