"""How many corrections a reader needs until all points are within tolerance, without and with points that follow.

    h3delandmarks convert open-kbp ../shared/data/head-neck-ct runs/data/head-neck-ct
    H3DE_DATA=../shared/data python -m H3DELandmarksResearch.studies.corrections mouse-skull --model mouse-skull
    MOLARS=mandibular-molar-phantom
    python -m H3DELandmarksResearch.studies.corrections $MOLARS --model $MOLARS --cases 12
    python -m H3DELandmarksResearch.studies.corrections head-neck-ct --model head-neck-ct --condition coarser
    python -m H3DELandmarksResearch.studies.corrections cephalogram --model cephalogram --reader-noise 0.7
    python -m H3DELandmarksResearch.studies.corrections spine --model spine --heights 0.25 --planted row
    python -m H3DELandmarksResearch.studies.corrections --readers ../shared/data/isbi2015-cephalogram --tolerance 2

A simulated reader takes the most doubtful point first, accepts or corrects it, and stops where all points are within
tolerance; in further rows it also uses the one-click remedies of sides exchanged and rows one off, where they are
right, each as one correction, or make their first correction ten tolerances wrong (a slip). Points follow as the
model's package says, as in the panel. With --learn, what revision needs is learnt from training points and calibration
cases; where the latter are counted, each half is judged by what the other teaches. --planted lets the model be wrong
as a whole. With --readers no model is needed: the points of a cephalogram's junior reader are taken for the found ones,
those of the senior for the truth. What a model finds is kept in runs/corrections. --model takes a weak model's package
as well, and --keep writes what following was worth on the calibration cases into the package, which the panel goes by.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.anatomy import CORRECTIONS, Anatomy
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Decisions, Evidence
from H3DELandmarksLib.core.rows import structure_size
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.core.systematic import Finding, Systematic, follow, mended, shifted, systematic_errors
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.models.package import anatomy_of
from H3DELandmarksLib.training.conditions import CONDITIONS, WHOLE
from H3DELandmarksResearch.cases.case_folder import points_of_case
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.measurements import reader_points
from H3DELandmarksResearch.studies.spines import CORNERS, counted_off, vertebrae
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    find_configuration,
    load_cases,
    read_configuration,
)
from H3DELandmarksResearch.training.packaging import with_following
from H3DELandmarksResearch.training.remembered import Remembered
from H3DELandmarksResearch.training.revision import (
    Reviewed,
    Step,
    learn_anatomy,
    learn_following,
    read_through,
    reviewed_case,
    saved_interval,
    wrong_by,
)

LEVEL = 0.95
SLIP = 10.0  # tolerances by which the first correction is wrong
ARMS = {
    "alone": (False, False, 0.0),
    "remedies": (False, True, 0.0),
    "following": (True, False, 0.0),
    "both": (True, True, 0.0),
    "a slip": (True, False, SLIP),
}
# A wrong correction lies off by so many tolerances.
WRONG = (2.0, 5.0, SLIP, 20.0, 100.0)
# A whole row of structures one off, a part of it, exchanged sides, and a scan whose header exchanges them.
PLANTED = ("row", "part", "sides", "mirrored")


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn, simulate, and print the table."""
    options = _parser().parse_args(arguments)
    pairs: Sequence[tuple[str, str]] = ()
    if options.readers:
        judged = learnt_and_judged(*readers_cases(options.readers), options.tolerance, pairs)
    else:
        configuration = read_configuration(find_configuration(options.configuration))
        pairs = configuration.scheme.pairs
        if options.keep:
            return keep(configuration, options, pairs)
        judged = cases_of_model(configuration, options)
    if options.planted:
        judged = [(a, planted(case, options.planted, a, pairs, n)) for n, (a, case) in enumerate(judged)]
    text = table(judged, options.reader_noise, pairs)
    print(text)
    if options.output:
        with atomic_write(options.output) as partial:
            partial.write_text(text, encoding="utf-8")
    return 0


Judged = list[tuple[Anatomy, Reviewed]]


def learnt_and_judged(
    shapes: np.ndarray,
    calibration: Sequence[Reviewed],
    test: Sequence[Reviewed],
    tolerance_mm: float,
    pairs: Sequence[tuple[str, str]],
) -> Judged:
    """Test cases, each with what calibration cases teach; where both are the same, one half teaches for the other."""
    halves = [(calibration, test)]
    if calibration is test:
        halves = [(test[0::2], test[1::2]), (test[1::2], test[0::2])]
    return [(learn_anatomy(shapes, learnt, tolerance_mm, pairs), case) for learnt, held in halves for case in held]


def keep(configuration: Configuration, options: argparse.Namespace, pairs: Sequence[tuple[str, str]]) -> int:
    """Write into a package what following was worth on calibration cases."""
    package = find_model(options.model)
    cases = _seen(configuration, options, configuration.calibration_subset, WHOLE)
    errs = package.load_anatomy() is not None
    kept = with_following(package, learn_following(anatomy_of(package), cases, errs, pairs))
    print(kept.manifest.calibration.following)
    return 0


def cases_of_model(configuration: Configuration, options: argparse.Namespace) -> Judged:
    """What a model finds in the cases that count, each with what the panel goes by, or what --learn teaches anew."""
    tolerance = options.tolerance or configuration.record.tolerance_mm
    if not options.learn:
        anatomy = replace(anatomy_of(find_model(options.model)), tolerance_mm=tolerance)
        return [(anatomy, case) for case in _seen(configuration, options, options.subset, options.condition)]
    subset = configuration.calibration_subset
    calibration = test = _seen(configuration, options, subset, WHOLE)
    if (options.subset, options.condition) != (subset, WHOLE):
        test = _seen(configuration, options, options.subset, options.condition)
    shapes = training_points(configuration) or [case.truth.positions for case in calibration]
    return learnt_and_judged(np.stack(shapes), calibration, test, tolerance, configuration.scheme.pairs)


def _seen(configuration: Configuration, options: argparse.Namespace, subset: str, condition: str) -> list[Reviewed]:
    detector = Detector(find_model(options.model))
    cases = load_cases(configuration, subset, options.cache)
    if subset == options.subset:
        cases = cases[: options.cases]
    remembered, reviewed = Remembered(detector, options.cache / "corrections"), []
    for case in cases:
        changed = CONDITIONS[condition](case, np.random.default_rng([7, *case.name.encode()]))
        heights = options.heights
        tolerance = None if heights is None else heights * heights_of_vertebrae(changed.landmarks)
        reviewed.append(reviewed_case(detector, remembered, changed, tolerance))
    return reviewed


def training_points(configuration: Configuration) -> list[np.ndarray]:
    """(K, 3) LPS mm of each training case that lies in a folder; scans are not read, and phantoms not made."""
    if configuration.record.data.folder is None:
        return []
    folder, names = configuration.data_folder(), configuration.scheme.names
    lists = [read_markups(points_of_case(folder, name), names) for name in configuration.split()["train"]]
    return [landmarks.ordered_as(names).positions for landmarks in lists]


def heights_of_vertebrae(truth: LandmarkSet) -> np.ndarray:
    """(K,) mm of the vertebra of each corner; its corners are called upper left, upper right, lower left, lower right.

    Raises:
        InputError: the landmarks are no corners.
    """
    if truth.names[0].split()[1:] != ["upper", "left"] or len(truth) % CORNERS:
        raise InputError("Heights of vertebrae are known for the corners of vertebrae alone.")
    corners = vertebrae(truth.positions)
    heights: np.ndarray = np.linalg.norm(corners[:, :2] - corners[:, 2:], axis=2).mean(axis=1)
    return np.repeat(heights, CORNERS)


def is_miscounted(case: Reviewed) -> bool:
    """Whether any vertebra was found where another one is."""
    return bool(counted_off(vertebrae(case.evidence.found.positions), vertebrae(case.truth.positions)).any())


def planted(case: Reviewed, kind: str, anatomy: Anatomy, pairs: Sequence[tuple[str, str]], number: int) -> Reviewed:
    """The case as if the model had made a systematic error.

    Args:
        case: as the model has found it.
        kind: one of `PLANTED`.
        anatomy: of the model.
        pairs: (left name, right name).
        number: which part of a row is off, and which way, follows from it.

    Raises:
        InputError: the anatomy has no sides, or no row.
    """
    evidence, count = case.evidence, len(case.truth)
    if kind == "mirrored":
        return replace(case, evidence=_mirrored(evidence), truth=_mirrored(Evidence(case.truth, evidence.pose)).found)
    if kind == "sides":
        order, index = np.arange(count), {name: k for k, name in enumerate(case.truth.names)}
        for left, right in pairs:
            order[[index[left], index[right]]] = index[right], index[left]
        what = Systematic.SIDES
    else:
        step, rng, what = structure_size(anatomy.mean), np.random.default_rng(number), Systematic.SHIFTED
        start = step * int(rng.integers(2, count // step - 2)) if step and kind == "part" else 0
        order = shifted(count, slice(start, count), step * int(rng.choice([-1, 1])))
    if (order == np.arange(count)).all():
        raise InputError("Nothing can be planted: the model's landmarks have no sides, or form no row.")
    return replace(case, evidence=mended(evidence, anatomy, Finding(what, case.truth.names, order)))


def _mirrored(evidence: Evidence) -> Evidence:
    """With left and right exchanged, as points of a scan are whose header says so."""
    flip, found, places = np.array([-1.0, 1.0, 1.0]), evidence.found, evidence.candidates
    if places is not None:
        places = replace(places, positions=places.positions * flip)
    return replace(evidence, found=found.with_positions(found.positions * flip), candidates=places)


def readers_cases(folder: Path) -> tuple[np.ndarray, list[Reviewed], list[Reviewed]]:
    """Cephalograms of ISBI 2015: shapes of 100, 50 for the calibration, and the 150 of the first test.

    Raises:
        InputError: the folder does not hold both readers' points.
    """
    pictures = [f"{number:03d}" for number in range(1, 301)]
    readers = [reader_points(folder, who, pictures) for who in ("junior", "senior")]
    away = np.linalg.norm(readers[0] - readers[1], axis=2)[100:150]
    names = tuple(str(k + 1) for k in range(away.shape[1]))
    radius, confidence = np.quantile(away, 0.9, axis=0), (away <= 2).mean(axis=0)
    pose = Pose(np.eye(3), np.zeros(3))
    cases = [
        Reviewed(Evidence(LandmarkSet(names, found, confidence=confidence, radius=radius), pose), LandmarkSet(names, t))
        for found, t in zip(*readers)
    ]
    return readers[1][:100], cases[100:150], cases[150:300]


def table(judged: Sequence[tuple[Anatomy, Reviewed]], noise_mm: float, pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Corrections alone, with remedies, with following points and with both, with intervals over cases, and coverage.

    Args:
        judged: cases, each with what revision goes by.
        noise_mm: standard deviation of each coordinate of the reader's points.
        pairs: (left name, right name).
    """
    counts = np.zeros((len(judged), len(ARMS)), int)
    held, unchanged = ({number: list[np.ndarray]() for number in CORRECTIONS} for _ in range(2))
    for number, (anatomy, case) in enumerate(judged):
        for arm, (helped, remedies, slip) in enumerate(ARMS.values()):
            rng = np.random.default_rng(number)
            steps = list(read_through(case, anatomy, helped, noise_mm, rng, pairs, remedies, slip))
            counts[number, arm] = steps[-1].corrections
            if not remedies and not slip:
                _gather(steps, held if helped else unchanged)
    anatomy = judged[0][0]
    lines = [
        f"{len(judged)} cases, tolerance {_tolerance(judged)}, reader's noise {noise_mm:g} mm, "
        f"caution {anatomy.caution:g}, scales {', '.join(f'{s:.2f}' for s in anatomy.scales)}",
        *_counted(counts),
    ]
    if judged[0][1].tolerance is not None:
        off = np.array([is_miscounted(case) for _, case in judged])
        for words, part in (("vertebrae counted wrongly", off), ("counted right", ~off)):
            lines += [f"{part.sum()} cases with {words}:", *_counted(counts[part])] if part.any() else []
    said = Counter(
        finding.kind.value
        for anatomy, case in judged
        for finding in systematic_errors(case.evidence, anatomy, pairs)[:1]
    )
    lines.append("said before any correction: " + (", ".join(f"{k} in {n}" for k, n in said.items()) or "nothing"))
    for number, inside in held.items():
        if inside and (together := np.concatenate(inside)).size:
            lines.append(
                f"radii after {number}: {100 * together.mean():.1f} % of {together.size} undecided ones within; alone "
                f"{100 * np.concatenate(unchanged[number]).mean():.1f} %"
            )
    return "\n".join([*lines, *influence(judged, pairs)]) + "\n"


def _tolerance(judged: Sequence[tuple[Anatomy, Reviewed]]) -> str:
    anatomy, case = judged[0]
    return f"{anatomy.tolerance_mm:g} mm" if case.tolerance is None else "by the height of each vertebra"


def _gather(steps: Sequence[Step], held: Mapping[int, list[np.ndarray]]) -> None:
    for step in {step.corrections: step for step in reversed(steps)}.values():
        known = step.undecided & np.isfinite(step.landmarks.radius)
        if step.corrections in held:
            held[step.corrections].append((step.error <= step.landmarks.radius)[known])


def _counted(counts: np.ndarray) -> list[str]:
    """A line for each arm: (N, A) corrections of cases."""
    lines = [f"  {'corrections':<12} {counts[:, 0].sum()} ({counts[:, 0].mean():.2f} a case) alone"]
    for arm, name in list(enumerate(ARMS))[1:]:
        low, high = saved_interval(counts[:, 0], counts[:, arm], LEVEL)
        saved = 1 - counts[:, arm].sum() / max(counts[:, 0].sum(), 1)
        fewer, more = ((counts[:, arm] < counts[:, 0]).sum(), (counts[:, arm] > counts[:, 0]).sum())
        lines.append(
            f"  {name:<12} {counts[:, arm].sum()}, saved {100 * saved:.1f} % [{100 * low:.1f}, {100 * high:.1f}]; "
            f"{fewer} cases with fewer, {more} with more"
        )
    return lines


def influence(judged: Sequence[tuple[Anatomy, Reviewed]], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What one wrong correction does to the others, beside the right one: a line for each distance of `WRONG`."""
    lines = []
    for factor in WRONG:
        most, spoilt = [], 0
        for number, (anatomy, case) in enumerate(judged):
            rng, tolerance = np.random.default_rng(number), case.tolerances(anatomy)
            there = case.evidence.found.present & case.truth.present
            if not there.any():
                continue
            row = int(rng.choice(np.flatnonzero(there)))
            away = wrong_by(factor * tolerance[row], anatomy.axes, rng)
            right, wrong = (_after(case, anatomy, row, by, pairs) for by in (0 * away, away))
            others = there & (np.arange(len(there)) != row)
            moved = np.linalg.norm(wrong - right, axis=1) / tolerance  # NaN where a point is absent now
            most.append(float(np.nan_to_num(moved[others]).max(initial=0.0)))
            errors = [np.linalg.norm(p - case.truth.positions, axis=1) for p in (case.evidence.found.positions, wrong)]
            spoilt += int(((errors[0] <= tolerance) & (errors[1] > tolerance))[others].sum())
        lines.append(
            f"a correction wrong by {factor:g} tolerances moves another point by {np.median(most):.2f} tolerances at "
            f"most in the median case, {np.max(most):.2f} in the worst; it spoils {spoilt} points in all"
        )
    return lines


def _after(
    case: Reviewed, anatomy: Anatomy, row: int, away: np.ndarray, pairs: Sequence[tuple[str, str]]
) -> np.ndarray:
    """(K, 3) LPS mm after one correction that is wrong by (3,) mm."""
    decided = Decisions.none(len(case.truth))
    decided.positions[row] = case.truth.positions[row] + away
    return follow(case.evidence, anatomy, decided, pairs).positions


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", nargs="?", help="training configuration: a path or a bundled name")
    parser.add_argument("--model", help="id or path of the model package")
    parser.add_argument("--readers", type=Path, help="folder of ISBI 2015: two readers' points and no model")
    parser.add_argument("--tolerance", type=float, help="mm (default: the configuration's)")
    parser.add_argument("--condition", default=WHOLE, choices=tuple(CONDITIONS), help="how test scans are disturbed")
    parser.add_argument("--subset", default="test", help="whose cases are counted (default: %(default)s)")
    parser.add_argument("--cases", type=int, help="so many at most")
    parser.add_argument("--heights", type=float, help="tolerance in heights of each vertebra, in place of mm")
    parser.add_argument("--planted", choices=PLANTED, help="a systematic error that the model is made to make")
    learn = "learn from training points and calibration cases anew, in place of what the package tells the panel"
    parser.add_argument("--learn", action="store_true", help=learn)
    parser.add_argument("--keep", action="store_true", help="write what following is worth into the model's package")
    parser.add_argument("--reader-noise", type=float, default=0.0, help="mm, standard deviation of a reader's points")
    parser.add_argument("--cache", type=Path, default=RUNS, help="folder of generated cases and detections")
    parser.add_argument("--output", type=Path, help="text file for the table")
    return parser


if __name__ == "__main__":
    run_study(main)
