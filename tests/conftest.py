"""What holds in all tests: shapes are checked, one thread computes, and slow tests run apart."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest
from jaxtyping import config as shape_checks
from jaxtyping import install_import_hook

# Before the package is imported: every function that sees tensors checks its annotations.
CHECKED = (
    "files",
    "mask",
    "compact",
    "choice",
    "core",
    "generative",
    "adversarial",
    "judge",
    "gan",
    "shadow",
    "catalogue",
    "data",
    "models",
    "train",
    "fleet",
    "game",
    "prune",
    "curvature",
    "scenarios",
    "methods",
    "metrics",
    "evidence",
    "apps",
    "bench",
)
install_import_hook([f"oblivio.{part}" for part in CHECKED], "shapes.checked")
pytest.register_assert_rewrite("laws")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell does to background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)

import torch  # ruff: ignore[module-import-not-at-top-of-file]
from hypothesis import settings  # ruff: ignore[module-import-not-at-top-of-file]

torch.set_num_threads(1)
settings.register_profile("oblivio", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("oblivio")


@pytest.fixture
def unchecked() -> Generator[None]:
    """Without shape checks, as the package runs at a user's, to hear its own errors."""
    shape_checks.update("jaxtyping_disable", True)
    yield
    shape_checks.update("jaxtyping_disable", False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests unless marks are chosen with -m, and GPU tests where there is none."""
    slow = pytest.mark.skip(reason="slow: run it with -m slow")
    gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "slow" in item.keywords and not config.option.markexpr:
            item.add_marker(slow)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(gpu)
