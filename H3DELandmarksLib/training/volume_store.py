"""Scans of many training cases: the first ones in memory, the others in files that are mapped, read crop by crop.

So a training needs the same memory however many cases it has.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, canonical

IN_MEMORY_BYTES = 1 << 29
SPARE_BYTES = 1 << 30


class VolumeStore:
    """Keeps volumes within a limit of memory.

    What exceeds it lies in unnamed files of a folder, which vanish with the program (on Windows, they are left in the
    folder for temporary files where the program is killed).
    """

    def __init__(self, folder: Path, limit: int = IN_MEMORY_BYTES) -> None:
        """Begin with an empty store; `limit` is in bytes of voxels."""
        self.folder = folder
        self._left = limit

    def kept(self, volume: Volume) -> Volume:
        """The same volume, its voxels in memory or in a file; in a file they lie in `canonical` order.

        Raises:
            InputError: the disk is too full.
        """
        if volume.array.nbytes <= self._left:
            self._left -= volume.array.nbytes
            return volume
        volume = canonical(volume)
        return Volume(self._on_disk(volume.array), volume.affine)

    def _on_disk(self, array: np.ndarray) -> np.ndarray:
        if shutil.disk_usage(self.folder).free < array.nbytes + SPARE_BYTES:
            raise InputError(
                f"The disk of '{self.folder}' has no room for the scans that memory cannot hold: free some, or choose "
                "an output folder on another disk."
            )
        with tempfile.NamedTemporaryFile(prefix=".scan-", dir=self.folder, delete=False) as handle:
            np.ascontiguousarray(array).tofile(handle)
        mapped = np.memmap(handle.name, array.dtype, "r", shape=array.shape)
        with suppress(OSError):  # Windows keeps files that are open
            Path(handle.name).unlink()
        return mapped


def release(array: np.ndarray) -> None:
    """Give back the memory of those parts of a mapped file that were read; nothing happens to other arrays."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        mapped = getattr(owner, "_mmap", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
            return
        owner = owner.base
