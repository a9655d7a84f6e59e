"""Data: tensors on the device, any map-style Dataset, and real data sets by name."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from oblivio.core import Data
from oblivio.data.arrays import Arrays
from oblivio.data.dataset import loaded


def as_data(examples: Any) -> Data:
    """Data of whatever the user has: a pair of tensors, a map-style Dataset, or Data already.

    Args:
        examples: `(inputs, labels)` as tensors or NumPy arrays, a Dataset of `(input, label)`, or
            Data.

    Returns:
        The examples with ids 0 … n − 1 (Data keeps its own).

    Raises:
        TypeError: If it is none of these, or if labels are not whole numbers.
        ValueError: If there are no examples, a label is negative, or an input is not finite.

    Example:
        >>> import torch
        >>> len(as_data((torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1]))))
        5
    """
    if isinstance(examples, Data):
        return examples
    if isinstance(examples, TensorDataset) and len(examples.tensors) == 2:
        examples = examples.tensors
    if isinstance(examples, tuple) and len(examples) == 2:
        inputs, labels = (torch.as_tensor(x) if isinstance(x, np.ndarray) else x for x in examples)
        if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
            return Arrays.checked(inputs, labels)
    if hasattr(examples, "__getitem__") and hasattr(examples, "__len__"):
        return loaded(cast("Dataset[Any]", examples))
    raise TypeError(
        f"Data must be a pair of tensors (inputs, labels) or a map-style Dataset of (input, "
        f"label), not {type(examples).__name__}."
    )
