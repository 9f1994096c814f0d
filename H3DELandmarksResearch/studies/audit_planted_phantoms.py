"""How many faults planted in phantoms of the lower jaw the audit finds, and in how many other cases it finds something.

Points alone, where the audit needs no picture: each round plants a fault of each of five kinds into 60 cases. The same
with points of a model that has not learnt from them, which are simulated: right ones with errors of half a millimeter
along each axis. Small scans, where the audit needs them: each round plants two exchanges of point lists, a scan under a
second name and a mirror image under a second name into 30.

    python -m H3DELandmarksResearch.studies.audit_planted_phantoms --folder ../phantoms
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue
from H3DELandmarksLib.cases.point_check import CheckedPoints, check_shapes
from H3DELandmarksLib.cases.quality import CheckedCase, check_set
from H3DELandmarksLib.cases.same_points import check_copies, check_same_places
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.cases.reader_check import check_against
from H3DELandmarksResearch.phantom.anatomy import draw_anatomy, random_streams
from H3DELandmarksResearch.phantom.case import visible_landmarks
from H3DELandmarksResearch.phantom.framing import draw_framing
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME
from H3DELandmarksResearch.phantom.training_cases import phantom_case
from H3DELandmarksResearch.studies import run_study

FIRST_SEED, SCAN_SPACING_MM = 1000, 1.2
EXCHANGED_PAIRS, MODEL_ERROR_MM = 2, 0.5
SECOND_AND_THIRD = (("0", "d"), ("b", "e"), ("c", "f"))  # the same places of both molars of a side
AWAY = {IssueKind.OUTLIER, IssueKind.SWAP, IssueKind.READERS}
KINDS = {
    "sides exchanged": {IssueKind.SIDES},
    "scan mirrored": {IssueKind.SIDES},
    "second and third molar exchanged": {IssueKind.SWAP},
    "a point 5 mm off": AWAY,
    "a point 10 mm off": AWAY,
    "point lists of two cases exchanged": {IssueKind.EXCHANGED},
    "the same scan under two names": {IssueKind.SAME_IMAGE},
    "a mirror image under a second name": {IssueKind.SAME_IMAGE},
}


@dataclass
class Tally:
    """What was found.

    Attributes:
        planted, found, noticed: by kind of fault; of what was found the finding names kind and landmark, and what was
            noticed has any finding.
        right, disturbed: cases without a fault, and those of them with a finding.
        false: findings in these, by kind.
    """

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    right: int = 0
    disturbed: int = 0
    false: Counter[str] = field(default_factory=Counter)

    def add(self, cases: Sequence[str], faults: dict[str, tuple[str, str]], findings: Sequence[QualityIssue]) -> None:
        """Count a round.

        Args:
            cases: all ids.
            faults: by id what was planted and at which landmark, or empty for the whole case; of a fault that concerns
                two cases either may be named.
            findings: of the audit.
        """
        for case, (fault, landmark) in faults.items():
            told = [f for f in findings if case in (f.case, f.other)]
            self.planted[fault] += 1
            self.noticed[fault] += bool(told)
            self.found[fault] += any(f.kind in KINDS[fault] and landmark in ("", f.landmark) for f in told)
        right = set(cases) - set(faults)
        wrong = [finding for finding in findings if finding.case in right and finding.other not in faults]
        self.right += len(right)
        self.disturbed += len({finding.case for finding in wrong})
        self.false.update(finding.kind.value for finding in wrong)

    def rows(self) -> list[str]:
        """The rows of a table, and the share of right cases with a finding."""
        told = [f"| {f} | {self.found[f]} of {n} | {self.noticed[f]} of {n} |" for f, n in self.planted.items()]
        share = 100 * self.disturbed / max(self.right, 1)
        return [
            *told,
            f"Right cases with a finding: {self.disturbed} of {self.right} ({share:.1f} %) {dict(self.false)}",
        ]


def exchange_sides(points: np.ndarray, rng: np.random.Generator) -> str:
    """Give all points the names of the other side."""
    points[:] = points[MOLAR_SCHEME.mirror_order()]
    return ""


def mirror(points: np.ndarray, rng: np.random.Generator) -> str:
    """Mirror the points with their scan; the names stay."""
    points[:, 0] *= -1
    return ""


def exchange_molars(points: np.ndarray, rng: np.random.Generator) -> str:
    """Exchange the names of the second and the third molar of a side, where both have a point."""
    names = MOLAR_SCHEME.names
    for side in rng.permutation(["L", "R"]):
        pairs = [[names.index(side + a), names.index(side + b)] for a, b in SECOND_AND_THIRD]
        if np.isfinite(points[pairs]).all():
            for pair in pairs:
                points[pair] = points[pair[::-1]]
            break
    return ""


def move(length_mm: float) -> Callable[[np.ndarray, np.random.Generator], str]:
    """Move one point in a random direction."""

    def plant(points: np.ndarray, rng: np.random.Generator) -> str:
        way = rng.normal(size=3)
        k = rng.choice(np.flatnonzero(np.isfinite(points).all(axis=1)))
        points[k] += length_mm * way / np.linalg.norm(way)
        return MOLAR_SCHEME.names[k]

    return plant


FAULTS_OF_POINTS = {
    "sides exchanged": exchange_sides,
    "scan mirrored": mirror,
    "second and third molar exchanged": exchange_molars,
    "a point 5 mm off": move(5.0),
    "a point 10 mm off": move(10.0),
}


def points_of(seed: int) -> np.ndarray:
    """(14, 3) LPS mm of a phantom, whose scan is not made."""
    return visible_landmarks(draw_anatomy(seed, None), draw_framing(random_streams(seed)["framing"], None)).positions


def whole_molars(points: np.ndarray) -> bool:
    """Whether a side has both molars, whose names can be exchanged."""
    index = [[MOLAR_SCHEME.names.index(s + n) for pair in SECOND_AND_THIRD for n in pair] for s in "LR"]
    return any(np.isfinite(points[side]).all() for side in index)


def points_round(right: Sequence[np.ndarray], rng: np.random.Generator, tallies: Sequence[Tally]) -> None:
    """Plant faults into points alone, and count what is found: without and with points of a model."""
    points, faults = [case.copy() for case in right], {}
    free = rng.permutation([n for n, case in enumerate(points) if whole_molars(case)]).tolist()
    for fault, plant in FAULTS_OF_POINTS.items():
        number = free.pop()
        faults[str(number)] = (fault, plant(points[number], rng))
    names = [str(n) for n in range(len(points))]
    model = [case + rng.normal(0, MODEL_ERROR_MM, case.shape) for case in right]
    listed, predicted = ({n: CheckedPoints(n, c) for n, c in zip(names, cases)} for cases in (points, model))
    alone = findings_of_points(points)
    beside = check_against(("the case", listed), ("the model", predicted), MOLAR_SCHEME)
    tallies[0].add(names, faults, alone)
    tallies[1].add(names, faults, [*alone, *beside])


def findings_of_points(points: Sequence[np.ndarray]) -> list[QualityIssue]:
    """What the audit says of points without scans."""
    cases = [CheckedPoints(str(number), case) for number, case in enumerate(points)]
    checks = (check_shapes(cases, MOLAR_SCHEME), check_same_places(cases, MOLAR_SCHEME), check_copies(cases))
    return [finding for findings in checks for finding in findings]


def scans_round(right: Sequence[Case], kept: Sequence[CheckedCase], rng: np.random.Generator, tally: Tally) -> None:
    """Plant faults into small scans, and count what is found.

    Args:
        right: the cases.
        kept: the same, as the audit keeps them.
    """
    cases, faults = list(kept), {}
    free = rng.permutation(len(right)).tolist()
    for _ in range(EXCHANGED_PAIRS):
        a, b = free.pop(), free.pop()
        for one, other in ((a, b), (b, a)):
            cases[one] = CheckedCase.of(right[one].name, right[one].volume, right[other].landmarks.positions)
        faults[right[a].name] = ("point lists of two cases exchanged", "")
        faults[right[b].name] = faults[right[a].name]
    for fault, changed in (
        ("the same scan under two names", resaved),
        ("a mirror image under a second name", mirrored),
    ):
        case = right[free.pop()]
        name = f"{case.name} again"
        cases.append(CheckedCase.of(name, *changed(case.volume, case.landmarks.positions, rng)))
        faults[name] = (fault, "")
    tally.add([case.id for case in cases], faults, list(check_set(cases, MOLAR_SCHEME, {})))


def resaved(volume: Volume, points: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """The same scan cut by a few voxels and stored with another window, and points that another reader marked."""
    cut = 4
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ np.full(3, float(cut))
    array = np.clip(volume.array[cut:, cut:, cut:] * 0.5 + 300, 0, 1500).astype(np.int16)
    return Volume(array, affine), points + rng.normal(0, 0.5, points.shape)


def mirrored(volume: Volume, points: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A scan stored the other way round, and points that a reader named as they look there."""
    across = 2 * volume.grid.center[0]
    named = points[MOLAR_SCHEME.mirror_order()] * (-1.0, 1.0, 1.0) + (across, 0.0, 0.0)
    return Volume(volume.array[::-1].copy(), volume.affine), named + rng.normal(0, 0.5, points.shape)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where phantoms are kept")
    parser.add_argument("--rounds", type=int, default=10, help="of points alone")
    parser.add_argument("--cases", type=int, default=60, help="of points alone")
    parser.add_argument("--scan-rounds", type=int, default=4)
    parser.add_argument("--scans", type=int, default=30)
    options = parser.parse_args()
    right = [points_of(FIRST_SEED + n) for n in range(options.cases)]
    before = findings_of_points(right)
    print(f"Points without faults: findings in {len({f.case for f in before})} of {len(right)} cases: {before}")
    tallies = (Tally(), Tally())
    for seed in range(options.rounds):
        points_round(right, np.random.default_rng(seed), tallies)
    for words, tally in zip(("Points alone", "With points of a model"), tallies):
        print("\n".join([words, *tally.rows()]), flush=True)
    scans = [phantom_case(FIRST_SEED + n, SCAN_SPACING_MM, options.folder) for n in range(options.scans)]
    kept = [CheckedCase.of(case.name, case.volume, case.landmarks.positions) for case in scans]
    clean = list(check_set(kept, MOLAR_SCHEME, {}))
    print(f"Scans without faults: findings in {len({f.case for f in clean})} of {len(scans)} cases: {clean}")
    tally = Tally()
    for seed in range(options.scan_rounds):
        scans_round(scans, kept, np.random.default_rng(seed), tally)
    print("\n".join(tally.rows()))


if __name__ == "__main__":
    run_study(main)
