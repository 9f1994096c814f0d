"""Scans that do not show a model's anatomy, made from scans that do: what its calibration learns doubt from.

They keep the values and much of the texture of real scans, so that neither gives them away. Real scans of other
anatomy are kept for the report on how a model behaves out of distribution, see benchmarks/out_of_distribution.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from H3DELandmarksLib.geometry import Volume
from H3DELandmarksLib.landmarks import LandmarkSet
from H3DELandmarksLib.training.cases import Case

PARTS = 4
MOST_CASES = 12


def foreign_cases(cases: Sequence[Case], rng: np.random.Generator) -> Iterator[Case]:
    """Three disturbed copies of up to `MOST_CASES` cases, one by one, in which no landmark is present."""
    for case in cases[:MOST_CASES]:
        for disturb in (shuffled, scrambled, inverted):
            volume = Volume(disturb(case.volume.array, rng), case.volume.affine)
            nothing = np.full((len(case.landmarks), 3), np.nan)
            yield Case(f"{case.name}-{disturb.__name__}", volume, LandmarkSet(case.landmarks.names, nothing))


def shuffled(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blocks of a scan in another order: every part is real, but nothing is where it belongs."""
    result = array.copy()
    size = [max(1, count // PARTS) for count in array.shape]
    corners = np.stack(np.meshgrid(*(np.arange(min(PARTS, n)) for n in array.shape), indexing="ij"), -1).reshape(-1, 3)
    for here, there in zip(corners, rng.permutation(corners)):
        target, source = (tuple(slice(c * s, (c + 1) * s) for c, s in zip(corner, size)) for corner in (here, there))
        result[target] = array[source]
    return result


def scrambled(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clouds with the spectrum and the values of a scan: its phases are random (Theiler et al., Physica D 58, 1992)."""
    from scipy.fft import irfftn, rfftn

    noise = rfftn(rng.standard_normal(array.shape, dtype=np.float32))
    clouds = irfftn(np.abs(rfftn(array.astype(np.float32))) * noise / np.maximum(np.abs(noise), 1e-12), s=array.shape)
    result = np.empty(array.size, array.dtype)
    result[np.argsort(clouds, axis=None)] = np.sort(array, axis=None)
    return result.reshape(array.shape)


def inverted(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scan whose bright parts are dark and the reverse."""
    low, high = np.percentile(array, (0.5, 99.9))
    return np.clip(low + high - array.astype(np.float32), low, high).astype(array.dtype)
