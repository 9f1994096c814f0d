"""Training where memory is short: a batch in parts, and at last on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable

from H3DELandmarksLib.errors import InputError

logger = logging.getLogger(__name__)
# What PyTorch says on CUDA and MPS, and on CPUs.
SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short; PyTorch has no class of errors for all devices."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


class MemoryPlan:
    """Into how many parts a batch is cut; what was found to fit is kept.

    Attributes:
        parts: 1 is the whole batch at once.
    """

    def __init__(self, batch: int) -> None:
        """Begin with a whole batch of so many samples."""
        self.batch, self.parts = batch, 1

    def attempt(self, work: Callable[[int], float], leave_device: Callable[[], str | None]) -> float:
        """Do the work for a batch; where memory is short, in more parts, and then on the CPU, with one warning.

        Args:
            work: gets the number of parts; may be called again after it failed.
            leave_device: moves everything to the CPU; returns the device that was left, None on the CPU already.

        Raises:
            InputError: not even one sample fits into the memory.
        """
        before, left = self.parts, None
        while True:
            try:
                result = work(self.parts)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if self.parts < self.batch:
                self.parts = min(self.batch, 2 * self.parts)
            elif not (left := leave_device()):
                raise InputError("The memory is too small for training this model: close other programs.")
        if left:
            logger.warning("The memory of the %s device is too small: training goes on with the CPU, slowly.", left)
        elif self.parts > before:
            logger.warning("The memory is too small for a whole batch: training goes on with %d parts of it.",
                           self.parts)
        return result
