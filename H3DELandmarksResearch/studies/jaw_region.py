"""Whether the region that head-neck-ct finds for models of the jaw (``detect --roi-from head-neck-ct``) holds the jaw.

    python -m H3DELandmarksResearch.studies.jaw_region ../shared/data/head-neck-ct --model head-neck-ct --subset test

For each patient with a contour of the mandible: how much of the contour lies in the box around the points found, and
how much of the scan the box leaves to be searched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.region import region_around
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.head_neck import ORGANS
from H3DELandmarksResearch.studies import run_study
from H3DELandmarksResearch.training.configuration import find_configuration, read_configuration

JAW = ("menton", "gonion", "condylion", "coronoid")


def main() -> None:
    """Print one line a patient and the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="NAME_ct.nii.gz beside NAME_organs.nii.gz")
    parser.add_argument("--model", default="head-neck-ct", help="id or path of the model package")
    parser.add_argument("--subset", default="test", choices=("validation", "calibration", "test"))
    parser.add_argument("--margin", type=float, default=20.0, help="mm around the points")
    parser.add_argument("--all-points", action="store_true", help="box around all points, not those of the jaw alone")
    options = parser.parse_args()
    package = find_model(options.model)
    detector = Detector(package)
    names = tuple(n for n in package.scheme.names if options.all_points or n.split("-")[0] in JAW)
    held, shares, without = [], [], 0
    for name in read_configuration(find_configuration(package.id)).split()[options.subset]:
        organs = read_volume(options.folder / f"{name}_organs.nii.gz")
        mandible = organs.grid.lps_from_ijk(np.argwhere(organs.array == ORGANS["mandible"]))
        if not len(mandible):
            continue
        scan = read_volume(options.folder / f"{name}_ct.nii.gz")
        places = detector.likely_places(scan)
        if places is None:
            without += 1
            print(f"{name}: too few points, the whole scan is searched")
            continue
        region = region_around(places.ordered_as(names), options.margin, fewest=1)
        held.append(region.contains(mandible).mean())
        shares.append(region.crop(scan).array.size / scan.array.size)
        print(f"{name}: {100 * held[-1]:.1f} % of the contour in {100 * shares[-1]:.1f} % of the scan")
    print(
        f"{package.id} {package.version}, {len(held)} {options.subset} patients with a region, {without} without: "
        f"the whole contour lies in it in {sum(h == 1 for h in held)}, 99 % of it in {sum(h >= 0.99 for h in held)}, "
        f"the least share is {100 * min(held):.1f} %; it is {100 * np.median(shares):.0f} % of the scan (median)"
    )


if __name__ == "__main__":
    run_study(main)
