"""One scan laid over another of the same anatomy: where the points of the first lie in the second.

Scans are aligned by an affine transform, or by points that are known in both; then demons deform what is left, and each
point looks for the place around it that correlates best with its own neighborhood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.image_plane import lay_flat, points_on_sheet

# Voxels along the longest edge of a scan while it is deformed, and while neighborhoods are compared.
VOXELS, FINE_VOXELS = {2: 300, 3: 110}, {2: 600, 3: 220}
# Half edge of the neighborhoods that are compared and how far around they are looked for, in shares of that edge.
LOOKS = ((0.06, 0.035), (0.025, 0.0125))
DEMONS = ((4, 60), (2, 40))  # (shrink factor, steps)
CAUTION = 0.3  # correlation that must be gained for the farthest place that is looked at
SMOOTHING = 1e-2  # of what leads from points to points, whose places are not exact
FEWEST_POINTS = 4  # that tell an affine transform


@dataclass(frozen=True)
class Picture:
    """A scan made ready to be laid over others.

    Attributes:
        coarse, fine: float32 images from 0 to 1 with 2 axes (a radiograph on its sheet) or 3; mm.
        lps_from_own: (4, 4) from the frame of the images to LPS mm.
    """

    coarse: sitk.Image
    fine: sitk.Image
    lps_from_own: np.ndarray

    @classmethod
    def of(cls, volume: Volume) -> Picture:
        """Of a scan in any orientation; one slice is a radiograph."""
        is_flat = 1 in volume.array.shape
        ordered, lps_from_own = lay_flat(volume) if is_flat else (canonical(volume), np.eye(4))
        array = ordered.array[..., 0].T if is_flat else ordered.array.transpose(2, 1, 0)
        image = sitk.GetImageFromArray(_from_0_to_1(array))
        axes = image.GetDimension()
        image.SetSpacing(ordered.spacing[:axes].tolist())
        image.SetOrigin(ordered.affine[:axes, 3].tolist())
        image.SetDirection((ordered.affine[:axes, :axes] / ordered.spacing[:axes]).ravel().tolist())
        return cls(_shrunk(image, VOXELS[axes]), _shrunk(image, FINE_VOXELS[axes]), lps_from_own)

    @property
    def axes(self) -> int:
        """2 or 3."""
        return int(self.coarse.GetDimension())

    @property
    def edge(self) -> float:
        """The longest, mm."""
        return float(max(n * mm for n, mm in zip(self.coarse.GetSize(), self.coarse.GetSpacing())))

    def own(self, points: np.ndarray) -> np.ndarray:
        """(..., 2 or 3) mm in the frame of the images from (..., 3) LPS mm."""
        return points_on_sheet(self.lps_from_own, points)[..., :2] if self.axes == 2 else np.asarray(points, float)

    def lps(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) LPS mm from (..., 2 or 3) mm in the frame of the images."""
        padded = np.pad(points, [(0, 0)] * (points.ndim - 1) + [(0, 3 - self.axes)])
        moved: np.ndarray = padded @ self.lps_from_own[:3, :3].T + self.lps_from_own[:3, 3]
        return moved

    def contains(self, points: np.ndarray) -> np.ndarray:
        """(K,) bool: whether (K, 3) LPS points lie in the scan, or on its sheet; NaN does not."""
        own = np.nan_to_num(self.own(points), nan=np.inf)
        inside: np.ndarray = np.zeros(len(own), bool)
        for k in np.flatnonzero(np.isfinite(own).all(axis=1)):
            index = np.array(self.coarse.TransformPhysicalPointToContinuousIndex(own[k].tolist()))
            inside[k] = ((index >= -0.5) & (index <= np.array(self.coarse.GetSize()) - 0.5)).all()
        return inside


def _from_0_to_1(array: np.ndarray) -> np.ndarray:
    step = max(1, round((array.size / 1e6) ** (1 / array.ndim)))
    low, high = np.percentile(array[(slice(None, None, step),) * array.ndim], (1, 99.5))
    return np.ascontiguousarray(np.clip((array - low) / max(high - low, 1e-6), 0, 1), dtype=np.float32)


def _shrunk(image: sitk.Image, voxels: int) -> sitk.Image:
    """Means over blocks, so that the longest edge has about so many voxels."""
    edge = max(n * mm for n, mm in zip(image.GetSize(), image.GetSpacing())) / voxels
    factors = [max(1, int(np.ceil(edge / mm - 0.25))) for mm in image.GetSpacing()]
    return sitk.BinShrink(image, factors) if max(factors) > 1 else image


@dataclass(frozen=True)
class Laid:
    """Points of one scan in another.

    Attributes:
        positions: (K, 3) LPS mm, NaN for points that the first does not have.
        similarity: (K,) correlation of the neighborhoods, -1 to 1; 0 for such points.
    """

    positions: np.ndarray
    similarity: np.ndarray

    @property
    def likeness(self) -> float:
        """Mean correlation of the neighborhoods; it tells best how far points are off."""
        known = np.isfinite(self.positions).all(axis=1)
        return float(self.similarity[known].mean()) if known.any() else 0.0


def lay_over(
    example: Picture, scan: Picture, points: np.ndarray, known: tuple[np.ndarray, np.ndarray] | None = None
) -> Laid:
    """Where points of an example lie in a scan.

    Args:
        example: where the points are known.
        scan: where they are looked for; of as many axes.
        points: (K, 3) LPS mm in the example; rows of NaN are of points that it does not have.
        known: (M, 3) LPS mm of other points in the example, and of the same in the scan; None for none.
    """
    start = affine_alignment(example, scan) if known is None else through_points(example, scan, *known)
    scan_on_example = sitk.Resample(scan.coarse, example.coarse, start, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    both = sitk.CompositeTransform([start, demons(example.coarse, scan_on_example)])
    there = np.isfinite(points).all(axis=1)
    moved = sitk.Resample(scan.fine, example.fine, both, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    positions, similarity = np.full((len(points), 3), np.nan), np.zeros(len(points))
    found, similarity[there] = follow(example.fine, moved, example.own(points[there]), example.edge)
    own = np.array([both.TransformPoint(point.tolist()) for point in found]).reshape(-1, example.axes)
    positions[there] = scan.lps(own)
    return Laid(positions, similarity)


def affine_alignment(example: Picture, scan: Picture) -> sitk.Transform:
    """From the example to the scan, by mutual information; scans that are turned far are not aligned."""
    kinds = sitk.CenteredTransformInitializerFilter
    aligned = [_aligned_from(example.coarse, scan.coarse, kind) for kind in (kinds.GEOMETRY, kinds.MOMENTS)]
    return min(aligned, key=lambda pair: pair[0])[1]


def _aligned_from(fixed: sitk.Image, moving: sitk.Image, kind: int) -> tuple[float, sitk.Transform]:
    """The metric, the lower the better, and the transform that an optimum near this start has."""
    axes = fixed.GetDimension()
    start = sitk.CenteredTransformInitializer(fixed, moving, sitk.AffineTransform(axes), kind)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.8, 0.4, 0.2] if axes == 2 else [0.5, 0.2, 0.05], 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(4.0, 1e-3, 150, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([8, 4, 2] if axes == 2 else [4, 2, 2])
    method.SetSmoothingSigmasPerLevel([4, 2, 1] if axes == 2 else [2, 1, 1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(start, False)
    try:
        transform = method.Execute(fixed, moving)
    except RuntimeError:  # pictures that hardly overlap on the way
        return np.inf, start
    return method.GetMetricValue(), transform


def through_points(example: Picture, scan: Picture, here: np.ndarray, there: np.ndarray) -> sitk.Transform:
    """From the example to the scan: smooth, and nearly through points that are known in both, (M, 3) LPS mm each."""
    from scipy.interpolate import RBFInterpolator

    own, others = example.own(here) / example.edge, scan.own(there)
    smooth = RBFInterpolator(
        own, others, kernel="thin_plate_spline" if example.axes == 2 else "linear", smoothing=SMOOTHING, degree=1
    )
    grid = _shrunk(example.coarse, VOXELS[example.axes] // 6)
    index = np.stack(np.meshgrid(*map(np.arange, grid.GetSize()), indexing="ij"), axis=-1).reshape(-1, example.axes)
    at = index * grid.GetSpacing() @ np.reshape(grid.GetDirection(), (example.axes,) * 2).T + grid.GetOrigin()
    shift = (smooth(at / example.edge) - at).reshape(*grid.GetSize(), example.axes)
    field = sitk.GetImageFromArray(np.swapaxes(shift, 0, example.axes - 1), isVector=True)
    field.CopyInformation(grid)
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def demons(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """What deforms points of one picture to where they lie in the other, which is aligned with it."""
    moving = sitk.HistogramMatching(moving, fixed, 256, 7, True)
    field = None
    for shrink, steps in DEMONS:
        factors = [shrink] * fixed.GetDimension()
        small, other = sitk.BinShrink(fixed, factors), sitk.BinShrink(moving, factors)
        method = sitk.DiffeomorphicDemonsRegistrationFilter()
        method.SetNumberOfIterations(steps)
        method.SetStandardDeviations(1.5)
        if field is None:
            field = method.Execute(small, other)
        else:
            field = sitk.Resample(field, small, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64)
            field = method.Execute(small, other, field)
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def follow(fixed: sitk.Image, moving: sitk.Image, points: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """The places in one picture whose neighborhoods are most like those of points in the other, which lies over it.

    Args:
        fixed: where the points are known.
        moving: on the same grid.
        points: (K, A) mm.
        edge: the pictures' longest, mm.

    Returns:
        (K, A) mm, and (K,) correlation.
    """
    places, similarity = np.array(points, float), np.zeros(len(points))
    for half, around in LOOKS:
        for k, point in enumerate(points):
            places[k], similarity[k] = _best_place(fixed, moving, point, places[k], half * edge, around * edge)
    return places, similarity


def _best_place(
    fixed: sitk.Image, moving: sitk.Image, point: np.ndarray, place: np.ndarray, half: float, around: float
) -> tuple[np.ndarray, float]:
    spacing = np.array(fixed.GetSpacing())
    patch, region = _cut(fixed, point, half), _cut(moving, place, half + around)
    if min(np.ptp(patch), np.ptp(region)) < 1e-3:
        return place, 0.0
    match = correlations(region, patch)
    away = sum(x**2 for x in np.meshgrid(*(np.linspace(-1, 1, n) for n in match.shape), indexing="ij", sparse=True))
    best = np.unravel_index(np.argmax(match - CAUTION * away), match.shape)
    offset = (np.array(best) - (np.array(match.shape) - 1) / 2)[::-1] * spacing
    direction = np.reshape(fixed.GetDirection(), (len(spacing),) * 2)
    return place + direction @ offset, float(match[best])


def _cut(image: sitk.Image, center: np.ndarray, half: float) -> np.ndarray:
    """An odd number of voxels around a place, in the order of SimpleITK's arrays."""
    spacing = np.array(image.GetSpacing())
    steps = np.maximum(1, np.round(half / spacing)).astype(int)
    direction = np.reshape(image.GetDirection(), (len(spacing),) * 2)
    origin = center - direction @ (steps * spacing)
    size = (2 * steps + 1).tolist()
    cut = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, origin.tolist(), image.GetSpacing(), image.GetDirection(), 0.0
    )
    return np.asarray(sitk.GetArrayViewFromImage(cut), float)


def correlations(region: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Normalised correlation of a patch with each place of a region in which it lies whole."""
    from scipy.signal import fftconvolve

    turned = (patch - patch.mean())[(slice(None, None, -1),) * patch.ndim]
    same = np.ones_like(patch)
    mean = fftconvolve(region, same, "valid") / patch.size
    spread = fftconvolve(region**2, same, "valid") / patch.size - mean**2
    product: np.ndarray = fftconvolve(region, turned, "valid") / patch.size
    product /= patch.std() * np.sqrt(np.maximum(spread, 1e-4))
    return product
