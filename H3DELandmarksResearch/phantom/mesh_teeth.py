"""A real person's teeth, given as surface meshes, in place of the phantom's: bone and scanner stay simulated.

Meant for the published form of Open-Full-Jaw (Gholamalizadeh et al., Computer Methods and Programs in Biomedicine
224:107009, 2022; CC BY-NC-SA 4.0): ``mandible/teeth/tooth_18.stl`` by universal numbers, in LPS mm, and the teeth's own
axes in ``mandible/teeth_axes_mandible.json``; likewise for the maxilla, without which upper teeth are the phantom's. No
mesh is part of this project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import vtk
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, maximum_filter
from vtk.util.numpy_support import vtk_to_numpy

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.phantom.anatomy import Anatomy, arch_scale, draw_anatomy, draw_lower_row, random_streams
from H3DELandmarksResearch.phantom.curves import PlanarCurve, spline_half
from H3DELandmarksResearch.phantom.jaw import draw_jaw
from H3DELandmarksResearch.phantom.maxilla import draw_maxilla, hung_up
from H3DELandmarksResearch.phantom.placement import draw_row, widened
from H3DELandmarksResearch.phantom.teeth import Tooth, ToothDepths
from H3DELandmarksResearch.phantom.toothshapes import KINDS

STEP = 0.3
MARGIN = 3.0
TABLE_MM = 3.6  # radius of the part of a molar's crown that is looked at for its basin
# mm from the tip of the highest cusp or edge to the cervix, and thickness of the enamel, by the first letter of a kind
CROWN_HEIGHT = {"I": 8.8, "C": 10.5, "P": 8.0, "M": 7.2}
ENAMEL = {"I": 0.9, "C": 1.0, "P": 1.3, "M": 1.6}
GAP = 0.3  # mm between the rows
PARTED_MM = 1.0  # that the roof between two roots lies above their ends at least


@dataclass(frozen=True)
class MeshTooth:
    """A tooth as a lattice of signed depths; it stands where a `Tooth` of the phantom does.

    Attributes:
        name, origin, axes, crest: as of `Tooth`, jaw mm.
        depth: (U, V, W) signed depth in mm on a lattice of `STEP` mm in tooth coordinates, positive inside.
        low: (3,) tooth coordinates of the lattice's first point.
        restoration, buried: as of `Tooth`.
    """

    name: str
    origin: np.ndarray
    axes: np.ndarray
    crest: float
    depth: np.ndarray
    low: np.ndarray
    restoration: str = ""
    buried: bool = False

    @property
    def kind(self) -> str:
        """I1, I2, C, P1, P2, M1, M2 or M3."""
        return self.name.split("-")[1]

    def to_jaw(self, points: np.ndarray) -> np.ndarray:
        """Tooth coordinates (..., 3) to jaw coordinates."""
        return np.asarray(points) @ self.axes.T + self.origin

    def bounds(self, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Low and high corner, in tooth coordinates, of a box around the tooth with a margin in mm."""
        inside = np.argwhere(self.depth > 0)
        return self.low + inside.min(axis=0) * STEP - margin, self.low + inside.max(axis=0) * STEP + margin

    def depths(self, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> ToothDepths:
        """Signed depths of the tooth's parts at points in tooth coordinates (float32 arrays of one shape)."""
        place = [(np.asarray(a) - low) / STEP for a, low in zip(np.broadcast_arrays(u, v, w), self.low)]
        solid = map_coordinates(self.depth, place, order=1, mode="nearest").astype(np.float32)
        thick = map_coordinates(self._thickness(), place, order=1, mode="nearest").astype(np.float32)
        rise = np.clip(np.asarray(w) / 4, 0, 1)
        enamel = np.minimum(solid, np.float32(ENAMEL[self.kind[0]]) * np.sqrt(rise) - solid)
        pulp = np.minimum(solid - 0.78 * thick, 0.35 * CROWN_HEIGHT[self.kind[0]] - w)
        pulp = np.where(thick > 0.9, pulp, -1)
        return ToothDepths(solid, np.minimum(solid, 1.5 - w), np.where(rise > 0, enamel, -1), pulp.astype(np.float32))

    def _thickness(self) -> np.ndarray:
        """Largest depth near each point of the lattice, within the section of its root: what a canal lies inside of."""
        across = int(3.6 / STEP) | 1
        return gaussian_filter(maximum_filter(self.depth, (across, across, 3)), 1.0)

    def landmarks(self) -> dict[str, np.ndarray]:
        """The points of `MOLAR_SCHEME` of a lower second molar in jaw coordinates, by name, from the mesh alone.

        Where roots are grown together, the fossa alone. None of other teeth: the published axes leave out third molars,
        and the simulated bone does not fit their roots.
        """
        if self.kind != "M2":
            return {}
        side, furcation, (mesial, distal) = self.name[0], self._furcation(), self._apices()
        points = {"0": self._fossa()}
        if furcation[2] - max(mesial[2], distal[2]) > PARTED_MM:
            points |= {"a": furcation, "b": mesial, "c": distal}
        return {f"{side}{letter}": self.to_jaw(point) for letter, point in points.items()}

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """(U, V) w of the upper and of the lower surface over each column of the lattice; NaN outside the tooth."""
        w = self.low[2] + np.arange(self.depth.shape[2]) * STEP
        inside = self.depth > 0
        first, last = inside.argmax(axis=2), inside.shape[2] - 1 - inside[:, :, ::-1].argmax(axis=2)
        i, j = np.indices(first.shape)
        above = np.minimum(last + 1, inside.shape[2] - 1)
        below = np.maximum(first - 1, 0)
        rise = self.depth[i, j, last] / np.maximum(self.depth[i, j, last] - self.depth[i, j, above], 1e-6)
        fall = self.depth[i, j, first] / np.maximum(self.depth[i, j, first] - self.depth[i, j, below], 1e-6)
        empty = ~inside.any(axis=2)
        return np.where(empty, np.nan, w[last] + rise * STEP), np.where(empty, np.nan, w[first] - fall * STEP)

    def _uv(self) -> tuple[np.ndarray, np.ndarray]:
        """(U, V) tooth coordinates u and v of the lattice's columns."""
        u, v = (self.low[k] + np.arange(self.depth.shape[k]) * STEP for k in (0, 1))
        return np.meshgrid(u, v, indexing="ij")

    def _fossa(self) -> np.ndarray:
        """Deepest point of the basin between the cusps: the farthest below the plane of the occlusal table."""
        upper, _ = self._columns()
        u, v = self._uv()
        crown = upper > np.nanmax(upper) - 0.6 * CROWN_HEIGHT["M"]
        middle = np.array([(a[crown].min() + a[crown].max()) / 2 for a in (u, v)])
        away = np.hypot(u - middle[0], v - middle[1])
        table = crown & (away < TABLE_MM)
        plane = np.stack([np.ones(u.shape), u, v], axis=-1)
        slope = np.linalg.lstsq(plane[table], upper[table], rcond=None)[0]
        k = np.argmin(np.where(crown & (away < TABLE_MM / 2), upper - plane @ slope, np.inf))
        return np.array([u.flat[k], v.flat[k], upper.flat[k]])

    def _apices(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the mesial and of the distal root: the lowest points on either side of the gap between them."""
        _, lower = self._columns()
        u, v = self._uv()
        gap, tips = self._furcation()[0], []
        for half in (u > gap, u < gap):
            k = np.argmin(np.where(half, np.nan_to_num(lower, nan=np.inf), np.inf))
            tips.append(np.array([u.flat[k], v.flat[k], lower.flat[k]]))
        return tips[0], tips[1]

    def _furcation(self) -> np.ndarray:
        """Middle of the roof between the roots: along the tooth, the highest of the lower surface between two lows."""
        _, lower = self._columns()
        u, v = self._uv()
        root = np.isfinite(lower) & (lower < 0)
        profile = np.array(
            [np.nanmin(np.where(root[k], lower[k], np.nan)) if root[k].any() else np.nan for k in range(len(u))]
        )
        known = np.flatnonzero(np.isfinite(profile))
        inner = known[int(0.25 * len(known)) : int(0.75 * len(known)) + 1]
        column = inner[np.argmax(profile[inner])]
        across = np.flatnonzero(root[column])
        middle = across[len(across) // 2]
        return np.array([u[column, 0], v[0, middle], lower[column, middle]])


AnyTooth = Tooth | MeshTooth


def universal_name(number: int) -> str:
    """The phantom's name of a tooth by its universal number, 1 (upper right third molar) to 32.

    Raises:
        InputError: there is no such number.
    """
    if not 1 <= number <= 32:
        raise InputError(f"There is no tooth {number}: universal numbers are 1 to 32.")
    upper, place = number <= 16, (number - 1) % 16
    right = (place < 8) == upper
    kind = KINDS[7 - place] if place < 8 else KINDS[place - 8]
    return f"{'U' if upper else ''}{'R' if right else 'L'}-{kind}"


def read_mesh_teeth(folder: Path) -> list[MeshTooth]:
    """All teeth of a person in jaw coordinates: x to the left, y back, z up, origin at the lower incisal edges.

    Args:
        folder: holds ``mandible`` and ``maxilla``, see the head of this file.

    Raises:
        InputError: there is no lower incisor or no tooth at all.
    """
    teeth = []
    for jaw in ("mandible", "maxilla"):
        axes_file = folder / jaw / f"teeth_axes_{jaw}.json"
        axes = json.loads(axes_file.read_text(encoding="utf-8")) if axes_file.exists() else {}
        for path in sorted((folder / jaw / "teeth").glob("tooth_*.stl")):
            number = path.stem.split("_")[1]
            teeth.append(_tooth(path, universal_name(int(number)), axes.get(number)))
    edges = [tooth.to_jaw([0, 0, CROWN_HEIGHT["I"]]) for tooth in teeth if tooth.name in ("R-I1", "L-I1")]
    if not edges:
        raise InputError(f"No lower central incisor is in '{folder}': give the folder that holds mandible and maxilla.")
    start = np.mean(edges, axis=0)
    crest = {tooth.name: tooth.crest for tooth in teeth}
    placed = []
    for tooth in sorted(teeth, key=lambda tooth: (tooth.name.split("-")[0], KINDS.index(tooth.kind))):
        edge = crest.get(
            tooth.name.replace("M3", "M2"), tooth.crest
        )  # third molars lean: their bone is their neighbor's
        placed.append(replace(tooth, origin=tooth.origin - start, crest=edge - float(start[2])))
    return placed


def _tooth(path: Path, name: str, axes: Mapping[str, list[float]] | None) -> MeshTooth:
    """One mesh with its own axes, or with its principal axis where none are given (third molars)."""
    reader = vtk.vtkSTLReader()
    reader.SetFileName(str(path))
    reader.Update()
    mesh = reader.GetOutput()
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(float)
    up = -1.0 if name.startswith("U") else 1.0
    frame = _frame(points, name, axes, up)
    top = float((points @ frame[:, 2]).max())
    center = points.mean(axis=0)
    kind = name.split("-")[1]
    origin = center + frame[:, 2] * (top - CROWN_HEIGHT[kind[0]] - center @ frame[:, 2])
    local = (points - origin) @ frame
    low, high = local.min(axis=0) - MARGIN, local.max(axis=0) + MARGIN
    depth = _depths(mesh, origin, frame, low, np.ceil((high - low) / STEP).astype(int) + 1)
    return MeshTooth(name, origin, frame, float(origin[2] - up * 1.3), depth, low)


def _frame(points: np.ndarray, name: str, axes: Mapping[str, list[float]] | None, up: float) -> np.ndarray:
    """(3, 3) unit columns to mesial, buccal and occlusal."""
    side = 1.0 if name.split("-")[0][-1] == "L" else -1.0
    if axes is not None:
        distal, buccal, occlusal = (np.subtract(axes[key], axes["c"]) for key in "xyz")
        return np.column_stack([-distal, buccal, occlusal])
    occlusal = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    occlusal = occlusal * np.sign(occlusal[2]) * up
    mesial = np.array([0.0, -1.0, 0.0]) - occlusal * -occlusal[1]
    mesial /= np.linalg.norm(mesial)
    buccal = np.cross(occlusal, mesial)
    return np.column_stack([mesial, buccal * np.sign(buccal[0] * side), occlusal])


def _depths(
    mesh: vtk.vtkPolyData, origin: np.ndarray, frame: np.ndarray, low: np.ndarray, shape: np.ndarray
) -> np.ndarray:
    """Signed depth of the mesh on the lattice of a tooth, positive inside; measured on a lattice twice as fine."""
    fine, size = STEP / 2, 2 * shape
    move = vtk.vtkTransform()
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = frame.T, -frame.T @ origin
    move.SetMatrix(matrix.ravel())
    local = vtk.vtkTransformPolyDataFilter()
    local.SetInputData(mesh)
    local.SetTransform(move)
    stencil = vtk.vtkPolyDataToImageStencil()
    stencil.SetInputConnection(local.GetOutputPort())
    stencil.SetOutputOrigin(*(low - fine / 2))
    stencil.SetOutputSpacing(fine, fine, fine)
    stencil.SetOutputWholeExtent(0, int(size[0]) - 1, 0, int(size[1]) - 1, 0, int(size[2]) - 1)
    image = vtk.vtkImageStencilToImage()
    image.SetInputConnection(stencil.GetOutputPort())
    image.SetInsideValue(1)
    image.SetOutsideValue(0)
    image.SetOutputScalarTypeToUnsignedChar()
    image.Update()
    inside = vtk_to_numpy(image.GetOutput().GetPointData().GetScalars()).reshape(size[::-1]).transpose() > 0
    depth = distance_transform_edt(inside, fine) - distance_transform_edt(~inside, fine)
    # each point of the lattice lies in the middle of eight fine ones
    result: np.ndarray = depth.reshape(shape[0], 2, shape[1], 2, shape[2], 2).mean(axis=(1, 3, 5)).astype(np.float32)
    return result


def mirrored(teeth: list[MeshTooth]) -> list[MeshTooth]:
    """The same person seen in a mirror: left teeth become right ones."""
    swap, flip = {"L": "R", "R": "L"}, np.array([-1.0, 1.0, 1.0])
    result = []
    for tooth in teeth:
        head, kind = tooth.name.split("-")
        name = f"{head[:-1]}{swap[head[-1]]}-{kind}"
        result.append(replace(tooth, name=name, origin=tooth.origin * flip, axes=tooth.axes * flip[:, None]))
    return result


def anatomy_around(teeth: list[MeshTooth], seed: int, less_room_mm: float = 0.0) -> Anatomy:
    """A drawn head whose bone is built around real teeth; metal, missing teeth and openings of the mouth are none.

    Bone is as large as the row of teeth, and drawn as for a row of 16: where teeth are missing, as if drawn ones had
    stood there.

    Args:
        teeth: of both jaws, or of the lower one alone.
        seed: of everything that is not a tooth.
        less_room_mm: by which the ramus is nearer to the second molars of a side without a third one.
    """
    drawn, rng = draw_anatomy(seed, ()), random_streams(seed)
    *_, usual = draw_lower_row(random_streams(seed))
    lower = [tooth for tooth in teeth if not tooth.name.startswith("U")]
    upper = [tooth for tooth in teeth if tooth.name.startswith("U")]
    arch = _arch(lower)
    upper_arch = _arch(upper) if upper else widened(arch, 2.0, 1.8)
    row = _completed(lower, usual, less_room_mm)
    scale = arch_scale(drawn.arch) * _second_molars(row) / _second_molars(usual)
    jaw = draw_jaw(row, {}, drawn.person, scale, rng["jaw"])
    made = [] if upper else draw_row(upper_arch, drawn.person, True, rng["upper"])
    maxilla = draw_maxilla(upper_arch, upper or made, GAP, rng["upper"])
    row_above = (*upper, *(hung_up(tooth, GAP) for tooth in made))
    return replace(drawn, arch=arch, lower=tuple(lower), upper=row_above, jaw=jaw, maxilla=maxilla, missing=(), gap=GAP)


def _completed(lower: Sequence[AnyTooth], usual: Sequence[Tooth], less_room_mm: float) -> list[AnyTooth]:
    """A row of 16: where teeth are missing, those of another row, as far from the tooth in front of them as there.

    Third molars of that other row stand so many mm nearer to the front.
    """
    real, made = ({tooth.name: tooth for tooth in row} for row in (lower, usual))
    row: list[AnyTooth] = []
    for side in "RL":
        forward = made[f"{side}-M2"].origin - made[f"{side}-M3"].origin
        forward = forward * (1, 1, 0) / np.linalg.norm(forward[:2])
        moved = np.zeros(3)
        for name in (f"{side}-{kind}" for kind in KINDS):
            tooth = real.get(name)
            if tooth is None:
                origin, crest = made[name].origin + moved, made[name].crest + moved[2]
                origin = origin + less_room_mm * forward * name.endswith("M3")
                tooth = replace(made[name], origin=origin, crest=crest)
            moved = tooth.origin - made[name].origin
            row.append(tooth)
    return row


def _second_molars(row: Sequence[AnyTooth]) -> np.ndarray:
    """How far to the side and to the back the second molars of a row stand, (2,) mm."""
    return np.mean([np.abs(_crown_spot(tooth)) for tooth in row if tooth.kind == "M2"], axis=0)


def _arch(teeth: list[MeshTooth]) -> PlanarCurve:
    """The curve along the crowns of a row, lengthened straight behind its last teeth."""
    halves = []
    for side in "RL":
        row = [tooth for kind in KINDS for tooth in teeth if tooth.name.endswith(f"{side}-{kind}")]
        spots = np.array([_crown_spot(tooth) for tooth in row])
        spots[:, 0] = np.abs(spots[:, 0])
        front = np.array([[0.0, spots[0, 1] - 0.4]])
        beyond = spots[-1] + (spots[-1] - spots[-2]) / np.linalg.norm(spots[-1] - spots[-2]) * np.array([[6.0], [12.0]])
        halves.append(spline_half(np.concatenate([front, spots, beyond])))
    return PlanarCurve.from_halves(*halves)


def _crown_spot(tooth: AnyTooth) -> np.ndarray:
    """The middle of a crown seen from above, (2,) jaw mm."""
    return tooth.to_jaw(np.array([0, 0, 0.6 * CROWN_HEIGHT[tooth.kind[0]]]))[:2]
