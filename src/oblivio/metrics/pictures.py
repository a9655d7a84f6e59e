"""What a GAN makes, as pictures that a report can show."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from oblivio.adversarial import as_gan
from oblivio.core import Run, Score, Trial
from oblivio.generative import GAN, Images, Labels, Latents, generate, images_of
from oblivio.metrics._samples import check_counts, reporter

_MOST = 58_000  # bytes of an uncompressed picture


class Forgotten(NamedTuple):
    """Latents from which the original makes what is to be forgotten.

    Args:
        z: One row each.
        labels: Of a conditional pair.
        by: Who says so: the "judge", the "label" of a conditional pair, the "method" itself, or the
            original's samples that are "nearest" to forgotten images.
        wanted: Where single images are forgotten, those that are near to what these latents make.
        target: Where the method sends them: latents and, of a conditional pair, labels.
    """

    z: Latents
    labels: Labels | None
    by: str
    wanted: Images | None = None
    target: tuple[Latents, Labels | None] | None = None


@dataclass(frozen=True)
class Pictures:
    """Pictures of samples, of where the forgotten latents went, and of paths across them.

    All latents are from a fixed seed, the same for every model; none is chosen for its looks:

        samples   ā(z) for the first latents
        moved     latents from which the original makes what is to be forgotten: its samples, those
                  that the method sends them to, if it says so (its note `moved`), and the
                  unlearned model's
        strips    a path from a retained latent over a forgotten one to another, before and after

    Latents are forgotten whose sample by the original the reporting judge calls a forgotten class;
    where single images are forgotten, those whose samples are nearest to them. A conditional pair
    is given the forgotten label.

    Args:
        rows: Of samples.
        columns: Of samples; also how many latents are shown before and after.
        steps: From one latent of a path to the next.
        paths: How many.
        search: Among how many latents the forgotten ones are looked for.
        seed: Of all latents.

    Raises:
        ValueError: If a number is less than 1.
    """

    of: ClassVar[str] = "gan"
    scores: ClassVar[Mapping[str, Score]] = {}

    rows: int = 5
    columns: int = 10
    steps: int = 4
    paths: int = 3
    search: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, rows=1, columns=1, steps=1, paths=1, search=1)

    def __call__(self, trial: Trial, run: Run) -> Mapping[str, Any]:
        """The pictures, as base64 of PNG files, and what is to be said of them."""
        before, after = as_gan(trial.original), as_gan(trial.unlearned)
        found, retained = self._found(trial, before, run)
        noted = self._noted(trial, before) or found
        parts = {
            "split": {"gone": trial.split.gone.tolist()},
            "samples": self._samples(after),
            "moved": self._moved(trial, noted, run),
            # Paths are the same for all methods where a judge can say what is forgotten.
            "strips": self._strips(
                before, after, found if len(trial.split.gone) else noted, retained
            ),
        }
        return {"pictures": {name: part for name, part in parts.items() if part is not None}}

    def _samples(self, gan: GAN) -> dict[str, Any]:
        """Samples; a conditional pair is asked for one class after the other."""
        n = self.rows * self.columns
        labels = None if gan.classes is None else torch.arange(n) % gan.classes
        images = generate(gan, gan.latents(n, self.seed), labels)
        return {"png": png(images, self.columns), "rows": self.rows, "columns": self.columns}

    def _noted(self, trial: Trial, gan: GAN) -> Forgotten | None:
        """What the method says that it moved; None if it says nothing that can be shown."""
        note: Any = trial.notes.get("moved")
        try:
            z, labels = _read(note, "latents", "labels", gan)
            sent = note.get("substitute_latents") is not None
            target = _read(note, "substitute_latents", "substitute_labels", gan) if sent else None
            if target is not None and len(target[0]) != len(z):
                return None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None  # another method's note of that name
        wanted = None
        if not len(trial.split.gone):
            images, made = images_of(trial.split.forget), generate(gan, z, labels)
            wanted = images[torch.cdist(made.flatten(1), images.flatten(1)).argmin(1)]
        return Forgotten(z, labels, "method", wanted, target)

    def _found(self, trial: Trial, gan: GAN, run: Run) -> tuple[Forgotten | None, Latents]:
        """Forgotten latents, if there are any, and retained ones."""
        split, z = trial.split, gan.latents(self.search, self.seed)
        if len(split.gone) and gan.classes is not None:
            n = min(max(self.columns, self.paths), len(z))
            labels = split.gone.repeat(-(-n // len(split.gone)))[:n]
            return Forgotten(z[:n], labels, "label"), z[n:]
        labels = gan.labels(self.search, self.seed)
        made = generate(gan, z, labels)
        if len(split.gone):
            gone = torch.isin(reporter(trial, run).classes_of(made), split.gone)
            return (Forgotten(z[gone], None, "judge") if gone.any() else None), z[~gone]
        first = split.forget.take(torch.arange(min(self.columns, len(split.forget))))
        wanted = images_of(first)
        nearest = torch.cdist(wanted.flatten(1), made.flatten(1)).argmin(1)
        rest = torch.ones(len(z), dtype=torch.bool).index_fill(0, nearest, False)
        own = None if labels is None else labels[nearest]
        return Forgotten(z[nearest], own, "nearest", wanted), z[rest]

    def _moved(self, trial: Trial, found: Forgotten | None, run: Run) -> dict[str, Any] | None:
        """Rows of pictures, one above the other: what a latent gave, should give, and gives."""
        if found is None:
            return None
        original, unlearned = as_gan(trial.original), as_gan(trial.unlearned)
        n = min(self.columns, len(found.z))
        z, labels = found.z[:n], None if found.labels is None else found.labels[:n]
        rows = {
            "wanted": found.wanted,
            "original": generate(original, z, labels),
            "target": None if found.target is None else generate(original, *found.target),
            "unlearned": generate(unlearned, z, labels),
        }
        rows = {what: images[:n] for what, images in rows.items() if images is not None}
        called = {}
        if len(trial.split.gone):
            asked = reporter(trial, run)
            called = {what: asked.classes_of(images).tolist() for what, images in rows.items()}
        return {
            "by": found.by,
            "columns": n,
            "rows": {what: png(images, len(images)) for what, images in rows.items()},
            "called": called,
        }

    def _strips(
        self, before: GAN, after: GAN, found: Forgotten | None, retained: Latents
    ) -> dict[str, Any] | None:
        """A path in every row; the forgotten latent stands in the middle."""
        n = 0 if found is None else min(self.paths, len(found.z), len(retained) // 2)
        if found is None or n == 0:
            return None
        t = torch.linspace(0, 1, self.steps + 1)
        start, middle, end = retained[:n], found.z[:n].to(retained), retained[n : 2 * n]
        path = torch.cat([slerp(start, middle, t), slerp(middle, end, t)[:, 1:]], 1)
        columns = 2 * self.steps + 1
        labels = None if found.labels is None else found.labels[:n].repeat_interleave(columns)
        made = [generate(gan, path.flatten(0, 1), labels) for gan in (before, after)]
        pairs = zip(*(images.split(columns) for images in made), strict=True)
        paths = [[png(images, columns) for images in pair] for pair in pairs]
        return {"by": found.by, "columns": columns, "paths": paths}


def slerp(a: Latents, b: Latents, t: Float[Tensor, " t"]) -> Float[Tensor, "n t z"]:
    """Points between latents on a great circle, where a Gaussian has its mass.

        ω = arccos(a · b / |a| |b|),   s(t) = sin((1 − t) ω) / sin ω · a + sin(t ω) / sin ω · b

    Where a and b lie on one line, so do the points.

    Args:
        a: Where to start.
        b: Where to end.
        t: From 0 to 1.

    Returns:
        For each pair a point for each t.

    Source: Shoemake 1985; for latents White 2016, "Sampling generative networks".
    """
    t = t.to(a)[None, :, None]
    angle = torch.cosine_similarity(a, b, dim=1).clamp(-1, 1).arccos()[:, None, None]
    sine = angle.sin()
    line = sine < 1e-3
    sine = sine.masked_fill(line, 1.0)
    first = torch.where(line, 1 - t, ((1 - t) * angle).sin() / sine)
    second = torch.where(line, t, (t * angle).sin() / sine)
    return first * a[:, None] + second * b[:, None]


def png(images: Images, columns: int) -> str:
    """Images side by side as one PNG file of less than 60 kB.

    Images of many pixels are made smaller, and colours fewer (256), where it would be larger. What
    is neither grey nor of three colours is shown as the mean over its channels. Grey images are
    framed by a pixel of black: strokes that reach the edge do not run into each other.

    Args:
        images: In [-1, 1]; as many as fill the rows.
        columns: How many in a row.

    Returns:
        The file as base64.
    """
    from torchvision.transforms.functional import to_pil_image

    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True)
    frame = 2 * int(images.shape[1] == 1)
    while len(images) * math.prod(side + frame for side in images.shape[2:]) > _MOST:
        if min(images.shape[2:]) < 8:
            break  # thousands of images
        images = functional.avg_pool2d(images, 2)
    images = functional.pad(images, [frame // 2] * 4, value=-1)
    n, c, h, w = images.shape
    grid = images.view(n // columns, columns, c, h, w).permute(2, 0, 3, 1, 4)
    pixels = ((grid.reshape(c, -1, columns * w) + 1) * 127.5).round().clamp(0, 255).byte()
    picture, file = to_pil_image(pixels), io.BytesIO()
    if pixels.numel() > _MOST:
        picture = picture.quantize(256, palette=picture.quantize(256))
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _read(note: Any, latents: str, labels: str, gan: GAN) -> tuple[Latents, Labels | None]:
    """Latents, and labels where the pair is conditional, from a method's note.

    Returns:
        Both, on the CPU.

    Raises:
        ValueError: If they do not fit the pair.
    """
    z = torch.tensor(note[latents], dtype=torch.float32)
    y = None if gan.classes is None else torch.tensor(note[labels], dtype=torch.int64)
    if (
        z.ndim != 2
        or z.shape[1] != gan.latent
        or len(z) == 0
        or (y is not None and len(y) != len(z))
    ):
        raise ValueError("A note of other latents.")
    return z, y
