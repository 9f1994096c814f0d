"""Whether measurements are what they should be: Cobb angles of a challenge, classes of two readers, and intervals.

    python -m H3DELandmarksResearch.studies.measurements cobb ../shared/data/aasce2019-spine
    python -m H3DELandmarksResearch.studies.measurements readers ../shared/data/isbi2015-cephalogram [--found FOLDER]
    python -m H3DELandmarksResearch.studies.measurements coverage ../shared/data

``cobb`` computes the angles of the set's own points beside those that the set states. ``readers`` puts the values and
classes of the second reader beside those of the first, and counts how often the interval around the first reader's
value holds that of the second; the radii are the 90 % of distances between both in the training pictures. ``coverage``
adds normal errors to the mean shapes of the bundled models, with their radii, and to the points of both sets, with
radii of 2.5 mm and 4 pixels, and counts how often the intervals hold the right value.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.measurements import Measurements
from H3DELandmarksLib.core.text import markdown_table, number
from H3DELandmarksLib.evaluation.measure_geometry import Geometry
from H3DELandmarksLib.evaluation.measures import RADIUS_PER_SD, measure
from H3DELandmarksLib.formats.measurements import bundled_definitions
from H3DELandmarksLib.io.markups import EXTENSION, read_markups
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS
from H3DELandmarksResearch.studies import run_study

COBB = ("Cobb angle", "second Cobb angle", "third Cobb angle")
ISBI = ("ANB", "SNB", "SNA", "ODI", "APDI", "FHI", "FHA", "MW")
PIXEL_MM = np.array([0.1999, 0.2])
MODELS = ("head-neck-ct", "mandibular-molar-phantom", "mouse-skull")
PICTURES, RADIUS_MM, RADIUS_PIXELS = 30, 2.5, 4.0  # of the sets for coverage
LIMIT_DEGREES, REPEATS, SEED = 0.1, 300, 11


def cobb(folder: Path) -> str:
    """A table of how far the angles of a set's points lie from those that it states."""
    content = json.loads(_existing(folder / "landmarks.json").read_text(encoding="utf-8"))
    names, definitions = content["landmarks"], bundled_definitions("spine-68")
    cases = [case for case in content["cases"].values() if not case["flags"]]
    off = []
    for case in cases:
        points = np.pad(np.array(case["points_px"]), ((0, 0), (0, 1)))[None]
        geometry = Geometry(definitions, names, points, np.array([*case["size_px"], 0]) / 2)
        values = [geometry.value(name)[0] for name in COBB]
        off.append(np.abs(np.array(values) - case["cobb_deg_PT_MT_TL"]))
    rows = [("angle", "pictures", "within 0.1 degrees", "median", "largest difference")]
    for name, differences in zip(COBB, np.transpose(off)):
        right = f"{np.sum(differences < LIMIT_DEGREES)}"
        rows.append((name, str(len(cases)), right, number(np.median(differences), 3), number(differences.max(), 3)))
    return markdown_table(rows)


def readers(folder: Path, found: Path | None = None, against: str = "senior") -> str:
    """A table of the second reader's values and classes beside the first one's, on pictures that do not repeat.

    Args:
        folder: the set.
        found: point lists of a model, named as the pictures; it takes the second reader's place, and its own intervals
            count.
        against: "senior", or "mean" of both readers.
    """
    splits = json.loads(_existing(folder / "splits.json").read_text(encoding="utf-8"))
    senior, junior = (reader_points(folder, reader, splits["train"]) for reader in ("senior", "junior"))
    radius = np.quantile(np.linalg.norm(senior - junior, axis=2), 0.9, axis=0)
    definitions, names = bundled_definitions("isbi2015-19"), RADIOGRAPH_SETS["isbi2015"].names
    pictures = [p for p in splits["test1_clean"] if found is None or (found / f"{p}{EXTENSION}").is_file()]
    both = {reader: reader_points(folder, reader, pictures) for reader in ("senior", "junior")}
    both["mean"] = (both["senior"] + both["junior"]) / 2
    as_sets = {name: [LandmarkSet(names, points, radius=radius) for points in both[name]] for name in both}
    pair = as_sets["senior"], as_sets["junior"]
    if found is not None:
        pair = [read_markups(found / f"{p}{EXTENSION}").ordered_as(names) for p in pictures], as_sets[against]
    values = [[{r.name: r for r in measure(points, definitions)} for points in sets] for sets in pair]
    header = ("measurement", "mean difference", "SD of differences", "same class, %", "mean of the classes, %")
    rows = [(*header, "held, %")]
    for part in definitions.measurements:
        first, second = ([of_picture[part.name] for of_picture in some] for some in values)
        differences = np.array([b.value - a.value for a, b in zip(first, second)])
        held = np.mean([a.low90 <= b.value <= a.high90 for a, b in zip(first, second)])
        judged = zip(first, second) if found is None else zip(second, first)
        classes = [(a.category, b.category) for a, b in judged] if part.classes else []
        digits = 3 if first[0].unit == "ratio" else 2
        shares = [number(100 * share, 1) for share in _agreement(classes)] if classes else ["", ""]
        row = (number(differences.mean(), digits), number(differences.std(ddof=1), digits))
        rows.append((f"{part.name} ({first[0].unit})", *row, *shares, number(100 * held, 1)))
    named = {row[0].partition(" (")[0]: row for row in rows[1:]}
    means = [np.mean([float(named[name][column]) for name in ISBI]) for column in (3, 4)]
    rows.append(("mean of the challenge's eight", "", "", *(number(mean, 1) for mean in means), ""))
    return markdown_table(rows)


def _agreement(classes: list[tuple[str | None, str | None]]) -> tuple[float, float]:
    """Share of pictures of the same class, and the mean of that share over the first reader's classes."""
    same = np.array([a == b for a, b in classes])
    of_first = np.array([str(a) for a, _ in classes])
    return float(same.mean()), float(np.mean([same[of_first == name].mean() for name in set(of_first)]))


def reader_points(folder: Path, reader: str, pictures: Sequence[str], pixel_mm: np.ndarray = PIXEL_MM) -> np.ndarray:
    """(N, 19, 3) mm that a reader of the ISBI 2015 set, "senior" or "junior", marked in pictures such as "001".

    Raises:
        InputError: the folder does not hold the points of one.
    """
    files = [_existing(folder / "AnnotationsByMD" / f"400_{reader}" / f"{picture}.txt") for picture in pictures]
    points = np.array([np.loadtxt(file, delimiter=",", max_rows=19) for file in files]) * pixel_mm
    return np.pad(points, ((0, 0), (0, 0), (0, 1)))


def coverage(folder: Path, repeats: int = REPEATS) -> str:
    """A table of how often intervals hold the right value."""
    rows = [("points", "measurements", "mean, %", "least, %", "most, %", "outside 85 to 95 %")]
    for name, scheme, truths, middles in (*_shapes(), _cephalograms(folder), _spines(folder)):
        shares = held(truths, bundled_definitions(scheme), repeats, middles)
        bad = [measured for measured, share in shares.items() if not 0.85 <= share <= 0.95]
        percents = [number(100 * f(list(shares.values())), 1) for f in (np.mean, min, max)]
        rows.append((name, str(len(shares)), *percents, ", ".join(bad) or "none"))
    return markdown_table(rows)


Truths = tuple[str, str, list[LandmarkSet], list[np.ndarray | None]]


def _shapes() -> Iterator[Truths]:
    """The mean shapes of bundled models, with their radii."""
    for model in MODELS:
        package = find_model(model)
        radius = np.array(package.manifest.calibration.radius90_mm)
        shape = LandmarkSet(package.scheme.names, package.load_shape().mean, radius=radius)
        yield f"mean shape of {model}", package.scheme.id, [shape], [None]


def _cephalograms(folder: Path) -> Truths:
    names = RADIOGRAPH_SETS["isbi2015"].names
    pictures = [f"{k:03d}" for k in range(1, PICTURES + 1)]
    points = reader_points(folder / "isbi2015-cephalogram", "senior", pictures)
    radius = np.full(len(names), RADIUS_MM)
    return "cephalograms", "isbi2015-19", [LandmarkSet(names, p, radius=radius) for p in points], [None] * PICTURES


def _spines(folder: Path) -> Truths:
    file = _existing(folder / "aasce2019-spine" / "landmarks.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    cases = [case for case in content["cases"].values() if not case["flags"]][:PICTURES]
    radius = np.full(len(content["landmarks"]), RADIUS_PIXELS)
    points = [np.pad(np.array(case["points_px"]), ((0, 0), (0, 1))) for case in cases]
    truths = [LandmarkSet(content["landmarks"], p, radius=radius) for p in points]
    return "spines", "spine-68", truths, [np.array([*case["size_px"], 0]) / 2 for case in cases]


def held(
    truths: list[LandmarkSet], definitions: Measurements, repeats: int, middles: list[np.ndarray | None]
) -> dict[str, float]:
    """Share of noisy points whose interval holds the value of the right ones, by measurement.

    Args:
        truths: right positions, and the radii that hold 90 % of the errors to add; those of a picture in the plane of
            the first two axes.
        definitions: of measurements.
        repeats: how often errors are drawn, for one truth after the other.
        middles: (3,) of the pictures.
    """
    rng, flat = np.random.default_rng(SEED), definitions.points_of == "picture"
    deviation = 1 / RADIUS_PER_SD[2 if flat else 3]
    exact = [measure(truth, definitions, flat=flat, middle=middle) for truth, middle in zip(truths, middles)]
    count = np.zeros(len(definitions.measurements))
    for k in range(repeats):
        truth, middle = truths[k % len(truths)], middles[k % len(truths)]
        noise = rng.normal(size=(len(truth), 3)) * truth.radius[:, None] * deviation * ((1, 1, 0) if flat else 1)
        found = measure(truth.with_positions(truth.positions + noise), definitions, flat=flat, middle=middle)
        count += [f.low90 <= e.value <= f.high90 for f, e in zip(found, exact[k % len(truths)])]
    return {part.name: float(share) for part, share in zip(definitions.measurements, count / repeats)}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"'{path}' is missing: give the folder of the set, as its README describes it.")
    return path


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cobb", "readers", "coverage"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="of the set; of all, for coverage")
    parser.add_argument("--found", type=Path, help="for readers: a model's point lists in place of the second reader")
    parser.add_argument("--against", choices=("senior", "mean"), default="senior", help="with --found")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="for coverage (default: %(default)s)")
    options = parser.parse_args()
    if options.what == "coverage":
        print(coverage(options.folder, options.repeats))
    elif options.what == "readers":
        print(readers(options.folder, options.found, options.against))
    else:
        print(cobb(options.folder))


if __name__ == "__main__":
    run_study(main)
