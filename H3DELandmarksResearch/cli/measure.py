"""``measure``: distances, angles and ratios on the points of point lists, with their uncertainty."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_command, add_json, add_overwrite
from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.files import refuse_existing
from H3DELandmarksResearch.cli.export import named_point_lists

if TYPE_CHECKING:
    import numpy as np

    from H3DELandmarksLib.core.landmarks import LandmarkSet
    from H3DELandmarksLib.core.measurements import Measurements
    from H3DELandmarksLib.formats.results import MeasurementResult
    from H3DELandmarksLib.models import ModelPackage


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "measure",
        help="measure distances, angles and ratios on point lists",
        description="Measures what the scheme of the points defines, with the interval that their radii give each "
        "value (90 %), the norm and the class where the scheme has them.",
        example="results --output measurements.csv",
    )
    parser.add_argument("points", metavar="POINTS", nargs="+", help="point list (.mrk.json, .fcsv) or folder of such")
    parser.add_argument(
        "--scheme",
        metavar="SCHEME",
        help="what to measure: the id of a scheme, such as isbi2015-19, or a JSON file with a scheme that defines "
        "measurements (default: what the names of the points, or the model that found them, say)",
    )
    parser.add_argument("--output", metavar="FILE", help="table to write (.csv)")
    parser.add_argument(
        "--pixels",
        action="store_true",
        help="the points are pixels of a picture that does not say how large they are (of results, it is known)",
    )
    parser.add_argument(
        "--picture",
        type=_size,
        metavar="WIDTHxHEIGHT",
        help="size of the picture in the unit of the points, whose origin is its corner: its middle decides about the "
        "third Cobb angle (default: the middle of the spine)",
    )
    add_overwrite(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _size(text: str) -> tuple[float, float]:
    from H3DELandmarksLib.cli.detect import pixel_size

    return pixel_size(text)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Measure; returns whether every point list could be read and measured."""
    from H3DELandmarksLib.evaluation.measures import measure
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksLib.io.markups import named_as_expected, unit_of_points
    from H3DELandmarksLib.io.tables import write_measurements
    from H3DELandmarksResearch.cases.case_folder import read_result

    refuse_existing(options.output, overwrite=options.overwrite)
    definitions = _definitions(options.scheme) if options.scheme else None
    results: dict[str, tuple[MeasurementResult, ...]] = {}
    errors = []
    for name, path in named_point_lists(options.points).items():
        try:
            landmarks = read_result(path)
            package = _model_of(path)
            known = definitions or _definitions_for(path, landmarks, package)
            needed = {name for part in known.measurements for name in known.landmarks_of(part.name)}
            landmarks = named_as_expected(landmarks, needed, str(path))
            flat = True if options.picture else None
            pixels = options.pixels or unit_of_points(path) == "px"
            reaches = package.manifest.calibration.reaches if package else None
            found = measure(landmarks, known, flat=flat, middle=_middle(options), pixels=pixels, reaches=reaches)
            if not found:
                raise InputError(f"The points of '{path}' do not lie in a {known.points_of}: measure other points.")
            results[name] = found
        except InputError as error:
            errors.append(console.failure(error))
    for name, measured in results.items():
        console.say("\n".join([f"{name}:", *lines(measured), ""]))
    if options.output and results:
        write_measurements(options.output, results)
    cases = [{"case": name, "measurements": [to_plain(r) for r in measured]} for name, measured in results.items()]
    console.document({"ok": not errors, "cases": cases, "table": options.output, "errors": errors})
    return not errors


def lines(measured: tuple[MeasurementResult, ...]) -> list[str]:
    """Measurements for people, one a line."""
    from H3DELandmarksLib.core.text import aligned, number

    rows = [("measurement", "value", "90 % interval", "unit", "norm", "z", "")]
    for result in measured:
        decimals = 3 if result.unit == "ratio" else 1
        interval = norm = z = ""
        if result.low90 is not None and result.high90 is not None:
            interval = f"{number(result.low90, decimals)} to {number(result.high90, decimals)}"
        if result.norm and result.z is not None:
            norm, z = f"{result.norm.mean:g} +- {result.norm.sd:g}", number(result.z, 1)
        value = "-" if result.value is None else number(result.value, decimals)
        rows.append((result.name, value, interval, result.unit, norm, z, result.category or result.reason or ""))
    return aligned(rows)


def _middle(options: argparse.Namespace) -> np.ndarray | None:
    import numpy as np

    return np.array([*options.picture, 0.0]) / 2 if options.picture else None


def _definitions(scheme: str) -> Measurements:
    """What a scheme measures, by its id or its file; raises InputError where there is nothing."""
    from H3DELandmarksLib.formats.measurements import bundled_definitions, measurements_of
    from H3DELandmarksResearch.cases.schemes import scheme_of_file

    if not Path(scheme).is_file():
        return bundled_definitions(scheme)
    found = measurements_of(scheme_of_file(Path(scheme)))
    if found is None:
        raise InputError(f"The scheme in '{scheme}' defines no measurements: add some under 'measurements'.")
    return found


def _model_of(path: Path) -> ModelPackage | None:
    """The model that found the points of a list; None where nothing says so, or it is not installed here."""
    from H3DELandmarksLib.cohort.result_files import MODEL
    from H3DELandmarksLib.io.markups import read_stamp
    from H3DELandmarksLib.models import find_model

    model = (read_stamp(path) or {}).get(MODEL)
    try:
        return find_model(model) if model else None
    except H3DELandmarksError:
        return None


def _definitions_for(path: Path, landmarks: LandmarkSet, package: ModelPackage | None) -> Measurements:
    """What is measured on a point list: by the model that found it where it is installed, else by its names."""
    from H3DELandmarksLib.formats.measurements import measurements_of, measurements_of_names

    found = measurements_of(package.scheme) if package else None
    found = found or measurements_of_names(landmarks.names)
    if found is None:
        raise InputError(f"It is not known what to measure on the points of '{path}': say it with --scheme.")
    return found
