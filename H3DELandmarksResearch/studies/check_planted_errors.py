"""How many planted errors `cases check` finds on the mouse skulls, and how often it cries wolf.

Every round plants errors into 20 of 40 cases at once (so that the shapes compared with are wrong, too): five cases get
one exchanged pair, five one point moved by 3 mm in a random direction, five are shifted by 3 mm as a whole, and in five
all sides are exchanged.

    H3DE_DATA=../shared/data python -m H3DELandmarksResearch.studies.check_planted_errors --rounds 20
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue
from H3DELandmarksLib.cases.point_check import check_shapes
from H3DELandmarksLib.cases.same_points import check_same_places
from H3DELandmarksLib.cases.scan_check import check_on_scans, look_at_scan
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.folds import all_names, of_subset
from H3DELandmarksResearch.training.configuration import find_configuration, load_cases, read_configuration

ERRORS = ("pair exchanged", "point moved", "case shifted", "sides exchanged")
CASES_EACH, MOVED_MM = 5, 3.0
SEEN = {
    "pair exchanged": {IssueKind.SWAP, IssueKind.OUTLIER},
    "point moved": {IssueKind.OUTLIER, IssueKind.AIR, IssueKind.OUTSIDE, IssueKind.SWAP},
    "case shifted": {IssueKind.OFF_ANATOMY},
    "sides exchanged": {IssueKind.SIDES},
}


def findings_of(
    names: list[str], volumes: list[Volume], points: np.ndarray, scheme: LandmarkScheme
) -> list[QualityIssue]:
    """What the check says of points on scans."""
    on_scans = [look_at_scan(*case) for case in zip(names, volumes, points)]
    checks = (check_on_scans, check_shapes, check_same_places)
    return [finding for check in checks for finding in check(on_scans, scheme)]


def plant(points: np.ndarray, scheme: LandmarkScheme, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple]]:
    """Points with errors, and what was planted: (case number, error, names of landmarks)."""
    points, planted = points.copy(), []
    index = {name: k for k, name in enumerate(scheme.names)}
    chosen = rng.choice(len(points), CASES_EACH * len(ERRORS), replace=False)
    for number, error in zip(chosen, np.repeat(ERRORS, CASES_EACH)):
        case, names = points[number], ()
        way = rng.normal(size=3)
        way *= MOVED_MM / np.linalg.norm(way)
        if error == "pair exchanged":
            names = scheme.pairs[rng.integers(len(scheme.pairs))]
            pair = [index[name] for name in names]
            case[pair] = case[pair[::-1]]
        elif error == "point moved":
            names = (scheme.names[rng.integers(len(scheme))],)
            case[index[names[0]]] += way
        elif error == "case shifted":
            case += way
        else:
            for left, right in scheme.pairs:
                case[[index[left], index[right]]] = case[[index[right], index[left]]]
        planted.append((int(number), str(error), tuple(names)))
    return points, planted


def is_seen(error: str, landmarks: tuple[str, ...], found: list[QualityIssue]) -> bool:
    """Whether a case's findings name the error at its place."""
    return any(f.kind in SEEN[error] and (not landmarks or f.landmark in landmarks) for f in found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    configuration = read_configuration(find_configuration("mouse-skull"))
    cases = load_cases(of_subset(configuration, all_names(configuration)), "train", RUNS)
    scheme, names, volumes = configuration.scheme, [case.name for case in cases], [case.volume for case in cases]
    points = np.stack([case.landmarks.positions for case in cases])
    clean = findings_of(names, volumes, points, scheme)
    told = {(f.case, f.kind, f.landmark) for f in clean}
    print(
        f"Without planted errors: {len(clean)} findings on {np.isfinite(points[..., 0]).sum()} points "
        f"in {len({f.case for f in clean})} of {len(names)} cases: {dict(Counter(f.kind.value for f in clean))}"
    )
    seen, all_planted, false, untouched = Counter(), Counter(), Counter(), 0
    for seed in range(options.rounds):
        wrong, planted = plant(points, scheme, np.random.default_rng(seed))
        found = findings_of(names, volumes, wrong, scheme)
        for number, error, landmarks in planted:
            all_planted[error] += 1
            seen[error] += is_seen(error, landmarks, [f for f in found if f.case == names[number]])
        errors = {names[number]: (error, landmarks) for number, error, landmarks in planted}
        untouched += len(names) * len(scheme) - sum(map(len, (landmarks for _, _, landmarks in planted)))
        for finding in found:
            error, landmarks = errors.get(finding.case, ("none", ()))
            known = (finding.case, finding.kind, finding.landmark) in told or finding.landmark in landmarks
            expected = error in ("case shifted", "sides exchanged") and finding.kind in SEEN[error] | {
                IssueKind.AIR,
                IssueKind.OUTSIDE,
            }
            if not known and not expected:
                false[finding.kind.value] += 1
    for error in ERRORS:
        print(f"{error}: {seen[error]} of {all_planted[error]} found")
    print(f"New false alarms with planted errors: {sum(false.values())} on {untouched} untouched points: {dict(false)}")


if __name__ == "__main__":
    run_study(main)
