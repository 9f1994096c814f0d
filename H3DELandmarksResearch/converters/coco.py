"""Radiographs with COCO-style key points, as HYATT-Net and its relatives read them.

``images[]`` has id, file_name, width, height and, in some sets, pixel_spacing (mm; one number or x and y);
``annotations[]`` has image_id and keypoints x, y, v for each landmark; v = 0 means that it is not in the image. Files
are named after their subset (train.json, val.json, test.json). That whole numbers mean pixel centers is inferred:
readers index pixels with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.reading import FormatError, parse_json
from H3DELandmarksResearch.converters.conversion import (
    Progress,
    SourceCase,
    Summary,
    case_name,
    convert_cases,
    with_validation,
)
from H3DELandmarksResearch.converters.flat_images import (
    PixelSize,
    find_images,
    points_on_image,
    read_radiograph,
    spacing_of,
)
from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS, RadiographSet

KEYS = ("id", "image_id", "file_name", "width", "height")
SPACING_KEYS = ("pixel_spacing", "spacing")
SUBSET_WORDS = (("train", "train"), ("val", "validation"), ("test", "test"))


def convert(source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Summary:
    """Convert a set.

    Args:
        source: folder with JSON files and images, in any subfolders.
        target: folder for the cases; a split file joins them where JSON files are named after subsets.
        options: ``set`` (a name of RADIOGRAPH_SETS or None), ``spacing`` (pixel size in mm as a text, or None),
            ``hold_out`` (n: every n-th training case becomes a validation case where the set has none).
        progress: receives the fraction done and the name of the case at hand.

    Raises:
        InputError: there is no key-point file.
    """
    files = _keypoint_files(source)
    images = find_images(source)
    given = options.get("spacing")
    spacing = None if given is None else spacing_of(given, "The option --spacing")
    known = RADIOGRAPH_SETS.get(options.get("set") or "")
    cases: list[SourceCase] = []
    for path, data in files:
        read = partial(_read, path, images=images, described=known or _described(path, data), given=spacing)
        cases += _cases(path, data, read, {case.name for case in cases})
    split = with_validation(cases, int(options.get("hold_out", 0)))
    summary = convert_cases(split, target, progress, bool(options.get("leave_out_repeats")))
    if [case.subsets for case in split] != [case.subsets for case in cases]:
        summary.notes.append("The set has no validation cases: some of its training cases serve as such (split.json).")
    return summary


def _keypoint_files(source: Path) -> list[tuple[Path, Mapping]]:
    found = []
    for path in sorted(source.rglob("*.json")):
        try:
            data = parse_json(path.read_bytes())
        except (OSError, FormatError) as error:
            raise InputError(f"'{path}' is not readable JSON: copy it again, or move it elsewhere.") from error
        if isinstance(data, dict) and {"images", "annotations"} <= data.keys():
            _check(path, data)
            found.append((path, data))
    if not found:
        raise InputError(f"'{source}' holds no JSON file with images and annotations: choose the folder of the set.")
    return found


def _check(path: Path, data: Mapping) -> None:
    """Refuse entries of other kinds than they must be to be read."""
    for name in ("images", "annotations", "categories"):
        entries = data.get(name) or []
        lists = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
        keys = lists and all(isinstance(entry.get(key), (int, str, type(None))) for entry in entries for key in KEYS)
        points = keys and all(isinstance(entry.get("keypoints", []), list) for entry in entries)
        if not points:
            raise InputError(f"'{path}' has '{name}' that are not of COCO's form: copy it again.")


def _described(path: Path, data: Mapping) -> RadiographSet:
    """What a file says of its own landmarks."""
    categories = data.get("categories") or [{}]
    names = tuple(str(name) for name in categories[0].get("keypoints", ()))
    if not names:
        counts = {len(entry.get("keypoints", ())) // 3 for entry in (data["annotations"] or [])} - {0}
        if len(counts) != 1:
            raise InputError(f"'{path}' does not say how many landmarks it has: name the set with --set.")
        names = tuple(str(k + 1) for k in range(counts.pop()))
    if len(set(names)) != len(names):
        raise InputError(f"'{path}' uses a landmark's name more than once: name the set with --set.")
    return RadiographSet(names)


def _cases(path: Path, data: Mapping, read: Callable, taken: set[str]) -> list[SourceCase]:
    subsets = tuple(subset for word, subset in SUBSET_WORDS if word in path.stem.lower())[:1]
    annotations: dict[Any, list[Mapping]] = {}
    for entry in data["annotations"] or []:
        annotations.setdefault(entry.get("image_id"), []).append(entry)
    cases = []
    for image in data["images"] or []:
        stem = case_name(Path(str(image.get("file_name", ""))).stem)
        name = f"{stem}-{path.stem}" if stem in taken else stem
        taken.add(name)
        cases.append(SourceCase(name, partial(read, image, annotations.get(image.get("id"), [])), subsets))
    return cases


def _read(
    source: Path,
    image: Mapping,
    annotations: Sequence[Mapping],
    images: Mapping[str, Sequence[Path]],
    described: RadiographSet,
    given: PixelSize | None,
) -> tuple[Volume, LandmarkSet]:
    path = _image_path(source, str(image.get("file_name", "")), images)
    if len(annotations) != 1:
        raise InputError(f"'{source}' has {len(annotations)} annotations for '{path.name}', not one: correct it.")
    points = _points(source, path, annotations[0], described.names)
    volume = read_radiograph(path, given or _pixel_size(path, image, points, described))
    width, height = volume.array.shape[:2]
    stated = image.get("width", width), image.get("height", height)
    if stated != (width, height):
        raise InputError(
            f"'{path}' has {width} x {height} pixels, not {stated[0]} x {stated[1]} as '{source.name}' "
            "says: use the images that belong to it."
        )
    return volume, points_on_image(path, volume, described.names, points)


def _pixel_size(path: Path, image: Mapping, points: np.ndarray, described: RadiographSet) -> PixelSize:
    """In mm: as the image's entry says, else as the set defines it; raises InputError where neither does."""
    stated = next((image[key] for key in SPACING_KEYS if image.get(key) is not None), None)
    if stated is not None:
        return spacing_of(stated, f"The entry of '{path}'")
    if described.spacing is not None:
        return described.spacing, described.spacing
    if described.reference is None:
        raise InputError(f"The pixel size of '{path}' is not known: give it in mm with --spacing.")
    first, second, distance = described.reference
    pixels = np.linalg.norm(points[described.names.index(first)] - points[described.names.index(second)])
    if not pixels > 0:
        raise InputError(f"'{path}' lacks the points {first} and {second} that define its scale: use --spacing.")
    return float(distance / pixels), float(distance / pixels)


def _points(source: Path, path: Path, annotation: Mapping, names: tuple[str, ...]) -> np.ndarray:
    """(K, 2) pixel coordinates, NaN where not visible."""
    try:
        values = np.asarray(annotation["keypoints"], dtype=float)
    except (KeyError, TypeError, ValueError, OverflowError):
        values = np.zeros(0)
    if values.size != 3 * len(names):
        raise InputError(
            f"'{source}' has {values.size / 3:g} key points for '{path.name}', not {len(names)}: "
            "choose another --set, or correct it."
        )
    values = values.reshape(-1, 3)
    visible = (values[:, 2] > 0) & np.isfinite(values).all(axis=1)
    return np.where(visible[:, np.newaxis], values[:, :2], np.nan)


def _image_path(source: Path, name: str, images: Mapping[str, Sequence[Path]]) -> Path:
    """The image of an entry: beside the JSON file or in any folder, that of the subset where there are several."""
    found = list(images.get(Path(name).name.lower(), ()))
    if not found:
        raise InputError(f"The image '{name}' of '{source}' is missing: put the images into the same folder.")
    ending = [path for path in found if path.as_posix().lower().endswith("/" + name.lower().lstrip("./"))]
    of_subset = [path for path in found if source.stem.lower() in [part.lower() for part in path.parts]]
    for choice in (ending, of_subset, found):
        if len(choice) == 1:
            return choice[0]
    raise InputError(f"Several images are called '{name}', and '{source}' does not say which it means: keep one.")
