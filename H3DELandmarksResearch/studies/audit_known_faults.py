"""How many of the known faults of two public sets the audit finds, and in how many other cases it finds something.

The ISBI2015 cephalograms repeat pictures; the AASCE 2019 spines have labels in a wrong order (flags in their file).

    H3DE_DATA=../shared/data python -m H3DELandmarksResearch.studies.audit_known_faults
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.quality import CheckedPoints, check_shapes
from H3DELandmarksLib.cases.same_picture import fingerprint, repeated_pictures
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksResearch.converters.flat_images import read_radiograph
from H3DELandmarksResearch.studies import run_study


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
        CheckedPoints(name, np.append(np.array(case["points_px"]), np.zeros((len(scheme), 1)), axis=1))
        for name, case in content["cases"].items()
    ]
    flagged = {name for name, case in content["cases"].items() if case["flags"]}
    return flagged, {finding.case for finding in check_shapes(cases, scheme)}, len(cases)


def main() -> None:
    """Print both."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not os.environ.get("H3DE_DATA"):
        raise InputError("Set the environment variable H3DE_DATA to the folder of the data sets.")
    data = Path(os.environ["H3DE_DATA"])
    flagged, told, count = faulty_spines(data / "aasce2019-spine" / "landmarks.json")
    print(f"Spines: {len(told & flagged)} of {len(flagged)} flagged cases found; missed {sorted(flagged - told)}")
    print(f"Spines: findings in {len(told - flagged)} of {count - len(flagged)} others: {sorted(told - flagged)}")
    pairs = repeated_cephalograms(data / "isbi2015-cephalogram")
    print(f"Cephalograms: {len(pairs)} pairs of one picture")
    for first, second, value in pairs:
        print(f"  {first} {second} {value:.3f}")


if __name__ == "__main__":
    run_study(main)
