"""The Fisher diagonal over a set against one plain forward and backward pass over the same set.

On one thread, in batches of 128. The plain pass is timed in the model's own layout, as a user would
write it, and with channels last, which is what the diagonal itself computes in. Which way each
parameter goes is found out once, by means of two examples; a pass over two alone tells what that
costs, which is taken off and stated beside the ratio. Everything is timed in turns, in seconds of
the processor, since the machine may be shared; what counts is the median of the turns' ratios.

Others for comparison: BackPACK's SumGradSquared (Dangel, Kunstner and Hennig 2020), the squares of
Opacus' gradients of single examples (Yousefpour et al. 2021), `vmap` of `grad` in chunks of 32, and
one example at a time. "-" is what cannot be run, or is not installed, or gives other numbers.

Peak memory is how much a fresh process grows beyond what it holds with network and examples.
"""

from __future__ import annotations

import copy
import math
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from benchmarks.timing import Row
from oblivio.core import Batch
from oblivio.curvature.moment import moments
from oblivio.models.resnet18 import ResNet18
from oblivio.models.vit import ViT

TURNS, TURNS_OF_OTHERS = 5, 1
BATCH = 128
Work = Callable[[], Any]


# --- Networks -----------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()),
            *(nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(inner, outer, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outer))
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x) + self.shortcut(x))


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def resnet8() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    inner = 3
    for outers in ((32,), (64,), (128, 128), (256, 256)):
        for outer in outers:
            layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
            inner = outer
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


class Case(NamedTuple):
    """A network, its examples, and how many times a plain pass the diagonal may take."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    n: int
    aim: float
    compare: bool = True


CASES = {
    "LeNet": Case(lenet, (1, 28, 28), 512, 1.3),
    "ResNet-8": Case(resnet8, (3, 32, 32), 256, 1.3),
    "VGG, 32 to 256 channels": Case(vgg, (3, 32, 32), 128, 1.3),
    "ResNet-18": Case(lambda: ResNet18()((3, 32, 32), 10), (3, 32, 32), 32, 1.3, False),
    "ViT, depth 4, width 128": Case(
        lambda: ViT(patch=4, depth=4, heads=4, width=128, hidden=256)((3, 32, 32), 10),
        (3, 32, 32),
        64,
        1.1,
    ),
}


# --- Ways ---------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """A network and what it is to be taken through."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor

    def batches(self, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.inputs.split(size), self.labels.split(size), strict=True)


def made(case: Case) -> Pass:
    torch.manual_seed(0)
    model = case.build().eval()
    return Pass(model, torch.randn(case.n, *case.shape), torch.randint(10, (case.n,)))


def plain(given: Pass) -> Work:
    def work() -> None:
        for x, y in given.batches():
            given.model.zero_grad()
            F.cross_entropy(given.model(x), y).backward()

    return work


def channels_last(given: Pass) -> Work:
    layout = torch.channels_last
    model = copy.deepcopy(given.model).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    return plain(Pass(model, given.inputs.contiguous(memory_format=layout), given.labels))


def ours(given: Pass) -> Work:
    batches = [Batch(x, y, 1.0) for x, y in given.batches()]
    return lambda: moments(given.model, batches, F.cross_entropy)


def two_examples(given: Pass) -> Work:
    return ours(Pass(given.model, given.inputs[:2], given.labels[:2]))


def backpack(given: Pass) -> Work:
    from backpack import backpack, extend  # pyright: ignore[reportMissingImports]
    from backpack.extensions import SumGradSquared  # pyright: ignore[reportMissingImports]

    branches = any(isinstance(module, Block) for module in given.model.modules())
    model = extend(copy.deepcopy(given.model), use_converter=branches)
    loss = extend(nn.CrossEntropyLoss(reduction="sum"))
    own = list(model.parameters())

    def work() -> list[Tensor]:
        total = [torch.zeros_like(p) for p in own]
        for x, y in given.batches():
            model.zero_grad()
            with backpack(SumGradSquared()):
                loss(model(x), y).backward()
            for sum_, p in zip(total, own, strict=True):
                sum_ += p.sum_grad_squared  # pyright: ignore[reportAttributeAccessIssue]
        return total

    return work


def opacus(given: Pass) -> Work:
    from opacus import GradSampleModule  # pyright: ignore[reportMissingImports]

    model = GradSampleModule(copy.deepcopy(given.model), strict=False, loss_reduction="sum")
    model.train()
    own = list(model.parameters())

    def work() -> list[Tensor]:
        total = [torch.zeros_like(p) for p in own]
        for x, y in given.batches():
            model.zero_grad()
            F.cross_entropy(model(x), y, reduction="sum").backward()
            for sum_, p in zip(total, own, strict=True):
                sum_ += p.grad_sample.square().sum(0)  # pyright: ignore[reportAttributeAccessIssue]
        return total

    return work


def vectorised(given: Pass) -> Work:
    own = {name: p.detach() for name, p in given.model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(given.model, weights, (x[None],)), y[None])

    each = vmap(grad(loss), (None, 0, 0))

    @torch.no_grad()
    def work() -> list[Tensor]:
        total = {name: torch.zeros_like(p) for name, p in own.items()}
        for x, y in given.batches(32):
            for name, slopes in each(own, x, y).items():
                total[name] += slopes.square().sum(0)
        return list(total.values())

    return work


def one_at_a_time(given: Pass) -> Work:
    own = list(given.model.parameters())

    def work() -> list[Tensor]:
        total = [torch.zeros_like(p) for p in own]
        for x, y in given.batches(1):
            slopes = torch.autograd.grad(F.cross_entropy(given.model(x), y), own)
            for sum_, slope in zip(total, slopes, strict=True):
                sum_.addcmul_(slope, slope)
        return total

    return work


OTHERS = {
    "BackPACK": backpack,
    "Opacus": opacus,
    "vmap": vectorised,
    "one at a time": one_at_a_time,
}


def tried(way: Callable[[Pass], Work], given: Pass) -> Work | None:
    """The work, if it can be done and gives what it should."""
    exact = [part.float() for part in ours(given)().values()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work = way(given)
            found = work()
    except Exception:  # whatever a library says of a network that it does not know
        return None
    right = all((a - b).norm() <= 1e-2 * b.norm() for a, b in zip(found, exact, strict=True))
    return work if right else None


# --- Rows ---------------------------------------------------------------------------------------


def seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def speed(name: str, case: Case) -> list[Row]:
    given = made(case)
    own = {"own": plain(given), "last": channels_last(given)}
    own |= {"all": ours(given), "two": two_examples(given)}
    others = {way: tried(make, given) for way, make in OTHERS.items()} if case.compare else {}
    able = {way: work for way, work in others.items() if work is not None}
    for work in own.values():
        work()
    turns = []
    for turn in range(TURNS):
        ways = own | able if turn < TURNS_OF_OTHERS else own
        turns.append({way: seconds(work) for way, work in ways.items()})

    def ratio(way: str, plainly: str = "own", less: str | None = None) -> float:
        parts = [t for t in turns if way in t]
        return statistics.median((t[way] - t.get(less or "", 0)) / t[plainly] for t in parts)

    value, strict = (ratio("all", layout, less="two") for layout in ("own", "last"))
    plainly, last, first = (
        1e3 * statistics.median(t[way] for t in turns) for way in ("own", "last", "two")
    )
    found: list[Row] = [
        {
            "what": f"{name}, {case.n} examples: Fisher diagonal ÷ plain pass ({plainly:.0f} ms; "
            f"{first:.0f} ms more at first)",
            "value": f"{value:.2f}×",
            "aim": f"≤ {case.aim:.1f}×",
            "ok": value <= case.aim,
        },
        {
            "what": f"{name}: the same ÷ plain pass with channels last ({last:.0f} ms)",
            "value": f"{strict:.2f}×",
            "aim": f"≤ {case.aim:.1f}×",
            "ok": strict <= case.aim,
        },
    ]
    if others:
        ratios = {way: ratio(way) if way in able else math.nan for way in others}
        found.append(
            {
                "what": f"{name}: the same by other ways: {listed(ratios)}",
                "value": f"{value:.2f}×",
                "aim": "the least",
                "ok": value <= min(x for x in ratios.values() if not math.isnan(x)),
            }
        )
    return found


def listed(found: dict[str, float]) -> str:
    return ", ".join(f"{way} {'-' if math.isnan(x) else f'{x:.1f}×'}" for way, x in found.items())


def peak(name: str, way: str) -> float:
    """MiB that a fresh process grows by; NaN if it cannot be done."""
    command = [sys.executable, "-m", "benchmarks.fisher", name, way]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else math.nan


def growth(work: Work) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) / (2**20 if sys.platform == "darwin" else 2**10)


def memory(name: str) -> list[Row]:
    base = peak(name, "plain")
    own = peak(name, "ours") / base
    found = {way: peak(name, way) / base for way in OTHERS}
    return [
        {
            "what": f"{name}: peak memory ÷ plain pass's ({base:.0f} MiB); {listed(found)}",
            "value": f"{own:.2f}×",
            "aim": "≤ 1.5×",
            "ok": own <= 1.5,
        }
    ]


def rows() -> list[Row]:
    found = memory("VGG, 32 to 256 channels")
    for name, case in CASES.items():
        found += speed(name, case)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        name, way = sys.argv[1:]
        print(growth({"plain": plain, "ours": ours, **OTHERS}[way](made(CASES[name]))))
    else:
        for row in rows():
            print(f"{row['what']}: {row['value']} (aim {row['aim']}) {'✓' if row['ok'] else '✗'}")
