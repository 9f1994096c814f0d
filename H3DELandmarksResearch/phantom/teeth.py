"""A tooth as implicit geometry: crown, trunk, roots, enamel and pulp, and landmarks from the same formulas.

Tooth coordinates (mm): u to mesial, v to buccal, w to occlusal, origin at the center of the cervix (where enamel ends).
Depths are signed distances to first order: positive inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from H3DELandmarksResearch.phantom.solids import join, meet

# mm that stand for a half width of 0, where a trunk tapers to a point: sections are measured by dividing by it.
THINNEST = np.float32(1e-6)
BLEND = 0.5  # mm, of crown and root


@dataclass(frozen=True)
class Root:
    """One root: a tapering, curved cone with an elliptic section, below the cervix.

    Attributes:
        start: (u, v) of its axis at the cervix.
        drift: (u, v) from the start to the apex.
        bend: (u, v) bulge of the axis; it vanishes at both ends.
        half: half axes (mesiodistal, buccolingual) of the section at the cervix.
        length: from cervix to apex along w.
        taper: share by which the section narrows along the root.
        upright: share of the root, from the cervix down, over which its axis does not leave the start.
        hook: (u, v) by which the apical third turns aside, on top of the drift.
    """

    start: tuple[float, float]
    drift: tuple[float, float]
    bend: tuple[float, float]
    half: tuple[float, float]
    length: float
    taper: tuple[float, float] = (0.4, 0.6)
    upright: float = 0.0
    hook: tuple[float, float] = (0.0, 0.0)

    @property
    def apex(self) -> np.ndarray:
        """(3,) end of the root in tooth coordinates."""
        return np.array([*(self.start[i] + self.drift[i] + self.hook[i] for i in (0, 1)), -self.length])

    def axis(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) of the root's axis at relative depth t (0 cervix, 1 apex)."""
        s = np.maximum((t - self.upright) / (1 - self.upright), 0) if self.upright else t
        swing, turn = 4 * s * (1 - s), s**4
        return tuple(self.start[i] + self.drift[i] * s + self.bend[i] * swing + self.hook[i] * turn for i in (0, 1))

    def section(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half axes at relative depth t."""
        closing = np.sqrt(np.maximum(1 - t**5, 0))
        return tuple(self.half[i] * (1 - self.taper[i] * t) * closing for i in (0, 1))

    def depths(
        self, u: np.ndarray, v: np.ndarray, w: np.ndarray, canal: float, top: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Signed depth of the root and of its canal, which is `canal` times as wide and ends at w = `top`."""
        t = -w / np.float32(self.length)
        inside = np.clip(t, 0, 0.999)
        (cu, cv), (a, b) = self.axis(inside), self.section(inside)
        x, y = (u - cu) / a, (v - cv) / b
        radius = np.sqrt(x * x + y * y) + np.float32(1e-4)
        slope = np.sqrt((x / a) ** 2 + (y / b) ** 2) / radius + np.float32(1e-4)
        root = np.minimum((1 - radius) / slope, a)
        tip = np.sqrt((u - self.apex[0]) ** 2 + (v - self.apex[1]) ** 2 + (w + self.length) ** 2)
        root = np.where(t >= 1, -tip, np.minimum(root, 1.5 - w)).astype(np.float32)
        pulp = (canal * (1 - 0.55 * inside) - radius) * a
        return root, np.where(t >= 0.97, -tip, np.minimum(pulp, top - w)).astype(np.float32)


@dataclass(frozen=True)
class Trunk:
    """The undivided part of the roots of a molar, from the cervix to the roof of the furcation.

    Attributes:
        split: (u, v) of the middle of the roof.
        height: from the cervix down to the roof.
        taper: share by which the section narrows per mm of depth (mesiodistal, buccolingual).
        arch: how fast the roof falls off toward the roots, 1/mm.
        web: of a C-shaped root, the wall that joins mesial and distal root on one side: v of its middle as a share of
            the roots' half width, half its thickness in mm, and how far down it reaches, as a share of the roots.
    """

    split: tuple[float, float]
    height: float
    taper: tuple[float, float]
    arch: float = 0.45
    web: tuple[float, float, float] | None = None

    @property
    def furcation(self) -> np.ndarray:
        """(3,) middle of the roof in tooth coordinates."""
        return np.array([*self.split, -self.height])


@dataclass(frozen=True)
class Crown:
    """A crown: an outline that swells and narrows along w, under a relief of cusps, ridges and grooves.

    Attributes:
        height: from cervix to the base level of the relief.
        cervix, contour, table: half axes (u, v) of the outline at the cervix, at mid-height and at the top.
        exponent: 2 for an elliptic outline, more for a squarer one.
        cusps: (N, 5) rows of u, v, height, width in u, width in v: Gaussian hills (pits where negative).
        enamel: enamel thickness at the top in mm.
        facet: what wear has left of the cusps lies below this plane: its height over the middle, slopes in u and v.
    """

    height: float
    cervix: tuple[float, float]
    contour: tuple[float, float]
    table: tuple[float, float]
    exponent: float
    cusps: np.ndarray
    enamel: float
    facet: tuple[float, float, float] | None = None

    @property
    def top(self) -> float:
        """About how high the highest cusp, or what wear has left of it, stands above the cervix."""
        peak = self.height + max(0.0, float(self.cusps[:, 2].max()))
        return peak if self.facet is None else min(peak, self.facet[0])

    def fossa(self) -> np.ndarray:
        """(3,) lowest point of the occlusal relief between the cusps, in tooth coordinates."""
        center, reach = np.zeros(2), 0.4 * min(self.table)
        for _ in range(4):
            steps = np.linspace(-reach, reach, 33)
            u, v = center[0] + steps[:, None], center[1] + steps[None, :]
            level = self.relief(u, v)
            i, j = np.unravel_index(np.argmin(level), level.shape)
            center, reach = np.array([u[i, 0], v[0, j]]), reach / 8
        return np.array([*center, self.relief(center[0], center[1])])

    def relief(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Height w of the occlusal surface above the cervix at (u, v), before any wear."""
        level = np.full(np.broadcast(u, v).shape, self.height, dtype=np.result_type(u, np.float32))
        for cu, cv, height, su, sv in self.cusps.astype(level.dtype):
            level += height * np.exp(-0.5 * (((u - cu) / su) ** 2 + ((v - cv) / sv) ** 2))
        return level

    def half_axes(self, rise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half axes of the outline at a relative height (0 cervix, 0.5 contour, 1 table): a parabola."""
        c, m, t = (np.asarray(x, dtype=np.float32) for x in (self.cervix, self.contour, self.table))
        bulge = 2 * m - (c + t) / 2
        down = 1 - rise
        return tuple(c[i] * down * down + 2 * bulge[i] * rise * down + t[i] * rise * rise for i in (0, 1))

    def below(self, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Signed depth below the occlusal surface, before any wear."""
        depth: np.ndarray = (self.relief(u, v) - w) * np.float32(0.85)
        return depth

    def depth(self, u: np.ndarray, v: np.ndarray, w: np.ndarray, top: np.ndarray) -> np.ndarray:
        """Signed depth of the crown (it reaches a little below the cervix, into the root), given `below`."""
        a, b = self.half_axes(np.clip(w / np.float32(self.height + 1), -0.15, 1.1))
        x, y, p = np.abs(u) / a, np.abs(v) / b, np.float32(self.exponent)
        xp, yp = x**p, y**p
        radius = (xp + yp) ** (1 / p) + np.float32(1e-4)
        slope = np.sqrt((xp / np.maximum(np.abs(u), 1e-3)) ** 2 + (yp / np.maximum(np.abs(v), 1e-3)) ** 2)
        side = (1 - radius) / np.maximum(slope * radius ** (1 - p), 1 / max(self.contour))
        return np.minimum(meet(side, top, 0.8), w + 1.2).astype(np.float32)

    def worn(self, whole: np.ndarray, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Signed depth of what wear has left of the crown, given that of the whole one."""
        if self.facet is None:
            return whole
        level, slope_u, slope_v = self.facet
        return np.minimum(whole, level + slope_u * u + slope_v * v - w).astype(np.float32)


@dataclass(frozen=True)
class Tooth:
    """A tooth in its place.

    Attributes:
        name: side, a dash and the kind, for example "L-M2"; upper teeth "UL-M1".
        origin: (3,) center of the cervix in jaw coordinates, mm.
        axes: (3, 3) unit columns u, v, w in jaw coordinates.
        crown, trunk, roots: the shape; a tooth without furcation has no trunk.
        pulp: size of pulp chamber and canals relative to a young adult's.
        restoration: "", "filling", "crown" (metal) or "rootfilling".
        buried: the crown lies in the jaw (impacted), inside a follicle.
        crest: z of the alveolar crest around the tooth, jaw mm.
    """

    name: str
    origin: np.ndarray
    axes: np.ndarray
    crown: Crown
    trunk: Trunk | None
    roots: tuple[Root, ...]
    pulp: float = 1.0
    restoration: str = ""
    buried: bool = False
    crest: float = 0.0

    @property
    def kind(self) -> str:
        """I1, I2, C, P1, P2, M1, M2 or M3."""
        return self.name.split("-")[1]

    def to_jaw(self, points: np.ndarray) -> np.ndarray:
        """Tooth coordinates (..., 3) to jaw coordinates."""
        return np.asarray(points) @ self.axes.T + self.origin

    def from_jaw(self, points: np.ndarray) -> np.ndarray:
        """Jaw coordinates (..., 3) to tooth coordinates."""
        return (np.asarray(points) - self.origin) @ self.axes

    def landmarks(self) -> dict[str, np.ndarray]:
        """The points of `MOLAR_SCHEME` of a lower second or third molar in jaw coordinates, by name; none of others."""
        if self.kind not in ("M2", "M3") or self.name.startswith("U"):
            return {}
        letters = "0abc" if self.kind == "M2" else "def"
        mesial, distal = (root.apex for root in self.roots)
        points = [self.crown.fossa(), *([self.trunk.furcation] if self.kind == "M2" else []), mesial, distal]
        return {f"{self.name[0]}{letter}": self.to_jaw(point) for letter, point in zip(letters, points)}

    def bounds(self, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Low and high corner, in tooth coordinates, of a box around the tooth with a margin in mm."""
        half = np.maximum(self.crown.contour, self.crown.table)
        tips = np.array([root.apex for root in self.roots])
        bulge = np.array([np.abs(root.bend) + np.abs(root.hook) for root in self.roots]).max(axis=0)
        low = np.minimum(-half, tips[:, :2].min(axis=0) - 1.5 - bulge)
        high = np.maximum(half, tips[:, :2].max(axis=0) + 1.5 + bulge)
        top = self.crown.height + max(0.0, self.crown.cusps[:, 2].max())
        return np.array([*low, tips[:, 2].min()]) - margin, np.array([*high, top]) + margin

    def depths(self, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> ToothDepths:
        """Signed depths of the tooth's parts at points in tooth coordinates (float32 arrays of one shape)."""
        top = self.crown.below(u, v, w)
        whole = self.crown.depth(u, v, w, top)
        crown = self.crown.worn(whole, u, v, w)
        root, pulp = self._root_depths(u, v, w)
        buried = np.minimum(root, top - np.float32(BLEND))  # no root fills a deep fossa
        rise = np.clip((w - 0.6 * (u / self.crown.contour[0]) ** 2) / 4, 0, 1)
        enamel = np.minimum(crown, self.crown.enamel * np.sqrt(rise) - whole)
        return ToothDepths(join(crown, buried, BLEND), root, np.where(rise > 0, enamel, -1), pulp)

    def _root_depths(self, u, v, w) -> tuple[np.ndarray, np.ndarray]:
        canal, top = 0.24 * self.pulp, 1.0 if self.trunk is None else -1.0
        pairs = [root.depths(u, v, w, canal, top) for root in self.roots]
        root = np.maximum.reduce([pair[0] for pair in pairs])
        if self.trunk is not None and self.trunk.web is not None:
            root = np.maximum(root, self._web_depth(u, v, w))
        pulp = np.maximum.reduce([pair[1] for pair in pairs])
        if self.trunk is None:
            return root, np.maximum(pulp, self._horn_depth(u, v, w))
        return np.maximum(root, self._trunk_depth(u, v, w)), np.maximum(pulp, self._chamber_depth(u, v, w))

    def _trunk_depth(self, u, v, w) -> np.ndarray:
        below = np.maximum(-w, 0)
        a, b = (np.float32(half) * (1 - np.float32(k) * below) for half, k in zip(self.crown.cervix, self.trunk.taper))
        a, b = (np.where(half == 0, THINNEST, half) for half in (a, b))
        x, y = (u / a) ** 2, (v / b) ** 2
        radius = np.sqrt(np.sqrt(x * x + y * y + x * y))  # a rounded rectangle
        away = u - self.trunk.split[0]
        fall = np.float32(self.trunk.arch)
        away = np.clip(away, -2, 2)
        roof = (w + self.trunk.height + fall * away * away) / np.sqrt(1 + (2 * fall * away) ** 2)
        return np.minimum(meet((1 - radius) * np.minimum(a, b), roof, 1.5), 1.5 - w).astype(np.float32)

    def _web_depth(self, u, v, w) -> np.ndarray:
        """The wall between mesial and distal root of a C-shaped root."""
        share, half, reach = self.trunk.web
        mesial, distal = (
            (*root.axis(t), root.section(t)[1]) for root in self.roots for t in [np.clip(-w / root.length, 0, 0.999)]
        )
        middle, apart = (mesial[0] + distal[0]) / 2, np.abs(mesial[0] - distal[0]) / 2
        center = (mesial[1] + distal[1]) / 2 + share * (mesial[2] + distal[2]) / 2
        wall = np.minimum(half - np.abs(v - center), apart - np.abs(u - middle))
        depth = np.minimum(wall, w + reach * min(root.length for root in self.roots))
        return np.minimum(depth, 1.5 - w).astype(np.float32)

    def _chamber_depth(self, u, v, w) -> np.ndarray:
        """Pulp chamber of a molar: a flat box with rounded edges between cervix and furcation."""
        a, b = 0.46 * self.pulp**0.4 * self.crown.cervix[0], 0.36 * self.pulp * self.crown.cervix[1]
        x, y, z = u / a, v / b, (w - 0.1) / (1.0 + 0.6 * self.pulp)
        x, y, z = x * x, y * y, z * z
        return ((1 - np.sqrt(np.sqrt(x * x + y * y + z * z))) * min(a, b)).astype(np.float32)

    def _horn_depth(self, u, v, w) -> np.ndarray:
        """Pulp of a tooth with one root: a spindle that reaches into the crown."""
        a, b, c = (
            0.22 * self.pulp * self.crown.cervix[0],
            0.26 * self.pulp * self.crown.cervix[1],
            0.42 * self.crown.height,
        )
        return ((1 - np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)) * min(a, b)).astype(np.float32)


@dataclass(frozen=True)
class ToothDepths:
    """Signed depths in mm of the parts of a tooth: the whole, its root part, the enamel cap and the pulp."""

    solid: np.ndarray
    root: np.ndarray
    enamel: np.ndarray
    pulp: np.ndarray
