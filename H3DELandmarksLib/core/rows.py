"""Rows of structures that look alike, as vertebrae: which structure each of the seen places belongs to.

Networks see a vertebra well, but which one it is only vaguely: of two neighbors one is named twice, or skipped. The
row is counted by what it looks like as a whole: along the line through all found points, the likeliest sequence of
structures whose distances change smoothly is found by dynamic programming (Viterbi, IEEE Trans. Inf. Theory 13:260,
1967). That a structure is seen counts for itself, whichever a network takes it for; which one it is counts little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import Polynomial

from H3DELandmarksLib.core.candidates import Candidates, pooled

ARRAYS = ("row_spacing", "row_change", "row_place")
FEWEST = 5  # structures of a row
LONGEST_STEP = 8  # landmarks of a structure, at most
# A shape that is shifted by a structure must fit itself up to this share of the shift's length.
ALIKE = 0.35
# What a step along the line is, and the least and the greatest distance of neighbors, as shares of their usual one.
STEP, NEAREST, FURTHEST = 1 / 24, 0.35, 2.0
# Which structure a network sees counts so much beside that it sees one; and what counts as not seen.
NAMED, UNSEEN, UNNAMED = 0.03, 0.02, 1e-3
# Places farther off the line, and structures farther off their usual size, count as something else.
ASIDE, SIZE_SD = 1.1, 0.2
FREEDOM = 4.0  # of Student's t distribution, of changes of the distance
BLUR = 0.075  # standard deviation of places along the line
NEAR = 0.2  # standard deviation of a landmark about where its structure expects it
LONGEST = 5.0  # of usual rows, that a line through all points may be: in other pictures it leads anywhere
NEIGHBORS = 3  # so many structures away, places are looked for that belong to another


@dataclass(frozen=True)
class Row:
    """What a row of n structures of s landmarks each usually looks like, in a picture.

    Attributes:
        spacing: (n,) mm, distance of a structure's center from that of the next; of the last, as of the one before.
        change: (n - 1,) standard deviation of the logarithm by which the distance changes from structure to structure.
        place: (n, s, 2) of each landmark from the center, along and across the row, as shares of the distance.
    """

    spacing: np.ndarray
    change: np.ndarray
    place: np.ndarray

    @property
    def step(self) -> int:
        """How many landmarks a structure has."""
        return int(self.place.shape[1])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """By name, float32."""
        return {name: getattr(self, name[4:]).astype(np.float32) for name in ARRAYS}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, np.ndarray], count: int) -> Row | None:
        """What `to_arrays` gave, among other arrays; None where it is not there.

        Args:
            stored: arrays by name.
            count: of landmarks.

        Raises:
            ValueError: how the arrays cannot be of so many landmarks.
        """
        if not any(name in stored for name in ARRAYS):
            return None
        spacing, change, place = (stored.get(name, np.empty(0)).astype(float) for name in ARRAYS)
        number = len(spacing)
        if (
            spacing.ndim != 1
            or change.shape != (max(number - 1, 0),)
            or place.shape[:1] + place.shape[2:] != (number, 2)
        ):
            raise ValueError(f"is not that of its {count} landmarks")
        if number < FEWEST or place.shape[0] * place.shape[1] != count:
            raise ValueError(f"is not that of its {count} landmarks")
        if not ((spacing > 0).all() and (change > 0).all() and (np.abs(place) < 100).all() and spacing.max() < 1e6):
            raise ValueError("has values that cannot be")
        return cls(spacing, change, place)

    @classmethod
    def of(cls, shapes: np.ndarray) -> Row | None:
        """Learnt from (N, K, 3) mm of subjects, NaN where unknown; None where they are no row in a picture."""
        known = shapes[np.isfinite(shapes).all(axis=(1, 2))]
        if len(known) < 2 or np.ptp(known[..., 2]) > 0:
            return None
        step = structure_size((known - known.mean(axis=1, keepdims=True)).mean(axis=0))
        if not step or known.shape[1] % step or known.shape[1] // step < FEWEST:
            return None
        corners = known[..., :2].reshape(len(known), -1, step, 2)
        centers = corners.mean(axis=2)
        apart = np.linalg.norm(np.diff(centers, axis=1), axis=2)
        apart = np.concatenate([apart, apart[:, -1:]], axis=1)
        along = np.gradient(centers, axis=1)
        along /= np.linalg.norm(along, axis=2, keepdims=True)
        off = (corners - centers[:, :, None]) / apart[:, :, None, None]
        place = np.stack(
            [(off * along[:, :, None]).sum(axis=3), (off * _across(along)[:, :, None]).sum(axis=3)], axis=3
        )
        logs = np.log(apart)
        change = np.diff(logs, axis=1).std(axis=0)
        usual = max(float(np.median(change[:-1])), 0.03)
        # Labels of single structures are rough, and a change is no rarer at one place than at another.
        change = 0.7 * (0.6 * np.clip(change, 0.5 * usual, 1.2 * usual) + 0.4 * usual)
        return cls(np.exp(logs.mean(axis=0)), change, np.median(place, axis=0))


@dataclass(frozen=True)
class RowCount:
    """How sure it is which structure of a row is which.

    Attributes:
        margin: by how much the row is likelier than the best one whose middle structure is another (log).
        shift: to which side that other row lies off: 1 where it takes the next structures, -1 where those before.
        step: landmarks of a structure.
    """

    margin: float
    shift: int
    step: int


@dataclass(frozen=True)
class Counted:
    """A row that was counted.

    Attributes:
        places: (K, 2) where each landmark is expected.
        candidates: places of each landmark near there, whichever structure a network took them for.
        count: how sure it is.
    """

    places: np.ndarray
    candidates: Candidates
    count: RowCount


def is_off(found: np.ndarray, truth: np.ndarray, step: int) -> bool:
    """Whether more than half of the structures lie nearer to the place of another one than to their own.

    Args:
        found, truth: (K, 3) mm in one frame; NaN where one is not known.
        step: landmarks of a structure.
    """
    both = np.isfinite(found).all(axis=1) & np.isfinite(truth).all(axis=1)
    whole = both.reshape(-1, step).all(axis=1)
    if whole.sum() < 2:
        return False
    own, right = (points.reshape(-1, step, 3).mean(axis=1)[whole] for points in (found, truth))
    nearest = np.linalg.norm(own[:, None] - right, axis=2).argmin(axis=1)
    return bool((nearest != np.arange(len(own))).mean() > 0.5)


def structure_size(mean: np.ndarray) -> int:
    """By how many landmarks a (K, 3) shape can be moved along itself, as a spine by a vertebra; 0 where by none."""
    steps = range(1, min(LONGEST_STEP, len(mean) // 3) + 1)
    moves = [mean[step:] - mean[:-step] for step in steps]
    unlike = [np.linalg.norm(m - m.mean(axis=0), axis=1).mean() / np.linalg.norm(m, axis=1).mean() for m in moves]
    alike = [step for step, share in zip(steps, unlike) if share < min(ALIKE, 1.2 * min(unlike))]
    return min(alike, default=0)


def count(row: Row, points: np.ndarray, seen: np.ndarray, candidates: Candidates) -> Counted | None:
    """Which structures are which; None where nothing of a row is seen, or no row lies along the points.

    Args:
        row: what it looks like.
        points: (K, 2) mm in the picture, where networks see the landmarks.
        seen: (K,) bool, landmarks that are in the picture.
        candidates: their places, in the same frame.
    """
    number, step = row.place.shape[:2]
    if seen.reshape(number, step).any(axis=1).sum() < FEWEST:
        return None
    line = _Line(points[seen], row, np.flatnonzero(seen) // step, np.flatnonzero(seen) % step)
    if not line.length[-1] <= LONGEST * row.spacing.sum():
        return None
    search = _Search(row, line, candidates, seen)
    best, score = search.best()
    middle = number // 2
    reach = search.apart(best, middle)
    other, second = search.best(middle, reach)
    shift = int(np.sign(other[middle][0] - best[middle][0]))
    places = np.stack([line.point(search.at[t], search.apart_of[d], row.place[k]) for k, (t, d) in enumerate(best)])
    near = np.repeat([search.apart_of[d] for _, d in best], step)
    expected = places.reshape(-1, 2)
    near_by = _near(candidates, expected, NEAR * near, step)
    return Counted(expected, near_by, RowCount(score - second, shift, step))


def _near(candidates: Candidates, expected: np.ndarray, spread: np.ndarray, step: int) -> Candidates:
    """Places near (K, 2) expected ones, of the same landmark of any structure."""
    rows, looks = np.arange(len(expected)), []
    for away in range(-NEIGHBORS, NEIGHBORS + 1):
        order = rows + away * step
        look = candidates.reordered(np.where((order >= 0) & (order < len(rows)), order, -1))
        squared = ((np.nan_to_num(look.positions[..., :2], nan=1e9) - expected[:, None]) ** 2).sum(axis=2)
        looks.append(replace(look, share=look.share * np.exp(-np.minimum(squared / 2 / spread[:, None] ** 2, 700))))
    return pooled(looks, summed=True)


def _across(along: np.ndarray) -> np.ndarray:
    """(..., 2) directions a quarter turn from others."""
    return np.stack([-along[..., 1], along[..., 0]], axis=-1)


class _Line:
    """The smooth line through all points, whichever structure they belong to."""

    def __init__(self, points: np.ndarray, row: Row, structure: np.ndarray, member: np.ndarray) -> None:
        """Args: (N, 2) points, and the structure and the landmark of it that networks take each for."""
        usual = row.spacing.mean()
        weight = structure - structure.mean()
        self.axis = weight @ (points - points.mean(axis=0))
        self.axis /= np.linalg.norm(self.axis)
        self.side = _across(self.axis)
        aside = points @ self.side - row.place[structure, member, 1] * row.spacing[structure]
        along = points @ self.axis
        degree = int(np.clip(np.ptp(along) / usual / 2, 1, 7))
        trust = np.ones(len(points))
        for _ in range(5):
            curve = Polynomial.fit(along, aside, degree, w=trust)
            trust = 1 / np.sqrt(1 + ((curve(along) - aside) / (0.2 * usual)) ** 2)
        low, high = np.quantile(along, [0.02, 0.98])
        reach = usual * (1.5 + len(row.spacing) - len(np.unique(structure)))
        u = np.linspace(low - reach, high + reach, 1000)
        inside, slope = np.clip(u, low, high), curve.deriv()
        v = curve(inside) + slope(inside) * (u - inside)
        self.path = u[:, None] * self.axis + v[:, None] * self.side
        self.length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self.path, axis=0), axis=1))])
        tangent = np.gradient(self.path, self.length, axis=0)
        self.tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) lengths along the line and distances across it of (N, 2) points."""
        nearest = ((points[:, None] - self.path) ** 2).sum(axis=2).argmin(axis=1)
        off = points - self.path[nearest]
        return self.length[nearest], (off * _across(self.tangent[nearest])).sum(axis=1)

    def point(self, at: float, apart: float, place: np.ndarray) -> np.ndarray:
        """(s, 2) landmarks of a structure at a length along the line, whose next one lies so far apart."""
        along, across = (place * apart).T

        def on(values: np.ndarray, where: np.ndarray) -> np.ndarray:
            return np.stack([np.interp(where, self.length, values[:, axis]) for axis in range(2)], axis=1)

        where = at + along
        beyond = where - np.clip(where, 0, self.length[-1])
        tangent = on(self.tangent, where)
        points: np.ndarray = on(self.path, where) + beyond[:, None] * tangent + across[:, None] * _across(tangent)
        return points


class _Search:
    """The likeliest row along a line: states are where a structure lies, and how far apart the next one."""

    def __init__(self, row: Row, line: _Line, candidates: Candidates, seen: np.ndarray) -> None:
        usual = float(row.spacing.mean())
        step = STEP * usual
        self.row, self.at = row, np.arange(0, line.length[-1], step)
        self.far = np.arange(round(NEAREST / STEP), round(FURTHEST / STEP) + 1)
        self.apart_of = self.far * step
        self.evidence = self._evidence(line, candidates, seen, BLUR * usual)
        self.seen_as = [self._of_structure(k) for k in range(len(row.spacing))]

    def _evidence(self, line: _Line, candidates: Candidates, seen: np.ndarray, blur: float) -> np.ndarray:
        """(n, s, T) log likelihood of each landmark along the line; 0 where it is not in the picture."""
        number, step = self.row.place.shape[:2]
        count, places = candidates.share.shape
        along, across = line.of(np.nan_to_num(candidates.positions[..., :2].reshape(-1, 2)))
        near = np.abs(across) < ASIDE * self.row.spacing.mean()
        variance = blur**2 + np.minimum(
            candidates.covariance[..., :2, :2].trace(axis1=2, axis2=3).ravel() / 2, 4 * blur**2
        )
        each = np.exp(-((self.at - along[:, None]) ** 2) / 2 / variance[:, None])
        each *= (candidates.share.ravel() * near)[:, None]
        named = each.reshape(number, step, places, -1).sum(axis=2)
        any_one = np.log(UNSEEN + np.minimum(named.sum(axis=0), 1.0))
        evidence = any_one + NAMED * np.log(UNNAMED + np.minimum(named, 1.0))
        return np.where(seen.reshape(number, step, 1), evidence, 0.0)

    def _of_structure(self, k: int) -> np.ndarray:
        """(T, D) log likelihood of the landmarks of a structure at each place, by the distance of the next."""
        total = np.zeros((len(self.at), len(self.far)))
        for member, (along, _) in enumerate(self.row.place[k]):
            for d, apart in enumerate(self.apart_of):
                total[:, d] += np.interp(self.at + along * apart, self.at, self.evidence[k, member])
        usual = np.log(self.apart_of / self.row.spacing[k]) / SIZE_SD
        weighed: np.ndarray = total - (0.5 if k == 0 else 0.1) * usual**2
        return weighed

    def best(
        self, middle: int | None = None, reach: tuple[int, int] | None = None
    ) -> tuple[list[tuple[int, int]], float]:
        """The likeliest (place, distance) of all structures, as numbers of states, and its log likelihood.

        Args:
            middle, reach: a structure that may not lie between two places.
        """
        row, steps = self.row, self.far
        logs = np.log(steps)
        score, back = self.seen_as[0].copy(), []
        for k in range(1, len(row.spacing)):
            moved = np.full_like(score, -1e9)
            for d, far in enumerate(steps):
                moved[far:, d] = score[:-far, d]
            usual = np.log(row.spacing[k] / row.spacing[k - 1])
            squared = ((logs - logs[:, None] - usual) / row.change[k - 1]) ** 2
            reached = moved[:, :, None] - (FREEDOM + 1) / 2 * np.log1p(squared / FREEDOM)
            back.append(reached.argmax(axis=1))
            score = np.take_along_axis(reached, back[-1][:, None], axis=1)[:, 0] + self.seen_as[k]
            if k == middle and reach is not None:
                score[reach[0] : reach[1]] = -1e9
        t, d = (int(n) for n in np.unravel_index(score.argmax(), score.shape))
        path, likelihood = [(t, d)], float(score[t, d])
        for before in reversed(back):
            d = int(before[t, d])
            t -= int(steps[d])
            path.append((t, d))
        return path[::-1], likelihood

    def apart(self, path: list[tuple[int, int]], middle: int) -> tuple[int, int]:
        """Between which places another row may not have its middle structure: half way to both neighbors."""
        before, here, after = (path[middle + away][0] for away in (-1, 0, 1))
        return (before + here + 1) // 2, (here + after) // 2 + 1


UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Structures:
    """Frames of the structures of a row, in LPS mm of a radiograph's sheet; NaN where they are not known.

    Attributes:
        center: (S, 3) mean of each structure's landmarks.
        across: (S, 3) from the landmarks of one side to their partners, mean of a structure and its neighbors.
        along: (S, 3) from one structure to the next, likewise.
    """

    center: np.ndarray
    across: np.ndarray
    along: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, groups: Sequence[np.ndarray], partners: np.ndarray) -> Structures:
        """The frames of structures whose landmarks are known.

        Args:
            points: (K, 3) mm.
            groups: two at least, in the order of the row, the landmarks of each, partners among them.
            partners: (K,) of each landmark the one on the other side.
        """
        center = np.stack([points[group].mean(axis=0) for group in groups])
        across = np.stack([_to_partners(points, group, partners) for group in groups])
        return cls(center, _with_neighbors(across), _with_neighbors(np.gradient(center, axis=0)))

    @property
    def known(self) -> np.ndarray:
        """(S,) bool, which have a frame."""
        size = self.size
        known: np.ndarray = np.isfinite(self.center + size).all(axis=1) & (size > 0).all(axis=1)
        return known

    @property
    def size(self) -> np.ndarray:
        """(S, 3) mm: how wide each structure is, how far its neighbors are, and 1 across the sheet."""
        lengths = [np.linalg.norm(part, axis=1) for part in (self.across, self.along)]
        return np.stack([*lengths, np.ones(len(self.center))], axis=1)

    def axes(self, number: int) -> np.ndarray:
        """(3, 3) rotation whose first column points across a structure, and whose last leaves the sheet."""
        first = self.across[number] / np.linalg.norm(self.across[number])
        return np.stack([first, np.cross(UP, first), UP], axis=1)


def _to_partners(points: np.ndarray, group: np.ndarray, partners: np.ndarray) -> np.ndarray:
    firsts = np.array([k for k in group if k < partners[k]])
    across: np.ndarray = (points[partners[firsts]] - points[firsts]).mean(axis=0) * (1, 1, 0)
    return across


def _with_neighbors(vectors: np.ndarray) -> np.ndarray:
    """(S, 3) mean with both neighbors, which count half; the ends count for the neighbor that they lack."""
    padded = np.pad(vectors, ((1, 1), (0, 0)), mode="edge")
    parts = np.stack([padded[:-2], padded[1:-1], padded[2:]])
    weights = np.array([1.0, 2, 1])[:, None, None] * np.isfinite(parts)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = (weights * np.nan_to_num(parts)).sum(axis=0) / weights.sum(axis=0)
    return mean
