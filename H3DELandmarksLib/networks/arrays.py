"""The one place where numpy's arrays become PyTorch's tensors and come back.

PyTorch's own bridge is bound to the numpy that it was built with: the last PyTorch for Intel Macs (2.2) has none beside
the numpy 2 that Slicer brings. DLPack, which both have spoken since numpy 1.23, knows no such bond.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_tensor(array: np.ndarray) -> Tensor:
    """A tensor of an array's values, on the CPU; it shares the array's memory where that is contiguous and writable.

    Args:
        array: numbers or booleans of any shape, of a kind that PyTorch knows.
    """
    array = np.require(array, requirements=["C", "W"])
    if array.size == 0:
        return torch.zeros(array.shape, dtype=getattr(torch, str(array.dtype)))
    if array.dtype == bool:
        return torch.from_dlpack(array.view(np.uint8)).bool()
    return torch.from_dlpack(array)


def to_array(tensor: Tensor) -> np.ndarray:
    """An array of a tensor's values, writable, whatever device it lies on; bfloat16 becomes float32."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bool:
        return to_array(tensor.to(torch.uint8)).astype(bool)
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    if tensor.numel() == 0:
        return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    array = np.from_dlpack(tensor)
    return array if array.flags.writeable else array.copy()
