"""How many of the known faults of two public sets the audit finds, and in how many other cases it finds something.

The ISBI2015 cephalograms repeat pictures; the AASCE 2019 spines have labels in a wrong order (flags in their file).

    H3DE_DATA=../shared/data python -m H3DELandmarksResearch.studies.audit_known_faults
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.exchanged_points import exchanged_points, small_picture
from H3DELandmarksLib.cases.point_check import CheckedPoints, check_shapes
from H3DELandmarksLib.cases.same_picture import fingerprint, repeated_pictures
from H3DELandmarksLib.cases.same_points import check_same_places
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksResearch.cases.reader_check import check_readers
from H3DELandmarksResearch.converters.flat_images import read_radiograph
from H3DELandmarksResearch.studies import run_study
from H3DELandmarksResearch.studies.measurements import reader_points
from H3DELandmarksResearch.training.configuration import data_root

ROUNDS = 8


def repeated_cephalograms(folder: Path) -> list[tuple[str, str, float]]:
    """Pairs of pictures that show the same, with their likeness."""
    paths = sorted(folder.glob("RawImage/*/*.jpg"), key=lambda path: path.stem)
    prints = [fingerprint(read_radiograph(path, (0.2, 0.2))) for path in paths]
    return [(paths[r.first].stem, paths[r.second].stem, r.likeness) for r in repeated_pictures(prints)]


def faulty_spines(file: Path) -> tuple[set[str], set[str], int]:
    """Cases with flags, cases with a finding, and how many cases there are; lengths are pixels."""
    content = json.loads(file.read_text(encoding="utf-8"))
    scheme = LandmarkScheme("spine", "1.0", tuple(LandmarkDefinition(name, "") for name in content["landmarks"]))
    cases = [
        CheckedPoints(name, np.append(np.array(case["points_px"]), np.zeros((len(scheme), 1)), axis=1), "px")
        for name, case in content["cases"].items()
    ]
    flagged = {name for name, case in content["cases"].items() if case["flags"]}
    findings = check_shapes(cases, scheme) + check_same_places(cases, scheme)
    return flagged, {finding.case for finding in findings}, len(cases)


def points_of_reader(folder: Path, reader: str) -> dict[str, CheckedPoints]:
    """All of a reader's cephalograms, LPS mm of a picture of 0.2 mm pixels."""
    names = sorted(path.stem for path in (folder / "AnnotationsByMD" / f"400_{reader}").glob("*.txt"))
    return {n: CheckedPoints(n, p) for n, p in zip(names, reader_points(folder, reader, names, np.array(0.2)))}


def doubtful_cephalograms(folder: Path) -> dict[str, set[str]]:
    """Cases with a finding, of each reader's points and of both readers compared."""
    scheme = LandmarkScheme("cephalogram", "1.0", tuple(LandmarkDefinition(f"L{k + 1}", "") for k in range(19)))
    readers = {reader: points_of_reader(folder, reader) for reader in ("senior", "junior")}
    told = {}
    for reader, points in readers.items():
        cases = list(points.values())
        told[reader] = {f.case for check in (check_shapes, check_same_places) for f in check(cases, scheme)}
    return told | {"both compared": {finding.case for finding in check_readers(readers, scheme)}}


def exchanged_cephalograms(folder: Path, rounds: int) -> tuple[int, int, int]:
    """Findings among the right training cases; planted exchanges found, five pairs a round; and false findings then."""
    paths, cases = sorted((folder / "RawImage" / "TrainingData").glob("*.jpg")), []
    for path, index in zip(paths, reader_points(folder, "senior", [path.stem for path in paths], np.ones(2))):
        volume = read_radiograph(path, (0.2, 0.2))
        cases.append(small_picture(volume, volume.grid.lps_from_ijk(index)))
    right, found, false = len(exchanged_points(cases)), 0, 0
    for seed in range(rounds):
        wrong, planted = list(cases), set()
        for a, b in np.sort(np.random.default_rng(seed).choice(len(cases), (5, 2), replace=False), axis=1):
            wrong[a] = replace(cases[a], points=cases[b].points)
            wrong[b] = replace(cases[b], points=cases[a].points)
            planted.add((int(a), int(b)))
        told = {(a, b) for a, b, _ in exchanged_points(wrong)}
        found, false = found + len(told & planted), false + len(told - planted)
    return right, found, false


def main() -> None:
    """Print both."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    data = data_root()
    flagged, told, count = faulty_spines(data / "aasce2019-spine" / "landmarks.json")
    print(f"Spines: {len(told & flagged)} of {len(flagged)} flagged cases found; missed {sorted(flagged - told)}")
    print(f"Spines: findings in {len(told - flagged)} of {count - len(flagged)} others: {sorted(told - flagged)}")
    for what, doubtful in doubtful_cephalograms(data / "isbi2015-cephalogram").items():
        print(f"Points of cephalograms, {what}: findings in {len(doubtful)} cases: {sorted(doubtful)}")
    right, found, false = exchanged_cephalograms(data / "isbi2015-cephalogram", ROUNDS)
    print(f"Exchanged cases: {right} findings without; {found} of {5 * ROUNDS} planted found, {false} false findings")
    pairs = repeated_cephalograms(data / "isbi2015-cephalogram")
    print(f"Cephalograms: {len(pairs)} pairs of one picture")
    for first, second, value in pairs:
        print(f"  {first} {second} {value:.3f}")


if __name__ == "__main__":
    run_study(main)
