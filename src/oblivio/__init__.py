"""oblivio makes a trained PyTorch model forget, and measures honestly how well it did.

The public words are imported when they are first used, so that `import oblivio` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oblivio.adversarial import Adversarial, fit_gan
    from oblivio.compact import load_compact, save_compact
    from oblivio.core import Data, Origin, Outcome, Run, Split, Trial, predict, unlearn
    from oblivio.data import as_data
    from oblivio.data.arrays import Arrays, Augment
    from oblivio.data.dataset import loaded
    from oblivio.generative import GAN
    from oblivio.mask import Mask
    from oblivio.models import load_weights
    from oblivio.prune import Pruned
    from oblivio.train import Recipe, fit

__version__ = "0.1.0"

__all__ = [
    "GAN",
    "Adversarial",
    "Arrays",
    "Augment",
    "Data",
    "Mask",
    "Origin",
    "Outcome",
    "Pruned",
    "Recipe",
    "Run",
    "Split",
    "Trial",
    "as_data",
    "fit",
    "fit_gan",
    "load_compact",
    "load_weights",
    "loaded",
    "predict",
    "save_compact",
    "unlearn",
]

_HOMES = {
    "oblivio.adversarial": ("Adversarial", "fit_gan"),
    "oblivio.compact": ("load_compact", "save_compact"),
    "oblivio.core": ("Data", "Origin", "Outcome", "Run", "Split", "Trial", "predict", "unlearn"),
    "oblivio.data": ("as_data",),
    "oblivio.data.arrays": ("Arrays", "Augment"),
    "oblivio.data.dataset": ("loaded",),
    "oblivio.generative": ("GAN",),
    "oblivio.mask": ("Mask",),
    "oblivio.models": ("load_weights",),
    "oblivio.prune": ("Pruned",),
    "oblivio.train": ("Recipe", "fit"),
}


def __getattr__(name: str) -> Any:
    for home, words in _HOMES.items():
        if name in words:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'oblivio' has no attribute {name!r}")
