"""Files that are whole or not there at all, and fingerprints of what stands in them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the place and move it there, which is one operation; an old file is replaced."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """A fingerprint of names, shapes, types and values.

    Returns:
        Thirty-two hexadecimal digits.
    """
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        total.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:32]
