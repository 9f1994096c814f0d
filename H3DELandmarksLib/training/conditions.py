"""Scans as users have them, and scans of something else, both made from annotated cases.

Calibration looks at each case in these ways, since a model that knows whole and clean scans alone takes every other one
for something foreign. What looks like the anatomy but is not it is made from the same cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, Volume, canonical, resample
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.training.calibration import truncated_case
from H3DELandmarksLib.training.cases import Case, absent_unless

Condition = Callable[[Case, np.random.Generator], Case]
Disturbance = Callable[[np.ndarray, np.random.Generator], np.ndarray]
PARTS = 4  # blocks along each axis of a shuffled scan
MIN_VOXELS = 16
LETTERS_HEIGHT = 7


def value_range(array: np.ndarray) -> tuple[float, float]:
    """Values that nearly all voxels lie between; they differ in a constant scan, too."""
    low, high = np.percentile(array, (0.5, 99.9))
    return float(low), float(max(high, low + 1e-6))


def _with_array(case: Case, array: np.ndarray) -> Case:
    """The case with other values, rounded and clipped to what the type of the old ones can hold."""
    kind = case.volume.array.dtype
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        array = np.clip(np.round(array), limits.min, limits.max)
    return Case(case.name, Volume(array.astype(kind), case.volume.affine), case.landmarks)


def cropped_case(case: Case, rng: np.random.Generator) -> Case:
    """A box around one landmark, 35 to 65 % as large along each axis as all landmarks with what lies around them."""
    grid, points = case.volume.grid, case.landmarks.positions[case.landmarks.present]
    if len(points) == 0:
        return case
    index = grid.ijk_from_lps(points)
    sizes = np.array(grid.shape)
    around = np.minimum(1.3 * np.ptp(index, axis=0) + 2 * MIN_VOXELS, sizes)
    wanted = np.ceil(np.clip(around * rng.uniform(0.35, 0.65, 3), np.minimum(MIN_VOXELS, sizes), sizes)).astype(int)
    corner = index[rng.integers(len(index))] - wanted * rng.uniform(0.25, 0.75, 3)
    corner = np.clip(np.round(corner).astype(int), 0, sizes - wanted)
    return case.part(corner, wanted)


def cone_beam_case(case: Case, rng: np.random.Generator) -> Case:
    """An upright cylinder about the landmarks, as wide as they are and often lower, with other contrast and noise."""
    points = case.landmarks.positions[case.landmarks.present]
    if len(points) == 0:
        return case
    volume = canonical(case.volume)
    index, sizes = volume.grid.ijk_from_lps(points), np.array(volume.array.shape)
    span = np.maximum(np.ptp(index, axis=0) * volume.spacing, 0.2 * np.ptp(points, axis=0).max())
    middle = (index.min(axis=0) + index.max(axis=0)) / 2 + rng.uniform(-0.15, 0.15, 3) * span / volume.spacing
    radius = span[:2].max() / 2 * rng.uniform(0.8, 1.25)
    half = np.array([radius, radius, span[2] / 2 * rng.uniform(0.55, 1.1)]) / volume.spacing
    least = np.minimum(MIN_VOXELS, sizes)
    corner = np.clip(np.floor(middle - half).astype(int), 0, sizes - least)
    end = np.clip(np.ceil(middle + half).astype(int) + 1, corner + least, sizes)
    part = Case(case.name, volume, case.landmarks).part(corner, end - corner)

    def beyond(places: np.ndarray) -> np.ndarray:
        away = (places - (middle - corner))[..., :2] * volume.spacing[:2] * (sizes[:2] > 1)
        far: np.ndarray = np.hypot(away[..., 0], away[..., 1]) > radius
        return far

    low, high = value_range(volume.array)
    noise = rng.standard_normal(part.volume.array.shape, dtype=np.float32) * 0.03 * (high - low)
    array = low + (part.volume.array - low) * rng.uniform(0.8, 1.1) + rng.uniform(-0.04, 0.04) * (high - low) + noise
    columns = np.stack(np.meshgrid(*map(np.arange, array.shape[:2]), [0], indexing="ij"), axis=-1)
    array[beyond(columns)[..., 0]] = low
    seen = absent_unless(~beyond(part.volume.grid.ijk_from_lps(part.landmarks.positions)), part.landmarks)
    return _with_array(Case(case.name, part.volume, seen), array)


def noisy_case(case: Case, rng: np.random.Generator) -> Case:
    """White noise with a standard deviation of 4 to 10 % of the range of values."""
    low, high = value_range(case.volume.array)
    noise = rng.standard_normal(case.volume.array.shape, dtype=np.float32)
    return _with_array(case, case.volume.array + noise * (rng.uniform(0.04, 0.1) * (high - low)))


def metal_case(case: Case, rng: np.random.Generator) -> Case:
    """Two to four pieces of metal near landmarks: rods in a radiograph, else balls with streaks in their slices.

    Streaks come from the reconstruction of slices (De Man et al., IEEE Trans. Nucl. Sci. 46:691, 1999), so that no
    radiograph has them.
    """
    points = case.landmarks.positions[case.landmarks.present]
    if len(points) == 0:
        return case
    volume = canonical(case.volume)
    array = volume.array.astype(np.float32)
    low, high = value_range(array)
    size = 0.04 * np.ptp(points, axis=0).max() + volume.spacing.max()
    i, j, k = np.meshgrid(*map(np.arange, array.shape), indexing="ij", sparse=True)
    for _ in range(rng.integers(2, 5)):
        place = points[rng.integers(len(points))] + rng.normal(0, 2 * size, 3) * (np.array(array.shape) > 1)
        away = [
            (axis - at) * step for axis, at, step in zip((i, j, k), volume.grid.ijk_from_lps(place), volume.spacing)
        ]
        if array.shape[2] == 1:
            array[_in_rod(away[0], away[1], size, rng)] = high + 0.5 * (high - low)
            continue
        distance = np.hypot(away[0], away[1])
        fade = np.exp(-((away[2] / size) ** 2)) * np.exp(-distance / (5 * size)) * 0.4 * (high - low)
        array += fade * np.cos(np.arctan2(away[1], away[0]) * rng.integers(5, 9) + rng.uniform(0, 6))
        array[(distance < size) & (np.abs(away[2]) < size)] = high + 0.5 * (high - low)
    return _with_array(Case(case.name, volume, case.landmarks), array)


def _in_rod(x: np.ndarray, y: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Where places lie in a rod with round ends, as of a filling, a screw or a plate.

    Args:
        x, y: mm from its middle, broadcast to the shape of the picture.
        size: mm; the rod is 0.6 to 2 times as thick, and 0 to 6 times as long besides.
        rng: draws thickness, length and direction.
    """
    radius, half, angle = size * rng.uniform(0.3, 1.0), size * rng.uniform(0.0, 3.0), rng.uniform(0.0, np.pi)
    along = np.clip(x * np.cos(angle) + y * np.sin(angle), -half, half)
    inside: np.ndarray = np.hypot(x - along * np.cos(angle), y - along * np.sin(angle)) < radius
    return inside


def restored_case(case: Case, rng: np.random.Generator) -> Case:
    """The case with its array axes reordered and flipped; every voxel keeps its place in the patient."""
    axes = rng.permutation(3)
    affine, array = case.volume.affine[:, [*axes, 3]], case.volume.array.transpose(axes)
    for axis in np.flatnonzero(rng.random(3) < 0.5):
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
        array = np.flip(array, int(axis))
    return Case(case.name, Volume(array, affine), case.landmarks)


def coarser_case(case: Case, rng: np.random.Generator) -> Case:
    """Voxels 1.3 to 1.7 times as large."""
    volume = canonical(case.volume)
    factor = np.where(np.array(volume.array.shape) > 1, rng.uniform(1.3, 1.7), 1.0)
    shape = np.maximum(np.round(np.array(volume.array.shape) / factor).astype(int), 1)
    affine = volume.affine @ np.diag([*factor, 1.0])
    affine[:3, 3] = volume.grid.lps_from_ijk((factor - 1) / 2)
    low = value_range(volume.array)[0]
    return Case(case.name, resample(volume, Grid(affine, tuple(shape)), low), case.landmarks)


# What a scan of the anatomy may look like; each is looked at when a model learns to recognise it.
WHOLE = "whole"
CONDITIONS: Mapping[str, Condition] = {
    WHOLE: lambda case, rng: case,
    "cut": truncated_case,
    "small part": cropped_case,
    "cone beam": cone_beam_case,
    "noise": noisy_case,
    "metal": metal_case,
    "stored otherwise": restored_case,
    "coarser": coarser_case,
}


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
    low, high = value_range(array)
    return np.clip(low + high - array.astype(np.float32), low, high).astype(array.dtype)


def noise_alone(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise, or noise of grains of up to a tenth of the scan, with the values of a scan."""
    from scipy.ndimage import gaussian_filter

    grain = rng.uniform(0, 0.03) * max(array.shape) if rng.random() < 0.7 else 0.0
    clouds = gaussian_filter(rng.standard_normal(array.shape, dtype=np.float32), grain)
    result = np.empty(array.size, array.dtype)
    result[np.argsort(clouds, axis=None)] = np.sort(array, axis=None)
    return result.reshape(array.shape)


def shapes(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Balls, rods and plates of any size and brightness on an even ground: a test object, or drawn signs."""
    low, high = value_range(array)
    sizes = np.array(array.shape)
    result = np.full(array.shape, low, np.float32)
    for _ in range(rng.integers(4, 40)):
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        if array.shape[2] == 1:
            across, along = turn[0, :2] / np.linalg.norm(turn[0, :2])
            turn = np.array([[across, along, 0], [-along, across, 0], [0, 0, 1]])
        half = sizes.max() * rng.uniform(0.01, 0.25, 3) * rng.uniform(0.2, 1.0, 3)
        middle, reach = rng.uniform(0, 1, 3) * sizes, np.linalg.norm(half)
        part = tuple(slice(max(0, int(m - reach)), max(0, int(m + reach) + 2)) for m in middle)
        places = np.stack(np.meshgrid(*(np.arange(n)[p] for n, p in zip(sizes, part)), indexing="ij"), -1)
        local = np.abs((places - middle).astype(np.float32) @ turn.T.astype(np.float32)) / half
        inside = (local**2).sum(axis=-1) < 1 if rng.random() < 0.5 else local.max(axis=-1) < 1
        result[part][inside] = rng.uniform(low, high)
    result += rng.standard_normal(array.shape, dtype=np.float32) * rng.uniform(0, 0.05) * (high - low)
    return np.clip(result, low, high).astype(array.dtype)


def letters(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of signs in every slice, as on a screenshot or a scanned page; dark on bright or the reverse."""
    low, high = value_range(array)
    ink, paper = (high, low) if rng.random() < 0.5 else (low, high)
    line = max(LETTERS_HEIGHT, int(max(array.shape[:2]) / rng.uniform(15, 60)))
    cells = rng.random((-(-array.shape[0] * 8 // line), -(-array.shape[1] * 8 // line))) < 0.45
    page = np.repeat(np.repeat(cells, max(1, line // 8), axis=0), max(1, line // 8), axis=1)
    page = np.resize(page, (max(array.shape[0], page.shape[0]), max(array.shape[1], page.shape[1])))
    page = page[: array.shape[0], : array.shape[1]].copy()
    page[:, (np.arange(array.shape[1]) % line) > 0.6 * line] = False
    page[(np.arange(array.shape[0]) % (5 * line)) > 4.5 * line] = False
    return np.broadcast_to(np.where(page, ink, paper)[:, :, None], array.shape).astype(array.dtype)


# What is not the anatomy, made from a scan of it. Scans upside down, or of the wrong size, are not among it: networks
# find points in them nearly as in scans as they should be, and what tells these apart from others would be unlearnt.
DISTURBANCES: Mapping[str, Disturbance] = {
    made.__name__: made for made in (shuffled, scrambled, inverted, noise_alone, shapes, letters)
}


def disturbed_cases(case: Case, rng: np.random.Generator) -> Iterator[Case]:
    """The case disturbed in every way, one by one; no landmark is present."""
    for name, disturb in DISTURBANCES.items():
        volume = Volume(disturb(case.volume.array, rng), case.volume.affine)
        nothing = np.full((len(case.landmarks), 3), np.nan)
        yield Case(f"{case.name}-{name}", volume, LandmarkSet(case.landmarks.names, nothing))
