"""From drawn anatomy to noise-free HU: smooth structures on a coarse lattice, teeth on the voxels themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from H3DELandmarksLib.core.geometry import Grid, Volume, resample, transform_points
from H3DELandmarksResearch.phantom.anatomy import Anatomy
from H3DELandmarksResearch.phantom.face import AIR, GUM
from H3DELandmarksResearch.phantom.framing import Framing
from H3DELandmarksResearch.phantom.solids import coverage, mix
from H3DELandmarksResearch.phantom.teeth import Tooth, ToothDepths

LATTICE = 0.9
CORTEX, LAMINA, DENTIN, ENAMEL, PULP, LIGAMENT = 1450, 1150, 1650, 2700, 150, 60  # HU
AMALGAM, PORCELAIN_METAL, GUTTA = 14000, 9000, 3200


def render(
    anatomy: Anatomy,
    framing: Framing,
    rng: np.random.Generator,
    tissues: Callable[..., Tissues] | None = None,
    step: float = LATTICE,
) -> np.ndarray:
    """Noise-free HU, float32, on the scan's grid; metal far above 3071.

    Args:
        anatomy: the head.
        framing: its pose and the scan's grid.
        rng: stream of the tissue textures.
        tissues: what surrounds the teeth; gets anatomy, lattice and `rng`; the phantom's own where not given.
        step: of the lattice, mm.
    """
    hu, bone = _render_smooth(anatomy, _lattice(framing, step), framing, rng, tissues or phantom_tissues)
    for tooth in (*anatomy.upper, *anatomy.lower):
        _paint_tooth(hu, bone, tooth, framing)
    return hu


@dataclass(frozen=True)
class Lattice:
    """A lattice along the jaw's axes that covers a field of view.

    Attributes:
        grid: in LPS mm.
        x, y, z: (I,), (J,), (K,) jaw coordinates, mm.
    """

    grid: Grid
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray


@dataclass(frozen=True)
class Tissues:
    """What surrounds the teeth, float32 on a lattice: HU of soft tissue; depths in mm; HU of the spongy interior."""

    soft: np.ndarray
    air: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    spongy: np.ndarray


def _lattice(framing: Framing, step: float) -> Lattice:
    shape = np.asarray(framing.grid.shape)
    corners = np.array(np.meshgrid(*([-1, n] for n in shape), indexing="ij")).reshape(3, -1).T
    local = transform_points(np.linalg.inv(framing.pose), framing.grid.lps_from_ijk(corners))
    low, high = local.min(axis=0), local.max(axis=0)
    axes = tuple(np.arange(a, b + step, step) for a, b in zip(low, high))
    affine = framing.pose @ np.block([[np.eye(3) * step, low[:, None]], [np.zeros((1, 3)), 1]])
    return Lattice(Grid(affine, tuple(len(a) for a in axes)), *axes)


@dataclass(frozen=True)
class Texture:
    """Random fields of unit variance on the lattice: grains of about 1, 4 and 12 mm."""

    fine: np.ndarray
    coarse: np.ndarray
    broad: np.ndarray


def draw_texture(shape, rng: np.random.Generator) -> Texture:
    """Smoothed white noise; the broad field is drawn on every fourth lattice point."""
    fine = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.6, truncate=2.5)
    coarse = gaussian_filter(rng.standard_normal([-(-n // 2) + 1 for n in shape], dtype=np.float32), 1.2, truncate=2.5)
    broad = gaussian_filter(rng.standard_normal([-(-n // 4) + 2 for n in shape], dtype=np.float32), 1.8, truncate=2.5)
    grown = (zoom(f, k, order=1)[tuple(slice(n) for n in shape)] for f, k in ((coarse, 2), (broad, 4)))
    return Texture(*(f / f.std() for f in (fine, *grown)))


def _trabeculae(rng: np.random.Generator) -> np.ndarray:
    """A periodic block of plate-like network, unit variance and zero mean, one sample per 0.4 mm."""
    shape = (80, 80, 80)
    grains = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (1.1, 1.1, 0.9), mode="wrap", truncate=3)
    plates = -np.abs(grains)
    return (plates - plates.mean()) / plates.std()


def _add_trabeculae(
    hu: np.ndarray, share: np.ndarray, amount: float, framing: Framing, rng: np.random.Generator
) -> None:
    """Add the network to the spongy bone of the scan, in place; it is anchored in the jaw, not in the voxels."""
    where = np.nonzero(share > 0.05)
    matrix = np.linalg.inv(framing.pose) @ framing.grid.affine / 0.4
    place = [
        sum(np.float32(matrix[r, c]) * where[c].astype(np.float32) for c in range(3)) + np.float32(matrix[r, 3])
        for r in range(3)
    ]
    network = map_coordinates(_trabeculae(rng), place, order=1, mode="grid-wrap")
    hu[where] += np.float32(amount) * network * share[where]


def _render_smooth(
    anatomy: Anatomy, lattice: Lattice, framing: Framing, rng, draw: Callable[..., Tissues]
) -> tuple[np.ndarray, np.ndarray]:
    """HU without teeth, and the share of bone, on the scan's grid."""
    drawn = draw(anatomy, lattice, rng)

    def on_scan(field: np.ndarray) -> np.ndarray:
        return resample(Volume(field, lattice.grid.affine), framing.grid, -9.0).array

    width = float(framing.grid.spacing.mean())
    hu = on_scan(drawn.soft)
    mix(hu, AIR, coverage(on_scan(drawn.air), width))
    bone = coverage(on_scan(drawn.outer), width)
    mix(hu, CORTEX * anatomy.person.density**0.3, bone)
    share = coverage(on_scan(drawn.inner), width + 0.3)
    mix(hu, on_scan(drawn.spongy), share)
    _add_trabeculae(hu, share, 210 * anatomy.person.density, framing, rng)
    return hu, bone


def phantom_tissues(anatomy: Anatomy, lattice: Lattice, rng: np.random.Generator) -> Tissues:
    """The phantom's own bone and soft tissue."""
    xs, ys, zs = lattice.x, lattice.y, lattice.z
    x, y, z = (a.astype(np.float32) for a in (xs[:, None, None], ys[None, :, None], zs[None, None, :]))
    jaw, maxilla = anatomy.jaw.depths(xs, ys, zs), anatomy.maxilla.depths(xs, ys, zs)
    other = anatomy.face.spine_and_hyoid(x, y, z)
    texture = draw_texture(lattice.grid.shape, rng)
    arc, offset = anatomy.jaw.midline.project_lattice(xs, ys)
    skin = anatomy.face.skin(x, y, z, jaw.outer) + 0.25 * texture.broad
    soft = anatomy.face.soft(x, y, z, jaw, skin, offset, arc, texture.fine, texture.broad)
    air = anatomy.face.air(x, y, z, jaw, maxilla, skin, texture.broad)
    outer = np.maximum(np.maximum(jaw.outer, maxilla.bone), other)
    inner = np.maximum(np.maximum(jaw.inner, maxilla.bone - 1.2), other - 1.3)
    spongy = anatomy.jaw.spongy(jaw, texture.coarse + 0.5 * texture.fine, texture.broad, LATTICE)
    return rough_tissues(soft, air, outer, inner, spongy, texture)


def rough_tissues(soft, air, outer, inner, spongy, texture: Texture) -> Tissues:
    """Tissues whose bone has the uneven surface and the uneven cortex of life."""
    bumps = 0.22 * texture.coarse + 0.25 * texture.broad
    outer, inner = outer + bumps, inner + bumps
    shell = np.clip(1 + 0.2 * texture.coarse + 0.14 * texture.fine, 0.55, 1.6)
    inner = outer - (outer - inner) * shell
    return Tissues(*(np.ascontiguousarray(f, dtype=np.float32) for f in (soft, air, outer, inner, spongy)))


@dataclass(frozen=True)
class ToothBox:
    """The voxels around a tooth: slices of the scan, and their tooth coordinates (mm)."""

    slices: tuple[slice, slice, slice]
    u: np.ndarray
    v: np.ndarray
    w: np.ndarray


def tooth_box(tooth: Tooth, framing: Framing, margin: float = 2.5) -> ToothBox | None:
    """The part of the scan that holds a tooth and `margin` mm around it; None where it lies outside."""
    low, high = tooth.bounds(margin)
    corners = np.array(np.meshgrid(*zip(low, high), indexing="ij")).reshape(3, -1).T
    index = framing.grid.ijk_from_lps(transform_points(framing.pose, tooth.to_jaw(corners)))
    start = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
    stop = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, framing.grid.shape)
    if (start >= stop).any():
        return None
    local = np.eye(4)
    local[:3, :3], local[:3, 3] = tooth.axes.T, -tooth.axes.T @ tooth.origin
    matrix = (local @ np.linalg.inv(framing.pose) @ framing.grid.affine).astype(np.float32)
    i, j, k = (np.arange(a, b, dtype=np.float32) for a, b in zip(start, stop))
    i, j, k = i[:, None, None], j[None, :, None], k[None, None, :]
    u, v, w = (matrix[r, 0] * i + matrix[r, 1] * j + matrix[r, 2] * k + matrix[r, 3] for r in range(3))
    return ToothBox(tuple(slice(a, b) for a, b in zip(start, stop)), u, v, w)


def _paint_tooth(hu: np.ndarray, bone: np.ndarray, tooth: Tooth, framing: Framing) -> None:
    """Paint a tooth with socket and ligament into the scan, in place; `bone` loses the tooth's share."""
    box = tooth_box(tooth, framing)
    if box is None:
        return
    width = float(framing.grid.spacing.mean())
    depths = tooth.depths(box.u, box.v, box.w)
    part, solidity = hu[box.slices], bone[box.slices]
    _paint_socket(part, solidity, tooth, depths, box, width)
    _paint_hard_tissue(part, tooth, depths, box, width)
    solidity *= 1 - coverage(depths.solid + 0.2, width)


def _paint_socket(part, solidity, tooth: Tooth, depths: ToothDepths, box: ToothBox, width: float) -> None:
    """Lamina dura and periodontal ligament where the tooth stands in bone, and the follicle of a buried crown."""
    below = coverage(_below_crest(tooth, box), 1.5)
    solidity[...] = np.maximum(solidity, coverage(depths.root + 1.0, width) * below)
    mix(part, LAMINA, coverage(depths.solid + 0.75, width) * solidity * 0.8)
    mix(part, LIGAMENT, coverage(depths.solid + 0.24, width) * np.maximum(solidity, 0.2))
    if tooth.buried:
        sac = coverage(depths.solid + 1.1, width) * coverage(box.w - 0.5, 1.0)
        mix(part, GUM, sac)


def _below_crest(tooth: Tooth, box: ToothBox) -> np.ndarray:
    """Distance in mm from the alveolar crest into the bone, along the jaw's z."""
    row = tooth.axes[2].astype(np.float32)
    height = row[0] * box.u + row[1] * box.v + row[2] * box.w + np.float32(tooth.origin[2] - tooth.crest)
    return height - 0.6 if tooth.name.startswith("U") else -0.6 - height


def _paint_hard_tissue(part, tooth: Tooth, depths: ToothDepths, box: ToothBox, width: float) -> None:
    """Dentin, enamel, pulp and restorations."""
    mix(part, DENTIN - 60 * np.clip(-depths.solid, 0, 1), coverage(depths.solid, width))
    mix(part, ENAMEL, coverage(depths.enamel, width))
    mix(part, GUTTA if tooth.restoration == "rootfilling" else PULP, coverage(depths.pulp, width) * 0.95)
    if tooth.restoration in ("filling", "rootfilling") and tooth.kind[0] in "MP":
        a, b = tooth.crown.table
        patch = np.minimum(1 - (box.u / (0.72 * a)) ** 2 - (box.v / (0.5 * b)) ** 2, 1) * 2
        floor = box.w - tooth.crown.height + 2.0
        mix(
            part,
            AMALGAM if tooth.restoration == "filling" else 3400,
            coverage(np.minimum(np.minimum(patch, floor), depths.solid), width),
        )
    if tooth.restoration == "crown":
        shell = np.minimum(np.minimum(depths.solid, 1.1 - depths.solid), box.w - 0.4)
        mix(part, PORCELAIN_METAL, coverage(shell, width))
