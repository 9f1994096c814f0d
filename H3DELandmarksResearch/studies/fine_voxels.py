"""What fine voxels are worth: how much points move when the same scan is seen otherwise, by networks and on bone.

One scan is seen on shifted and turned lattices, with noise, and in other voxels; a point's spread is the root mean
square distance of its positions from their mean. It is given for the networks' points and for those on the surface of
bone, in scans that are finer than the model's voxels and in coarser ones. The scans are a real head (invesalius-
examples of Debian, which ends at the upper teeth) and, with a mesh, patients with a mandible whose surface is known,
where both kinds of points have an exact reference, and "farther" counts points that bone takes farther from it:

    python -m H3DELandmarksResearch.studies.fine_voxels --mesh FOLDER --heads ../shared/data/head-neck-ct

FOLDER is as `H3DELandmarksResearch.composites.mandible_mesh` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Grid, Volume, canonical, crop_grid, field_of_view_grid, resample
from H3DELandmarksLib.core.text import markdown_table
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.bone_surface import extremum, on_bone
from H3DELandmarksLib.formats.manifest import BoneSurface, SurfacePoint
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.composites.mandible_mesh import mandible_case, read_mandible
from H3DELandmarksResearch.composites.patient import read_patient
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.foreign_volumes import cranium

UNMEASURED = (1.0, 0.0)
DEGREES = {"menton": -90.0, "gonion": -60.0, "condylion": 58.0, "coronoid": 90.0}
FINE_MM = 1.5
CANDIDATES = BoneSurface(
    front="menton",
    left="gonion-L",
    right="gonion-R",
    max_spacing_mm=FINE_MM,
    points=tuple(
        SurfacePoint(landmark=name + side, degrees=degrees, spread_mm=UNMEASURED)
        for name, degrees in DEGREES.items()
        for side in (("",) if name == "menton" else ("-L", "-R"))
    ),
)
SHIFTS = ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5), (0.5, 0.5, 0.5))
TURNS = ((4.0, 0.0, 0.0), (0.0, 4.0, 0.0), (0.0, 0.0, 4.0), (3.0, -3.0, 4.0))
NOISES_HU = (30.0, 60.0)
VOXELS_MM: tuple[tuple[float, float, float], ...] = (
    *((edge, edge, edge) for edge in (0.6, 0.8, 1.25, 1.5, 2.0, 2.5, 3.0)),
    (0.8, 0.8, 1.5),
)
# Composites: patients of the configuration's validation and calibration cases whose mandible is drawn whole.
PATIENTS = ("pt_7", "pt_95", "pt_99")
COMPOSITE_MM, COMPOSITE_NOISE_HU, COMPOSITE_BLUR_MM = 0.8, 30.0, 0.45


@dataclass(frozen=True)
class Looks:
    """A scan as seen in many ways.

    Attributes:
        fine: (N,) bool, whether the voxels of each way are finer than the model's.
        network, surface: (N, P, 3) LPS mm, points of `CANDIDATES`; NaN where one is not found.
        reference: (P, 3) LPS mm; NaN where none is known.
    """

    fine: np.ndarray
    network: np.ndarray
    surface: np.ndarray
    reference: np.ndarray


def lattice(grid: Grid, spacing, shift=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)) -> Grid:
    """A lattice over a field of view: (3,) mm, moved by (3,) voxels and turned by a rotation vector in degrees."""
    whole, axes = field_of_view_grid(grid, 1.0, np.eye(3)), Rotation.from_rotvec(np.radians(turn)).as_matrix()
    shape = np.maximum(np.round(whole.extent / spacing), 1).astype(int)
    return crop_grid(whole.center + axes @ np.multiply(shift, spacing), axes, np.array(spacing), tuple(shape))


def versions(volume: Volume, seed: int = 0) -> Iterator[Volume]:
    """The same scan in many ways, itself first."""
    rng, air = np.random.default_rng(seed), float(volume.array.min())
    real = Volume(volume.array.astype(np.float32), volume.affine)
    yield volume
    for shift in SHIFTS:
        yield resample(real, lattice(volume.grid, volume.spacing, shift), air)
    for turn in TURNS:
        yield resample(real, lattice(volume.grid, volume.spacing, turn=turn), air)
    for noise in NOISES_HU:
        yield Volume(real.array + rng.normal(0, noise, real.array.shape).astype(np.float32), volume.affine)
    for spacing in VOXELS_MM:
        yield resample(real, lattice(volume.grid, spacing, (0.3, 0.2, 0.4)), air)


def look(detector: Detector, volume: Volume, reference: Mapping[str, np.ndarray]) -> Looks:
    """All versions of a scan; points of a mandible without teeth count even where the model doubts that they exist."""
    fine, network, surface = [], [], []
    for version in versions(volume):
        found = detector.findings(version)
        said = detector.conclude(found, version).landmarks
        if reference:
            said = detector.landmark_set(found, version.grid)
            shown = np.isfinite(found.positions).all(axis=1)
            said = type(said)(said.names, found.positions, shown.astype(float), radius=said.radius)
        expected = found.pose.to_lps(detector.shape.mean)
        network.append([said.positions[said.names.index(point.landmark)] for point in CANDIDATES.points])
        surface.append([_on_bone(version, said, expected, point, detector) for point in CANDIDATES.points])
        fine.append(version.spacing.max() <= FINE_MM + 1e-6)
    known = np.array([reference.get(point.landmark, np.full(3, np.nan)) for point in CANDIDATES.points])
    return Looks(np.array(fine), np.array(network), np.array(surface), known)


def _on_bone(version: Volume, said, expected: np.ndarray, point: SurfacePoint, detector: Detector) -> np.ndarray:
    if not said.present[said.names.index(point.landmark)]:
        return np.full(3, np.nan)
    found = on_bone(version, extremum(said, expected, CANDIDATES, point, detector.scheme))
    return np.full(3, np.nan) if found is None else found


def spread(points: np.ndarray) -> float:
    """Root mean square distance (mm) of (N, 3) points from their mean; NaN ones are left out."""
    known = points[np.isfinite(points).all(axis=1)]
    return float(np.sqrt(((known - known.mean(axis=0)) ** 2).sum(axis=1).mean())) if len(known) > 2 else float("nan")


def rows_of(name: str, looks: Looks) -> Iterator[tuple[str, ...]]:
    """The lines of a scan in the table."""
    for p, point in enumerate(CANDIDATES.points):
        cells = []
        for chosen in (looks.fine, ~looks.fine):
            seen = chosen & np.isfinite(looks.network[:, p, 0])
            network, surface = looks.network[seen, p], looks.surface[seen, p]
            placed = np.isfinite(surface[:, 0])
            cells += [f"{placed.sum()} of {seen.sum()}", *(f"{spread(points):.2f}" for points in (network, surface))]
            errors = [np.linalg.norm(points - looks.reference[p], axis=1)[placed] for points in (network, surface)]
            cells += [f"{np.median(a):.1f}" if placed.any() else "-" for a in errors]
            cells.append(str((errors[1] > errors[0]).sum()) if np.isfinite(looks.reference[p]).all() else "-")
        if looks.network[np.isfinite(looks.network[:, p, 0]), p].size:
            yield name, point.landmark, *(cell.replace("nan", "-") for cell in cells)


def learnt(seen: list[Looks]) -> BoneSurface:
    """The candidates with their spreads over all scans (root mean square), without those that are never placed."""
    points = []
    for p, point in enumerate(CANDIDATES.points):
        pairs = []
        for looks in seen:
            placed = looks.fine & np.isfinite(looks.surface[:, p, 0])
            pairs.append([spread(points[placed, p]) for points in (looks.network, looks.surface)])
        known = np.array(pairs)[np.isfinite(pairs).all(axis=1)]
        if len(known):
            network, surface = np.sqrt((known**2).mean(axis=0)).round(3).tolist()
            points.append(SurfacePoint(point.landmark, point.degrees, (network, surface)))
    return replace(CANDIDATES, points=tuple(points))


def scans(options: argparse.Namespace) -> Iterator[tuple[str, Volume, Mapping[str, np.ndarray]]]:
    """Names, scans and references."""
    yield "real head", canonical(cranium(options.cache)), {}
    if options.mesh is None:
        return
    mesh = read_mandible(options.mesh)
    for seed, name in enumerate(options.patients):
        patient = read_patient(options.heads, name)
        case = mandible_case(patient, mesh, COMPOSITE_MM, COMPOSITE_NOISE_HU, COMPOSITE_BLUR_MM, seed)
        yield name, case.volume, case.points


def main() -> None:
    """Print the table and what a model package learns from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="head-neck-ct", help="id or path of the model package")
    parser.add_argument("--cache", type=Path, default=RUNS / "recognition" / "packages", help="for Debian packages")
    parser.add_argument("--mesh", type=Path, help="folder with a mandible's mesh")
    parser.add_argument("--heads", type=Path, help="NAME_ct.nii.gz beside NAME_organs.nii.gz")
    parser.add_argument("--patients", nargs="+", default=PATIENTS, help="whose heads hold the mandible")
    options = parser.parse_args()
    detector = Detector(find_model(options.model))
    kinds = ("placed", "network", "bone", "network's error", "bone's error", "farther")
    table = [("scan", "landmark", *kinds, *(f"coarse: {kind}" for kind in kinds))]
    seen = []
    for name, volume, reference in scans(options):
        seen.append(look(detector, volume, reference))
        table += rows_of(name, seen[-1])
        print(markdown_table(table), flush=True)
    print(f"\nThe manifest's entry 'bone_surface':\n\n{to_json(learnt(seen)).decode()}")


if __name__ == "__main__":
    run_study(main)
