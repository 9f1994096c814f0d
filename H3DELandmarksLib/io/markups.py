"""Point lists (.mrk.json, .fcsv) and regions of interest (.mrk.json), as Slicer itself saves and loads them.

Files may be in LPS or RAS; in the library everything is LPS mm. Every point list that a user gives is read here. Beside
name, position and definition, a point list keeps presence, confidence and the 90 % radius of each landmark as Slicer's
"static measurements". JSON has no word for "not a number", and Slicer drops a whole measurement that holds `null`: -1
stands for values that nobody has stated.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write, shown
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.landmarks import LandmarkSet, agreeing_presence
from H3DELandmarksLib.core.region import Region
from H3DELandmarksLib.core.text import same_names
from H3DELandmarksLib.formats.provenance import EXTENSION as PROVENANCE
from H3DELandmarksLib.formats.provenance import Provenance, read_provenance
from H3DELandmarksLib.formats.reading import LARGEST_BYTES, FormatError, parse_json
from H3DELandmarksLib.io import fcsv

log = logging.getLogger(__name__)

EXTENSION = ".mrk.json"
POINT_EXTENSIONS = (EXTENSION, fcsv.EXTENSION)
NOT_STATED = -1.0
STAMP, DIGEST = "H3DELandmarks", "sha256"  # entries that this software adds to its own results
SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
RADIUS = "radius90"
MEASUREMENT_UNITS = {"presence": "", "confidence": "", RADIUS: "mm"}
MEASUREMENT_LIMIT = {"presence": 1.0, "confidence": 1.0, RADIUS: math.inf}

MAX_COORDINATE_MM = 1e6
_FLIP_RAS = np.array([-1.0, -1.0, 1.0])
# What building arrays from entries of other kinds or sizes raises.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


def write_markups(
    path: str | Path,
    landmarks: LandmarkSet,
    stamp: Mapping[str, str] | None = None,
    is_ras: bool = False,
    durable: bool = True,
    unit: LengthUnit = "mm",
) -> None:
    """Write a landmark set as one point list; a file of that name is replaced only when the new one is complete.

    Present landmarks are defined control points, absent ones missing, unknown ones undefined. Positions and values are
    written so that reading gives back the same bits.

    Args:
        path: where to write; the name should end with .mrk.json for Slicer to know it.
        landmarks: positions in LPS mm.
        stamp: what `read_stamp` shall find as long as nobody changes the file; Slicer takes no notice of it.
        is_ras: whether the file is written in RAS, and not in LPS.
        durable: whether the file must survive a loss of power; costs some milliseconds.
        unit: of the radii, as Slicer shows them. Positions have Slicer's own unit, in whose frame a pixel of unknown
            size is 1 mm.

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    count = len(landmarks)
    if is_ras:
        landmarks = landmarks.with_positions(landmarks.positions * _FLIP_RAS)
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "RAS" if is_ras else "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": count,
        "controlPoints": [_control_point(landmarks, k) for k in range(count)],
        "measurements": _measurements(landmarks, unit),
    }
    _write_markup(Path(path), markup, stamp, durable)


def read_stamp(path: str | Path) -> dict[str, str] | None:
    """What `write_markups` was given as stamp; None where there is none, or the file was changed since."""
    try:
        data = parse_json(_content(Path(path)))
        stamp = data.pop(STAMP)
        is_as_written = stamp.pop(DIGEST) == _digest({**data, STAMP: stamp})
    except (InputError, FormatError, RecursionError, *_MALFORMED):
        return None
    return stamp if is_as_written and all(isinstance(value, str) for value in stamp.values()) else None


def write_region(path: str | Path, region: Region) -> None:
    """Write a box as Slicer saves one; a file of that name is replaced only when the new one is complete.

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    size = np.linalg.norm(region.affine[:3, :3], axis=0)
    markup = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "roiType": "Box",
        "center": region.affine[:3, 3].tolist(),
        "orientation": (region.affine[:3, :3] / size).ravel().tolist(),
        "size": size.tolist(),
        "insideOut": False,
    }
    _write_markup(Path(path), markup)


def read_markups(path: str | Path, names: Collection[str] = ()) -> LandmarkSet:
    """Read a point list written by Slicer (.mrk.json of any schema version, .fcsv of Slicer 3 to 5) or `write_markups`.

    The status of a control point decides whether its landmark is present; the stored presence only refines it, because
    Slicer does not update measurements when a point is placed or deleted. Points that are called "preview" and have a
    position count, with a warning: programs other than Slicer write finished points so.

    Args:
        path: .fcsv file, or else .mrk.json.
        names: of the landmarks that are expected; labels that differ from one of them in case or blanks alone are
            taken for it, with a warning.

    Returns:
        Landmark set in LPS mm; definitions are the descriptions of the control points.

    Raises:
        InputError: the file is missing, damaged, holds no or several point lists, or uses a label twice.
    """
    path = Path(path)
    is_fcsv = path.suffix.lower() == fcsv.EXTENSION
    markup = _fcsv_markup(path) if is_fcsv else _only_markup(path, "Fiducial", "point list")
    return named_as_expected(_landmarks(path, markup), names, shown(path))


def named_as_expected(landmarks: LandmarkSet, names: Collection[str], where: str) -> LandmarkSet:
    """The same set; labels that differ from one of `names` in case or blanks alone become it, with a warning.

    Args:
        landmarks: as read.
        names: of the landmarks that are expected.
        where: the labels stand, for the warning.
    """
    meant = same_names(landmarks.names, names)
    if not meant:
        return landmarks
    changes = ", ".join(f"'{label}' as '{name}'" for label, name in meant.items())
    log.warning(
        "'%s': labels that differ in case, blanks or accents' form were taken for landmarks: %s.", where, changes
    )
    return replace(landmarks, names=tuple(meant.get(name, name) for name in landmarks.names))


def point_lists_in(folder: str | Path) -> dict[str, list[Path]]:
    """The point lists of a folder by name without extension; several where a name has a list of each form."""
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        name = point_list_name(path)
        if name is not None and not path.name.startswith(".") and path.is_file():
            found.setdefault(name, []).append(path)
    return found


def point_list_name(path: Path) -> str | None:
    """The name of a point list without its extension; None where it has another one."""
    lower = path.name.lower()
    return next((path.name[: -len(e)] for e in POINT_EXTENSIONS if lower.endswith(e) and len(lower) > len(e)), None)


def origin_beside(path: Path) -> Provenance | None:
    """Where the points of a result come from, as the file beside it says; None where there is none that can be read."""
    beside = path.with_name(path.name.removesuffix(EXTENSION) + PROVENANCE)
    try:
        return read_provenance(beside) if path.name.endswith(EXTENSION) and beside.is_file() else None
    except InputError:
        return None


def unit_of_points(path: Path) -> LengthUnit:
    """The unit of the points of a file: pixels where they were found in a picture that did not state their size."""
    return stated_unit(path) or "mm"


def stated_unit(path: Path) -> LengthUnit | None:
    """The unit of the points of a file, as the file beside it says, or as their radii have it; None where neither does.

    Radii in mm say nothing: every program writes them so.
    """
    if (origin := origin_beside(path)) is not None and origin.scan is not None:
        return origin.unit
    if path.suffix.lower() == fcsv.EXTENSION:
        return None
    try:
        measurements = _only_markup(path, "Fiducial", "point list").get("measurements") or []
        radii = [measurement for measurement in measurements if measurement.get("name") == RADIUS]
    except (InputError, *_MALFORMED):
        return None
    return "px" if any(measurement.get("units") == "px" for measurement in radii) else None


def read_region(path: str | Path) -> Region:
    """Read a box that Slicer or `write_region` has saved, in LPS or RAS.

    Raises:
        InputError: the file is missing, damaged, or holds no box or several ones.
    """
    path = Path(path)
    if path.suffix.lower() == fcsv.EXTENSION:
        raise InputError(f"'{shown(path)}' holds points only: save the region of interest as .mrk.json.")
    markup = _only_markup(path, "ROI", "region of interest")
    is_ras = _is_ras(path, markup)
    if markup.get("insideOut") is True:
        raise InputError(f"'{shown(path)}' means all that is outside its box: switch 'Inside out' off in Slicer.")
    affine = np.eye(4)
    try:
        axes = np.array(_numbers(markup["orientation"], 9)).reshape(3, 3)
        with np.errstate(over="ignore", invalid="ignore"):
            affine[:3, :3] = axes * np.array(_numbers(markup["size"], 3))
        affine[:3, 3] = _numbers(markup["center"], 3)
        if not (np.abs(affine) <= MAX_COORDINATE_MM).all():
            raise ValueError("a number is out of range")
    except _MALFORMED as error:
        raise InputError(f"'{shown(path)}' is not a complete region of interest: save it again in Slicer.") from error
    if is_ras:
        affine[:3] *= _FLIP_RAS[:, None]
    return Region(affine)


def _landmarks(path: Path, markup: dict) -> LandmarkSet:
    """What the control points of a markup say; LPS mm."""
    is_ras = _is_ras(path, markup)
    try:
        points = markup["controlPoints"]
        names = tuple(_text(point["label"]) for point in points)
        status = [_status(point) for point in points]
        positions = np.array([_position(*pair) for pair in zip(points, status)]).reshape(-1, 3)
        definitions = tuple(_text(point.get("description", "")) for point in points)
        previews = sum(p.get("positionStatus") == "preview" and s == "defined" for p, s in zip(points, status))
        values = _values_by_name(path, markup, len(points))
    except _MALFORMED as error:
        raise InputError(f"'{shown(path)}' is not a complete Slicer point list: save it again in Slicer.") from error
    _check_points(path, names, positions, status)
    if previews:
        log.warning(
            "'%s': points that are called 'preview' and have a position count as placed: %d.", shown(path), previews
        )
    nobody_says = np.full(len(names), np.nan)
    return LandmarkSet(
        names,
        positions * (_FLIP_RAS if is_ras else 1.0),
        presence=_presence(status, values.get("presence")),
        confidence=values.get("confidence", nobody_says),
        radius=values.get(RADIUS, nobody_says),
        definitions=definitions,
    )


def _fcsv_markup(path: Path) -> dict:
    content = _content(path)
    try:
        markup = fcsv.parse_fcsv(content.decode("utf-8-sig"))
    except (ValueError, LookupError, csv.Error) as error:
        raise InputError(f"'{shown(path)}' is not a complete point list (.fcsv): save it again in Slicer.") from error
    if not markup["controlPoints"]:
        raise InputError(f"'{shown(path)}' holds no points (.fcsv): save it again in Slicer.")
    return markup


def _write_markup(path: Path, markup: dict, stamp: Mapping[str, str] | None = None, durable: bool = True) -> None:
    content: dict = {"@schema": SCHEMA, "markups": [markup]}
    if stamp is not None:
        content[STAMP] = dict(stamp)
        content[STAMP][DIGEST] = _digest(content)
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_text(_as_text(content), encoding="utf-8")


def _as_text(content: dict) -> str:
    return json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False) + "\n"


def _digest(content: dict) -> str:
    return hashlib.sha256(_as_text(content).encode()).hexdigest()


def _control_point(landmarks: LandmarkSet, k: int) -> dict:
    """Control point k as Slicer saves it; without a position where the landmark is not present."""
    status = "undefined" if landmarks.unknown[k] else "defined" if landmarks.present[k] else "missing"
    return {
        "id": str(k + 1),
        "label": landmarks.names[k],
        "description": landmarks.definitions[k],
        "associatedNodeID": "",
        "position": landmarks.positions[k].tolist() if status == "defined" else "",
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": status,
    }


def _measurements(landmarks: LandmarkSet, unit: LengthUnit) -> list[dict]:
    """Values per control point as Slicer saves static measurements; one that states nothing is left out.

    Radii in pixels stay, even where none is known: nothing else in the file tells pixels from mm.
    """
    result = []
    for (name, units), values in zip(
        MEASUREMENT_UNITS.items(), (landmarks.presence, landmarks.confidence, landmarks.radius)
    ):
        if np.isfinite(values).any() or (name == RADIUS and unit == "px"):
            stated = np.where(np.isfinite(values), values, NOT_STATED).tolist()
            measurement = {"name": name, "enabled": True, **({"units": unit} if units else {})}
            result.append({**measurement, "printFormat": "%5.3f %s", "controlPointValues": stated})
    return result


def _content(path: Path) -> bytes:
    """The bytes of a text file of reasonable size."""
    try:
        if not path.exists():
            raise InputError(f"'{shown(path)}' does not exist: check the path.")
        if not path.is_file():
            raise InputError(f"'{shown(path)}' is no file: choose a point list or region that Slicer saved.")
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"'{shown(path)}' is too large for a point list: check the path.")
        content = path.read_bytes()
        content.decode()
        return content
    except UnicodeDecodeError as error:
        raise InputError(f"'{shown(path)}' is no text in UTF-8: save it again in Slicer.") from error
    except (OSError, ValueError) as error:
        reason = "cannot be opened: check that it is a file that you may read"
        raise InputError(f"'{shown(path)}' {reason}.") from error


def _only_markup(path: Path, kind: str, called: str) -> dict:
    """The markup of the type `kind`, that people call `called`, in a file; others beside it are passed over."""
    try:
        data = parse_json(_content(path), allow_nan=True)
    except FormatError as error:
        raise InputError(
            f"'{shown(path)}' is damaged or not a {called} (.mrk.json): save it again in Slicer."
        ) from error
    markups = data.get("markups") if isinstance(data, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise InputError(f"'{shown(path)}' is not a Slicer {called}: choose a file that Slicer saved as .mrk.json.")
    types = [str(markup.get("type"))[:40] for markup in markups]
    if types.count(kind) > 1:
        found = ", ".join(f"'{markup.get('name') or number}'" for number, markup in enumerate(markups, 1))[:200]
        raise InputError(
            f"'{shown(path)}' holds {len(markups)} markups ({found}): save the {called} to use in a file of its own."
        )
    if kind not in types:
        listed = " and ".join(f"'{name}'" for name in sorted(set(types))) or "no markup"
        raise InputError(f"'{shown(path)}' holds a markup of type {listed}, not a {called}: choose a {called}.")
    if len(types) > 1:
        others = ", ".join(name for name in types if name != kind)
        log.warning("'%s': the %s is used; what is beside it is passed over (%s).", shown(path), called, others)
    return markups[types.index(kind)]


def _is_ras(path: Path, markup: dict) -> bool:
    """Whether positions are RAS; old files name the system by a number."""
    system = str(markup.get("coordinateSystem", "LPS"))[:40].upper()
    if system not in ("LPS", "1", "RAS", "0"):
        raise InputError(f"'{shown(path)}' uses the unknown coordinate system '{system}': save it again in Slicer.")
    units = markup.get("coordinateUnits", "mm")
    units = str(units[0] if isinstance(units, list) and units else units)[:40]  # a list is a code, its scheme and name
    if units not in ("mm", "millimeter"):
        raise InputError(f"'{shown(path)}' gives positions in '{units}': save it in millimeters.")
    return system in ("RAS", "0")


def _status(point: dict) -> str:
    """'defined', 'missing' or 'undefined'; what is called a preview is defined where it has a position."""
    status = point.get("positionStatus", "defined")
    if status not in ("defined", "missing", "undefined", "preview"):
        raise ValueError("an unknown position status")
    if status == "preview":
        return "defined" if point.get("position") else "undefined"
    return status


def _position(point: dict, status: str) -> list[float]:
    return _numbers(point["position"], 3) if status == "defined" else [math.nan] * 3


def _numbers(values: Sequence, count: int) -> list[float]:
    """So many numbers; no texts and no truth values."""
    if not isinstance(values, list) or len(values) != count or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"no {count} numbers")
    return [float(value) for value in values]


def _text(value: object) -> str:
    """A text that can be written again; old files have numbers for labels."""
    if type(value) not in (str, int):
        raise ValueError("no text")
    text = str(value)
    text.encode()
    return text


def _values_by_name(path: Path, markup: dict, count: int) -> dict[str, np.ndarray]:
    """The known measurements with one value per control point, NaN where none is stated."""
    values = {}
    for measurement in markup.get("measurements") or []:
        name, stored = measurement.get("name"), measurement.get("controlPointValues")
        if name not in MEASUREMENT_UNITS or not stored:
            continue
        if len(stored) != count:
            log.warning("'%s': the measurement '%s' does not fit the points any more and is ignored.", path, name)
            continue
        array = np.array(_numbers([math.nan if value is None else value for value in stored], count))
        stated = np.isfinite(array) & (array >= 0) & (array <= MEASUREMENT_LIMIT[name])
        values[name] = np.where(stated, array, np.nan)
    return values


def _check_points(path: Path, names: Sequence[str], positions: np.ndarray, status: Sequence[str]) -> None:
    if not all(name.strip() for name in names):
        raise InputError(f"'{shown(path)}' has a control point without a label: name every landmark.")
    repeated, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InputError(
            f"'{shown(path)}' uses the label '{repeated}' more than once: give each landmark its own name."
        )
    for name, position, state in zip(names, positions, status):
        if state == "defined" and not np.isfinite(position).all():
            raise InputError(f"'{shown(path)}' has no finite position for '{name}': place that point again.")


def _presence(status: list[str], stored: np.ndarray | None) -> np.ndarray:
    """(K,) presence: the stored probability where it agrees with the status of the point, else what the status says."""
    by_status = np.array([{"defined": 1.0, "missing": 0.0}.get(state, math.nan) for state in status])
    return by_status if stored is None else agreeing_presence(by_status, stored)
