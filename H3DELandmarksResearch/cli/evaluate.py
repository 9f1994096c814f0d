"""``evaluate``: how far predicted point lists are from reference ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib.cli.console import Console, add_command, add_json, add_overwrite, distance
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import THRESHOLDS_MM
from H3DELandmarksLib.core.text import composed

if TYPE_CHECKING:
    from H3DELandmarksLib.core.image_plane import LengthUnit
    from H3DELandmarksLib.core.landmarks import LandmarkSet
    from H3DELandmarksLib.evaluation import Evaluation

FORMAT, FORMAT_VERSION = "h3delandmarks-evaluation", 1


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "evaluate",
        help="compare predictions with a reference",
        description="Compares point lists (.mrk.json, .fcsv) of the same name in two folders. Where the reference "
        "holds several readers' points (readers/READER/NAME.mrk.json), the model is compared with each of them, and "
        "they with each other.",
        example="--predictions results --reference truth --thresholds 1 2",
    )
    parser.add_argument("--predictions", required=True, metavar="DIR", help="folder with predicted point lists")
    parser.add_argument("--reference", required=True, metavar="DIR", help="folder with true point lists")
    usual = " ".join(f"{threshold:g}" for threshold in THRESHOLDS_MM)
    parser.add_argument(
        "--thresholds",
        type=distance,
        nargs="+",
        metavar="MM",
        default=THRESHOLDS_MM,
        help=f"distances that count as detected (default: {usual})",
    )
    parser.add_argument(
        "--same-pictures",
        metavar="FILE",
        help="JSON file with pairs of cases that show the same picture, or 'none'; from them each reader is compared "
        "with himself; by default found among the scans beside the reference, as 'audit' finds them",
    )
    parser.add_argument("--report", metavar="FILE", help="also write a page (.html) with plots, tables and intervals")
    parser.add_argument(
        "--compare-with", metavar="DIR", help="with --report: predictions of another model for the same scans"
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="with --report: what to call the predictions, and those of --compare-with (default: their folders)",
    )
    parser.add_argument(
        "--subjects",
        metavar="FILE",
        help="with --report: CSV file with columns 'case' and 'subject', for intervals over subjects (default: cases)",
    )
    parser.add_argument(
        "--pixels",
        action="store_true",
        help="lengths and distances are pixels of pictures that do not say how large these are (of results, it is "
        "known)",
    )
    add_overwrite(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Compare; returns whether every file could be read and every reference has a prediction."""
    from H3DELandmarksLib.evaluation import evaluate_sets
    from H3DELandmarksLib.io.markups import named_as_expected
    from H3DELandmarksResearch.cases.case_folder import readers_in
    from H3DELandmarksResearch.cases.subjects import read_subjects

    _check_report(options)
    if options.same_pictures not in (None, "none") and not readers_in(Path(options.reference)):
        raise InputError(f"--same-pictures is for several readers, and '{options.reference}' has none: leave it out.")
    options.thresholds = tuple(dict.fromkeys(options.thresholds))
    errors: list[str] = []
    places = [Path(folder) for folder in (options.predictions, options.reference, options.compare_with) if folder]
    lists = [_lists(folder) for folder in places]
    lists = [_called_as(found, lists[1]) for found in lists]
    predictions, references, *others = (_read(*given, console, errors) for given in zip(places, lists))
    for sets in (predictions, *others):
        for name in sets.keys() & references.keys():
            sets[name] = named_as_expected(sets[name], references[name].names, name)
    if not predictions.keys() & references.keys():
        raise InputError(
            f"No point list in '{options.predictions}' has the name of one in '{options.reference}': "
            "name predictions and references alike."
        )
    unit = _unit(options.pixels, lists, predictions.keys() & references.keys())
    evaluation = evaluate_sets(predictions, references, options.thresholds, unit)
    subjects = read_subjects([Path(options.subjects)], evaluation.cases) if options.subjects else None
    for sets, where in zip((predictions, *others), ("", f" in '{options.compare_with}'")):
        for name in sorted(references.keys() - sets.keys()):
            errors.append(f"There is no prediction for the reference '{name}'{where}: detect in that scan, too.")
            console.warn(errors[-1])
    console.say(evaluation.text())
    readers = _readers(Path(options.reference), options.same_pictures, predictions, references, console, errors, unit)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "ok": not errors, "errors": errors, "unit": unit}
    document = {**head, **evaluation.to_dict(), **readers}
    if options.report:
        tolerance = _stated_tolerance(lists[0])
        _write_report(options, document, evaluation, predictions, references, others, subjects, tolerance, console)
    console.document(document)
    return not errors


def _lists(folder: Path) -> dict[str, list[Path]]:
    """The point lists of a folder by the names of their cases; results of a BIDS data set are called as its scans."""
    from H3DELandmarksLib.io.markups import point_list_name
    from H3DELandmarksResearch.cases.case_folder import point_lists_of, source_name

    if not folder.is_dir():
        raise InputError(f"The folder '{folder}' does not exist: check the path.")
    found: dict[str, list[Path]] = {}
    for path in point_lists_of(folder):
        found.setdefault(source_name(path) or point_list_name(path) or path.name, []).append(path)
    if not found:
        raise InputError(f"The folder '{folder}' holds no point list (.mrk.json, .fcsv): choose another folder.")
    return found


def _called_as(lists: Mapping[str, list[Path]], references: Iterable[str]) -> dict[str, list[Path]]:
    """The same lists; a name that another system has stored with accents of its own is that of the reference."""
    known, found = {composed(name): name for name in references}, {}
    for name, paths in lists.items():
        found.setdefault(known.get(composed(name), name), []).extend(paths)
    return found


def _read(
    folder: Path, lists: Mapping[str, Sequence[Path]], console: Console, errors: list[str]
) -> dict[str, LandmarkSet]:
    """The points of each case of a folder; lists that cannot be read are told and added to `errors`."""
    from H3DELandmarksResearch.cases.case_folder import read_result, the_only

    sets = {}
    for name, paths in sorted(lists.items()):
        try:
            sets[name] = read_result(the_only(paths, folder, name))
        except InputError as error:
            errors.append(console.failure(error))
    return sets


def _unit(pixels: bool, lists: Sequence[Mapping[str, Sequence[Path]]], cases: Iterable[str]) -> LengthUnit:
    """The unit of all distances.

    What states none, as points that somebody has placed, is taken for that of the others.

    Raises:
        InputError: it is pixels in some lists and mm in others.
    """
    from H3DELandmarksLib.io.markups import stated_unit

    units: dict[LengthUnit | None, str] = {"px": "--pixels"} if pixels else {}
    names = sorted(cases)
    for path in (path for found in lists for name in names for path in found.get(name, ())):
        units.setdefault(stated_unit(path), f"'{path}'")
    if {"px", "mm"} <= units.keys():
        raise InputError(
            f"Lengths are pixels of unknown size in {units['px']}, and millimeters in {units['mm']}: compare such "
            "cases apart, and detect with and without --spacing alike."
        )
    return "px" if "px" in units else "mm"


def _readers(
    folder: Path,
    same_pictures: str | None,
    predictions: Mapping[str, LandmarkSet],
    references: Mapping[str, LandmarkSet],
    console: Console,
    errors: list[str],
    unit: LengthUnit,
) -> dict[str, Any]:
    """Say what follows from several readers' points; the entries of the document, none where there are no readers."""
    from H3DELandmarksLib.core.text import plain
    from H3DELandmarksLib.evaluation.readers import human_floor
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksResearch.agreement.report import compare_readers, report_text
    from H3DELandmarksResearch.cases.case_folder import readers_of_case

    readings: dict[str, dict[str, LandmarkSet]] = {}
    for name, reference in references.items():
        try:
            said = readers_of_case(folder, name, reference.names)
        except InputError as error:
            errors.append(console.failure(error))
            continue
        if said:
            readings[name] = said
    if not readings:
        return {}
    report = compare_readers(predictions, readings, _same_pictures(folder, same_pictures, list(readings), console))
    both = sorted(predictions.keys() & readings.keys())
    floor = human_floor([predictions[name] for name in both], [readings[name] for name in both])
    console.say(report_text(report, floor, unit))
    return {"readers": plain(to_plain(report, unit)), "human_floor": plain(to_plain(floor, unit))}


def _same_pictures(folder: Path, choice: str | None, names: list[str], console: Console) -> list[tuple[str, str]]:
    """Pairs of cases that show the same picture: as a file says, or found among the scans of a folder."""
    from H3DELandmarksResearch.agreement.same_pictures import find_pairs, read_pairs

    if choice == "none":
        return []
    if choice is not None:
        return [pair for pair in read_pairs(Path(choice)) if set(pair) <= set(names)]
    pairs = find_pairs(folder, names)
    if pairs:
        shown = ", ".join(f"{a} = {b}" for a, b in pairs)
        console.say(f"The same picture under two names, found by content: {shown}.")
    return pairs


def _check_report(options: argparse.Namespace) -> None:
    """Refuse, before the work begins, what a report cannot be made of."""
    from H3DELandmarksLib.core.files import refuse_existing

    if options.report:
        refuse_existing(Path(options.report), overwrite=options.overwrite)
        if len(options.names or ()) not in (0, 1 + bool(options.compare_with)):
            raise InputError("--names needs one name for each folder of predictions: add or leave out names.")
    elif options.compare_with or options.names or options.subjects:
        raise InputError("--compare-with, --names and --subjects belong to --report: say where to write the page.")


def _write_report(
    options: argparse.Namespace,
    document: Mapping[str, Any],
    evaluation: Evaluation,
    predictions: Mapping[str, LandmarkSet],
    references: Mapping[str, LandmarkSet],
    others: Sequence[Mapping[str, LandmarkSet]],
    subjects: Mapping[str, str] | None,
    tolerance: float | None,
    console: Console,
) -> None:
    """Write the page; `others` are the predictions to compare with, where there are any."""
    from H3DELandmarksLib.evaluation import evaluate_sets
    from H3DELandmarksResearch.report.evaluation_figures import Evaluated
    from H3DELandmarksResearch.report.evaluation_sections import evaluation_page
    from H3DELandmarksResearch.report.page import write_page

    names = options.names or [
        Path(folder).resolve().name for folder in (options.predictions, options.compare_with) if folder
    ]
    other = None
    base = Evaluated(
        name=names[0], evaluation=evaluation, predictions=predictions, references=references, tolerance_mm=tolerance
    )
    for sets in others:
        name = names[1] if names[1] != names[0] else f"{names[1]} ({options.compare_with})"
        compared = evaluate_sets(sets, references, options.thresholds, evaluation.unit)
        other = Evaluated(name=name, evaluation=compared, predictions=sets, references=references)
    write_page(evaluation_page("Evaluation of landmarks", base, document, other, subjects), Path(options.report))
    console.say(f"Report: {options.report}")


def _stated_tolerance(lists: Mapping[str, Sequence[Path]]) -> float | None:
    """The distance that confidences mean, where every result means the same in mm.

    Of models that read lengths as shares of a picture's height it is none of the distances that are compared.
    """
    from H3DELandmarksLib.io.markups import origin_beside

    origins = [origin_beside(path) for paths in lists.values() for path in paths]
    models = [origin.model for origin in origins if origin and origin.model]
    stated = {model.confidence_within_mm if model.unit == "mm" else None for model in models}
    return stated.pop() if len(stated) == 1 else None
