"""Pictures of GANs: the tiles are what the generators make of the latents that they are said to."""

from __future__ import annotations

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_worlds import GanCase, gan_case
from oblivio.core import Run
from oblivio.generative import GAN, generate
from oblivio.metrics._samples import reporter
from oblivio.metrics.pictures import Pictures, png, slerp
from oblivio.models.dcgan import DCGAN

SHOWN = Pictures(rows=2, columns=5, steps=3, paths=2, search=200)


def pixels(file: str) -> Tensor:
    """A PNG file as (channels, height, width), from 0 to 255."""
    found = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(file)))))
    return found[None] if found.ndim == 2 else found.permute(2, 0, 1)


def tiles(file: str) -> list[Tensor]:
    """The grey images of 8×8 pixels in a PNG file, row by row, without their frames."""
    framed = [tile for row in pixels(file).split(10, 1) for tile in row.split(10, 2)]
    assert all(tile.sum() == tile[:, 1:-1, 1:-1].sum() for tile in framed), "frames are black"
    return [tile[:, 1:-1, 1:-1] for tile in framed]


def grey(images: Tensor) -> Tensor:
    """Images in [-1, 1] as grey levels."""
    return ((images + 1) * 127.5).round().byte()


def other(case: GanCase) -> GAN:
    """A generator of the same shape that makes other images."""
    gan = case.original
    with torch.no_grad():
        for value in gan.average.parameters():
            value.mul_(0.5)
    return gan


def shown(case: GanCase, unlearned: GAN | None = None, **notes: object) -> dict:
    return SHOWN(case.trial(unlearned, notes=notes), case.run)["pictures"]


def same(file: str, images: Tensor) -> bool:
    """Whether the tiles of a file are these images, all of them."""
    found = tiles(file)
    return len(found) == len(images) and all(map(torch.equal, found, grey(images)))


# --- Paths and files ------------------------------------------------------------------------------


def test_slerp_is_the_formula_in_float64():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 6, generator=draw, dtype=torch.float64)
    found = slerp(a.float(), b.float(), torch.tensor([0.0, 0.3, 1.0]))
    for row in range(4):
        p, q = a[row].tolist(), b[row].tolist()
        lengths = [math.sqrt(math.fsum(x * x for x in v)) for v in (p, q)]
        cosine = math.fsum(x * y for x, y in zip(p, q, strict=True)) / math.prod(lengths)
        angle = math.acos(cosine)
        for place, t in enumerate((0.0, 0.3, 1.0)):
            f, g = (math.sin(s * angle) / math.sin(angle) for s in (1 - t, t))
            wanted = [f * x + g * y for x, y in zip(p, q, strict=True)]
            assert found[row, place].tolist() == pytest.approx(wanted, abs=1e-5)


def test_slerp_keeps_a_length_and_goes_straight_where_there_is_no_angle():
    a, b = torch.eye(2)[:1] * 3, torch.eye(2)[1:] * 3
    assert slerp(a, b, torch.linspace(0, 1, 5)).norm(dim=2) == pytest.approx(3)
    for end in (a, -a, 2 * a):
        found = slerp(a, end, torch.tensor([0.0, 0.5, 1.0]))[0]
        assert torch.allclose(found, torch.stack([a[0], (a[0] + end[0]) / 2, end[0]]))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_row_by_row_and_are_exact(channels):
    images = torch.rand(6, channels, 4, 5) * 2 - 1
    found, frame = pixels(png(images, 3)), int(channels == 1)
    height, width = 4 + 2 * frame, 5 + 2 * frame
    assert found.shape == (channels, 2 * height, 3 * width)
    for place, image in enumerate(images):
        top, left = place // 3 * height + frame, place % 3 * width + frame
        assert torch.equal(found[:, top : top + 4, left : left + 5], grey(image))


@pytest.mark.parametrize(
    ("channels", "side", "shown"),
    [(1, 28, 30), (1, 64, 34), (3, 32, 32), (3, 64, 32), (3, 128, 32)],
)
def test_a_file_is_small_however_noisy(channels, side, shown):
    images = torch.rand(50, channels, side, side) * 2 - 1
    file = png(images, 10)
    assert len(base64.b64decode(file)) < 60_000
    size = Image.open(io.BytesIO(base64.b64decode(file))).size
    assert size == (10 * shown, 5 * shown)


def test_fewer_colours_are_near_the_true_ones():
    ramp = torch.linspace(-1, 1, 32)
    across, down = ramp.expand(32, 32), ramp[:, None].expand(32, 32)
    images = torch.stack([across, down, -across]).repeat(50, 1, 1, 1)
    file = Image.open(io.BytesIO(base64.b64decode(png(images, 10)))).convert("RGB")
    away = np.array(file)[:32, :32] - grey(images[0]).permute(1, 2, 0).numpy().astype(float)
    assert np.abs(away).mean() < 12


def test_other_channels_are_shown_as_their_mean():
    images = torch.stack([torch.full((4, 4), value) for value in (-1.0, 1.0)])[None]
    assert torch.equal(pixels(png(images, 1))[:, 1:-1, 1:-1], grey(torch.zeros(1, 4, 4)))


# --- What is shown --------------------------------------------------------------------------------


def test_samples_are_of_the_same_latents_for_every_model():
    case = gan_case()
    z = case.original.latents(10, 0)
    for gan in (gan_case().original, other(gan_case())):
        part = shown(case, gan)["samples"]
        made = generate(gan, z)
        assert (part["rows"], part["columns"]) == (2, 5)
        assert same(part["png"], made)


def test_a_conditional_pair_is_asked_for_one_class_after_the_other():
    case = gan_case(conditional=True)
    labels = torch.arange(10) % 3
    made = generate(case.original, case.original.latents(10, 0), labels)
    assert same(shown(case)["samples"]["png"], made)


def test_moved_are_the_first_latents_that_the_judge_calls_forgotten():
    case, after = gan_case(), other(gan_case())
    judge, z = reporter(case.trial(), case.run), case.original.latents(200, 0)
    hits = [
        row
        for row in range(200)
        if judge.classes_of(generate(case.original, z[row : row + 1])) == 2
    ][:5]
    found = shown(case, after)
    assert found["split"] == {"gone": [2]}
    moved = found["moved"]
    assert (moved["by"], moved["columns"], moved["called"]["original"]) == ("judge", 5, [2] * 5)
    for what, gan in (("original", case.original), ("unlearned", after)):
        made = generate(gan, z[hits])
        assert same(moved["rows"][what], made)
        assert moved["called"][what] == judge.classes_of(made).tolist()
    assert set(moved["rows"]) == {"original", "unlearned"}


def test_a_path_leads_over_the_forgotten_latent():
    case, after = gan_case(), other(gan_case())
    found = shown(case, after)
    judge, z = reporter(case.trial(), case.run), case.original.latents(200, 0)
    kept = z[judge.classes_of(generate(case.original, z)) != 2]
    paths = found["strips"]["paths"]
    assert found["strips"]["columns"] == 7
    assert len(paths) == 2
    for row, path in enumerate(paths):
        for file, gan in zip(path, (case.original, after), strict=True):
            strip = tiles(file)
            name = "original" if gan is case.original else "unlearned"
            assert torch.equal(strip[3], tiles(found["moved"]["rows"][name])[row])
            ends = generate(gan, kept[[row, 2 + row]])
            assert torch.equal(torch.stack([strip[0], strip[-1]]), grey(ends))


def test_a_conditional_pair_is_given_the_forgotten_label():
    case = gan_case(conditional=True)
    found, z = shown(case), case.original.latents(200, 0)
    made = generate(case.original, z[:5], torch.full((5,), 2))
    assert found["moved"]["by"] == "label"
    assert same(found["moved"]["rows"]["original"], made)
    assert torch.equal(tiles(found["strips"]["paths"][0][0])[3], grey(made[0]))


@pytest.mark.parametrize("conditional", [False, True])
def test_for_items_the_nearest_samples_stand_below_them(conditional):
    case = gan_case(class_wise=False, conditional=conditional)
    gan = case.original
    moved = shown(case)["moved"]
    wanted = next(case.split.forget.batches(len(case.split.forget))).inputs[:5]
    made = generate(gan, gan.latents(200, 0), gan.labels(200, 0)).double()
    assert (moved["by"], moved["called"]) == ("nearest", {})
    assert same(moved["rows"]["wanted"], wanted)
    away = [[float((x.double() - one).square().sum()) for one in made] for x in wanted]
    assert same(moved["rows"]["original"], made[[row.index(min(row)) for row in away]])


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("class_wise", [False, True])
def test_what_the_method_noted_is_shown(class_wise, conditional):
    case = gan_case(class_wise=class_wise, conditional=conditional)
    z, to = case.original.latents(8, 5), case.original.latents(8, 6)
    labels = ([2, 1] * 4, [0] * 8) if conditional else (None, None)
    note = {
        "latents": z.tolist(),
        "labels": labels[0],
        "substitute_latents": to.tolist(),
        "substitute_labels": labels[1],
    }
    found = shown(case, moved=note)
    assert (found["moved"]["by"], found["moved"]["columns"]) == ("method", 5)
    for what, these, own in (("original", z, labels[0]), ("target", to, labels[1])):
        made = generate(case.original, these, None if own is None else torch.tensor(own))[:5]
        assert same(found["moved"]["rows"][what], made)
    if not class_wise:
        images = next(case.split.forget.batches(len(case.split.forget))).inputs
        made = generate(case.original, z, None if labels[0] is None else torch.tensor(labels[0]))
        away = [[float((x - one).double().square().sum()) for x in images] for one in made[:5]]
        nearest = [row.index(min(row)) for row in away]
        assert same(found["moved"]["rows"]["wanted"], images[nearest])
    assert found["strips"]["by"] == ("method" if not class_wise else shown(case)["moved"]["by"])
    assert "target" not in shown(case, moved=note | {"substitute_latents": None})["moved"]["rows"]


@pytest.mark.parametrize(
    "note",
    ["far away", 3, {}, {"latents": []}, {"latents": [[1.0, 2.0]]}, {"latents": [["a"] * 8]}],
)
def test_another_note_of_that_name_is_left_alone(note):
    case = gan_case()
    assert shown(case, moved=note) == shown(case)


def test_what_the_original_never_makes_cannot_be_shown(monkeypatch):
    case = gan_case()
    judge = reporter(case.trial(), case.run)
    monkeypatch.setattr(
        type(judge), "classes_of", lambda _, images: torch.zeros(len(images), dtype=torch.int64)
    )
    assert set(shown(case)) == {"split", "samples"}


def test_it_returns_plain_data_and_no_number():
    case = gan_case()
    result = SHOWN(case.trial(), case.run)
    assert json.loads(json.dumps(result)) == result
    assert set(result) == {"pictures"}
    assert Pictures.scores == {}


def test_few_images_and_few_latents():
    case = gan_case(class_wise=False)
    few = Pictures(search=1, columns=30)(case.trial(), case.run)["pictures"]
    assert "strips" not in few
    assert few["moved"]["columns"] == 24
    conditional = gan_case(conditional=True)
    found = Pictures(search=2)(conditional.trial(), conditional.run)["pictures"]
    assert found["moved"]["columns"] == 2


def test_settings_are_checked():
    with pytest.raises(ValueError, match="columns = 0 must be 1 or more"):
        Pictures(columns=0)


@pytest.mark.gpu
def test_on_a_gpu_too():
    case = gan_case(class_wise=False)
    case.original.cuda()
    note = {"latents": torch.randn(5, case.original.latent).tolist()}
    run = Run.on("cuda", precision="32-true", origin=case.origin)
    for notes in ({}, {"moved": note}):
        found = SHOWN(case.trial(notes=notes), run)["pictures"]
        assert {"samples", "moved", "strips"} <= set(found)


def test_larger_images_of_another_shape():
    gan = DCGAN(width=4, latent=6)((3, 28, 28), 10)
    images = generate(gan, gan.latents(20, 0))
    assert pixels(png(images, 5)).shape == (3, 112, 140)
