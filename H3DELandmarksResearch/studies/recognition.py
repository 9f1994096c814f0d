"""Whether a model recognises its anatomy and nothing else, and what its probabilities and radii are worth by condition.

    h3delandmarks convert open-kbp ../shared/data/head-neck-ct runs/data/head-neck-ct
    h3delandmarks convert isbi2015 ../shared/data/isbi2015-cephalogram runs/data/isbi2015 --spacing 0.1999x0.2
    h3delandmarks convert aasce2019 ../shared/data/aasce2019-spine runs/data/aasce2019
    VIEWS="--view dorsoventral --view oblique-left --view oblique-right"
    H3DE_DATA=../shared/data h3delandmarks radiographs mouse-skull runs/data/mouse-radiographs $VIEWS --views 6
    VIEWS="--view oblique-left --view oblique-right"
    h3delandmarks radiographs mandibular-molar runs/data/molar-radiographs $VIEWS --views 3
    for MODEL in head-neck-ct mandibular-molar-phantom mouse-skull cephalogram spine; do
        python -m H3DELandmarksResearch.studies.recognition $MODEL --real ../shared/data
    done

Recognition is fitted to a model's calibration cases, each whole and as users may have it, against disturbed copies of
the first of them. Test cases under the same conditions, and scans of something else, then show what it is worth. What
was found in a scan is kept, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import markdown_table, number
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import Detection, RawPredictions
from H3DELandmarksLib.evaluation.metrics import radius_coverage
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import WHOLE
from H3DELandmarksLib.training.recognition import Sighting, fit_recognition, look_at_disturbed, look_at_own
from H3DELandmarksResearch.evaluation.reliability import compare_statements, reliability
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.foreign_volumes import NotHere
from H3DELandmarksResearch.studies.recognition_scans import (
    CALIBRATION,
    TEST,
    StudyScan,
    disturbed_scans,
    foreign_scans,
    own_scans,
)
from H3DELandmarksResearch.training.configuration import (
    DATA_VARIABLE,
    find_configuration,
    load_cases,
    read_configuration,
)
from H3DELandmarksResearch.training.cross_fitting import Part, folds_of
from H3DELandmarksResearch.training.point_calibration import (
    PointErrors,
    fit_confidence,
    fit_points,
    left_out,
    point_errors,
    stated,
)
from H3DELandmarksResearch.training.remembered import Remembered

MAX_DISTURBED = 8
LEARNT = ("train", "validation")
CHANCES = 200  # draws that tell by how much confidences seem wrong by chance


@dataclass(frozen=True)
class Seen:
    """What a model found in a scan.

    Attributes:
        scan: which one.
        found: before calibration; None where the model refused the scan as much too large.
        truth: LPS mm; None where nobody knows.
        volume: of the scan, without its values.
    """

    scan: StudyScan
    found: RawPredictions | None
    truth: LandmarkSet | None
    volume: Volume


def look(detector: Detector, scans: Iterable[StudyScan], cache: Path) -> Iterator[Seen]:
    """What the model finds in each scan; where it lies in the cache, it is not looked for again."""
    remembered = Remembered(detector, cache)
    for scan in scans:
        try:
            volume, truth = scan.make()
        except NotHere as reason:
            print(f"Left out: {scan.subject}: {reason}", file=sys.stderr)
            continue
        try:
            found = remembered.findings(volume)
        except InputError:
            found = None
        yield Seen(scan, found, truth, Volume(np.broadcast_to(np.uint8(0), volume.array.shape), volume.affine))


def sightings_of(detector: Detector, seen: Sequence[Seen]) -> list[Sighting]:
    """What was found, as training knows it; scans that were refused as much too large are left out."""
    return [
        Sighting(one.scan.subject, one.scan.condition, one.found, one.truth, detector.grid_of(one.volume))
        for one in seen
        if one.found is not None
    ]


def fit(detector: Detector, sightings: Sequence[Sighting]) -> Calibration:
    """The model's calibration with recognition, radii and confidences that calibration and disturbed scans teach.

    Args:
        detector: of the model.
        sightings: what it finds in these scans.

    Raises:
        InputError: they are too few.
    """
    fitted = fit_recognition(sightings, detector.calibration)
    if fitted is None:
        raise InputError("There are too few calibration cases: two at least are needed.")
    known = replace(detector.calibration, recognition=fitted, points=None)
    if detector.anatomy is not None:  # placed together
        return known
    points = point_errors(sightings, detector.shape, known)
    confidence = fit_confidence(points, known.tolerance_mm)
    if confidence is not None:
        known = replace(known, confidence_weights=confidence)
    return replace(known, points=fit_points(sightings, detector.shape, known))


def conclusion(detector: Detector, one: Seen) -> Detection | None:
    """What the model says of the scan; None where it refused to search it."""
    return None if one.found is None else detector.conclude(one.found, one.volume)


def sightings_of_folds(parts: Sequence[Part]) -> list[Sighting]:
    """What the models of folds find in cases that they never saw, as `models recalibrate --folds` looks at them.

    Args:
        parts: see `folds_of`; some cases of each are disturbed, too.
    """
    few = -(-MAX_DISTURBED // len(parts))
    own = [one for part in parts for one in look_at_own(part.finder, part.cases)]
    return [*own, *(one for part in parts for one in look_at_disturbed(part.finder, part.cases[:few]))]


def left_out_table(points: PointErrors, before: Calibration, fitted: Calibration, apart: Collection[str] = ()) -> str:
    """Markdown: confidences and radii of calibration scans by what other subjects teach, beside those of the package.

    Even confidences that hold exactly have an error by chance, the larger the fewer points there are. It stands beside,
    for points that are right or wrong in all scans made from one subject together.

    Args:
        points: of calibration scans under all conditions.
        before: the package's, which may know the subjects.
        fitted: of presence and of landmarks' radii.
        apart: subjects whose whole scans, and all of whose scans, make two more rows.
    """
    (old, old_radius), (new, new_radius) = stated(points, before), left_out(points, fitted)
    right, rng = points.right(fitted.tolerance_mm).astype(float), np.random.default_rng(0)
    far = points.error > 3 * np.median(new_radius)
    same = np.unique([*zip(points.subject, points.usual.astype(str))], axis=0, return_inverse=True)[1].ravel()
    luck = rng.random((CHANCES, same.max() + 1))[:, same]
    head = ("condition", "points", "right", "ECE before", "ECE", "by chance", "radius held before", "holds")
    rows: list[tuple[str, ...]] = [(*head, "large errors")]
    groups = {name: points.condition == name for name in dict.fromkeys(points.condition.tolist())}
    groups["all"] = np.ones(len(right), bool)
    if apart:
        told, names = np.isin(points.subject, list(apart)), ", ".join(apart)
        groups |= {f"{names}: whole": told & groups[WHOLE], f"{names}: all": told}
    for name, some in groups.items():
        known = some & np.isfinite(points.error)
        chance = [reliability(new[some], drawn[some] < new[some]).error for drawn in luck]
        errors = [reliability(said[some], right[some]).error for said in (old, new)]
        held = [(points.error <= radius)[known].mean() for radius in (old_radius, new_radius)]
        rows.append(
            (
                *(name, str(some.sum()), f"{100 * right[some].mean():.0f} %"),
                *(number(float(value), 3) for value in (*errors, np.mean(chance))),
                *(f"{100 * share:.1f} %" for share in held),
                f"{(new < 0.5)[some & far].sum()} of {(some & far).sum()} below 0.5",
            )
        )
    return markdown_table(rows)


def own_table(detector: Detector, seen: Sequence[Seen]) -> str:
    """Markdown: of the test scans under each condition, how many are refused, and what statements are worth."""
    conditions = dict.fromkeys(one.scan.condition for one in seen)
    head = ("condition", "scans with a landmark", "refused", "of those with a point found", "points found")
    rows = [
        (*head, "ECE of presence", "ECE of confidence", "errors within the stated radius", "within the 90 % radius"),
        *(_own_row(detector, name, [one for one in seen if one.scan.condition == name]) for name in conditions),
        _own_row(detector, "all", seen),
    ]
    return markdown_table(rows)


def _own_row(detector: Detector, title: str, seen: Sequence[Seen]) -> tuple[str, ...]:
    seen = [one for one in seen if one.truth is not None and one.truth.present.any()]
    said = [conclusion(detector, one) for one in seen]
    refused = [one is None or not one.recognition.recognised for one in said]
    telling = [one is not None and bool(one.doubtful.present.any()) for one in said]
    lost = sum(no and found for no, found in zip(refused, telling))
    kept = [(one, detection) for one, detection, no in zip(seen, said, refused) if not no]
    cells = [title, str(len(seen)), str(sum(refused)), f"{lost} of {sum(telling)}"]
    if not kept:
        return (*cells, *["-"] * 5)
    found = {str(number): detection.doubtful for number, (_, detection) in enumerate(kept)}
    truth = {str(number): one.truth for number, (one, _) in enumerate(kept)}
    summary = compare_statements(found, truth, detector.calibration.tolerance_mm).summary()
    errors = np.array([np.linalg.norm(found[k].positions - truth[k].positions, axis=1) for k in found])
    stated = np.array([detection.landmarks.radius for _, detection in kept])
    shown = sum(int(one.present.sum()) for one in found.values())
    coverage = [radius_coverage(errors, stated), radius_coverage(errors, np.array([o.radius for o in found.values()]))]
    count = int((np.isfinite(errors) & np.isfinite(stated)).sum())
    return (
        *cells,
        str(shown),
        *(number(np.nan if (e := summary[name]["ece"]) is None else e, 3) for name in ("presence", "confidence")),
        f"{100 * coverage[0]:.1f} % of {count}" if count else "-",
        f"{100 * coverage[1]:.1f} %" if shown else "-",
    )


def foreign_rows(detector: Detector, seen: Sequence[Seen]) -> list[tuple[str, bool, bool]]:
    """Of each scan: its name, whether networks find a point in it, and whether one is shown."""
    rows = []
    for one in seen:
        said = conclusion(detector, one)
        found = said is not None and bool(said.doubtful.present.any())
        rows.append((f"{one.scan.subject}, {one.scan.condition}", found, found and bool(said.landmarks.present.any())))
    return rows


def foreign_text(rows: Sequence[tuple[str, bool, bool]]) -> str:
    """A sentence, and the names of the scans in which points are shown."""
    before, after = (sum(row[column] for row in rows) for column in (1, 2))
    shown = "; ".join(name for name, _, is_shown in rows if is_shown)
    share = 100 * (1 - after / max(len(rows), 1))
    return (
        f"Of {len(rows)} scans of something else, networks find points in {before}; {after} of them are taken for the "
        f"anatomy: {share:.1f} % show no point." + (f" With points: {shown}." if shown else "")
    )


def cases_of(model: str, subset: str, real: Path) -> list[Case]:
    """The cases of a subset of the model's training configuration, whose data lie where the first lines say."""
    configuration = read_configuration(find_configuration(model))
    as_published = model == "mouse-skull" or configuration.record.data.reader == "composite"
    os.environ[DATA_VARIABLE] = str(real if as_published else RUNS / "data")
    return load_cases(configuration, configuration.calibration_subset if subset == CALIBRATION else subset, RUNS)


def _learn(detector: Detector, configuration: str, most: int, options: argparse.Namespace) -> None:
    """Fit the detector's calibration to calibration cases, and print what these say of each other."""
    if options.folds:
        learnt = [case for part in LEARNT for case in cases_of(configuration, part, options.real)]
        sightings = sightings_of_folds(folds_of(options.folds, detector.package, learnt, RUNS))
    else:
        calibration = cases_of(configuration, CALIBRATION, options.real)[:most]
        disturbed = disturbed_scans(calibration[:MAX_DISTURBED])
        scans = [*own_scans(CALIBRATION, calibration), *disturbed]
        sightings = sightings_of(detector, list(look(detector, scans, options.cache)))
    before = detector.calibration
    detector.calibration = fitted = fit(detector, sightings)
    known = fitted.recognition
    print(f"## {options.model}\n\n{len(known.scores)} calibration scans, refused up to p = {known.false_alarm_rate}")
    if detector.anatomy is None:
        points = point_errors(sightings, detector.shape, fitted)
        print("\n" + left_out_table(points, before, fitted, options.apart), flush=True)


def main() -> None:
    """Look, fit, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="id of a bundled model")
    parser.add_argument("--real", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--cache", type=Path, default=RUNS / "recognition", help="folder for what was found")
    counts = "most calibration and test cases; without test cases, only what calibration cases say of each other"
    parser.add_argument("--cases", type=int, nargs=2, default=(28, 28), help=counts)
    parser.add_argument("--configuration", help="whose data and split serve (default: the model's own)")
    parser.add_argument(
        "--folds", type=Path, metavar="DIR", help="cross-validation: its models look at what the model has learnt"
    )
    parser.add_argument("--apart", nargs="+", default=(), metavar="CASE", help="cases whose figures stand apart, too")
    parser.add_argument("--as-it-is", action="store_true", help="learn nothing: measure what the package says")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    detector = Detector(find_model(options.model))
    most, most_tested = options.cases
    configuration = options.configuration or options.model
    if not options.as_it_is:
        _learn(detector, configuration, most, options)
    test = cases_of(configuration, TEST, options.real)[:most_tested]
    if not test:
        return
    tested = list(look(detector, own_scans(TEST, test), options.cache))
    print("\n" + own_table(detector, tested), flush=True)
    foreign = foreign_scans(detector, options.real, RUNS / "data", options.cache / "packages")
    print("\n" + foreign_text(foreign_rows(detector, list(look(detector, foreign, options.cache)))))


if __name__ == "__main__":
    run_study(main)
