"""The widest type to sum in: float64, but on devices that have none."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WITHOUT_FLOAT64 = {"mps"}  # Metal knows no double precision, and torch raises for it


def wide(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without it: what is summed there is then rounded to 24 bits."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def widest(array: np.ndarray, device: torch.device) -> Tensor:
    """Float64 numbers of the host on a device, in its widest type; rounded on the host, where that is possible."""
    return torch.from_numpy(array.astype(np.float32 if device.type in WITHOUT_FLOAT64 else np.float64)).to(device)
