"""Point lists and regions of interest in Slicer's form (.mrk.json), as Slicer itself saves and loads them.

Files may be in LPS or RAS; in the library everything is LPS mm. Beside name, position and definition, a point list
keeps presence, confidence and the 90 % radius of each landmark as Slicer's "static measurements". JSON has no word for
"not a number", and Slicer drops a whole measurement that holds `null`: -1 stands for values that nobody has stated.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkSet, agreeing_presence
from H3DELandmarksLib.core.region import Region
from H3DELandmarksLib.formats.reading import FormatError, parse_json

log = logging.getLogger(__name__)

EXTENSION = ".mrk.json"
NOT_STATED = -1.0
SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
MEASUREMENT_UNITS = {"presence": "", "confidence": "", "radius90": "mm"}
MEASUREMENT_LIMIT = {"presence": 1.0, "confidence": 1.0, "radius90": math.inf}

MAX_COORDINATE_MM = 1e6
_FLIP_RAS = np.array([-1.0, -1.0, 1.0])
# What building arrays from entries of other kinds or sizes raises.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


def write_markups(path: str | Path, landmarks: LandmarkSet, durable: bool = True) -> None:
    """Write a landmark set as one point list; a file of that name is replaced only when the new one is complete.

    Present landmarks are defined control points, absent ones missing, unknown ones undefined. Positions and values are
    written so that reading gives back the same bits.

    Args:
        path: where to write; the name should end with .mrk.json for Slicer to know it.
        landmarks: positions in LPS mm.
        durable: whether the file must survive a loss of power; costs some milliseconds.

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    count = len(landmarks)
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": count,
        "controlPoints": [_control_point(landmarks, k) for k in range(count)],
        "measurements": _measurements(landmarks),
    }
    _write_markup(Path(path), markup, durable)


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


def read_markups(path: str | Path) -> LandmarkSet:
    """Read a point list written by `write_markups` or by Slicer, of any schema version, in LPS or RAS.

    The status of a control point decides whether its landmark is present; the stored presence only refines it, because
    Slicer does not update measurements when a point is placed or deleted.

    Args:
        path: .mrk.json file.

    Returns:
        Landmark set in LPS mm; definitions are the descriptions of the control points.

    Raises:
        InputError: the file is missing, damaged, holds no or several point lists, or uses a label twice.
    """
    path = Path(path)
    markup = _only_markup(path, "Fiducial", "point list")
    is_ras = _is_ras(path, markup)
    try:
        points = markup["controlPoints"]
        names = tuple(str(point["label"]) for point in points)
        status = [_status(point) for point in points]
        positions = np.array([_position(*pair) for pair in zip(points, status)]).reshape(-1, 3)
        definitions = tuple(str(point.get("description", "")) for point in points)
        values = _values_by_name(path, markup, len(points))
    except _MALFORMED as error:
        raise InputError(f"'{path}' is not a complete Slicer point list: save it again in Slicer.") from error
    _check_points(path, names, positions, status)
    if is_ras:
        positions = positions * _FLIP_RAS
    nobody_says = np.full(len(points), np.nan)
    return LandmarkSet(
        names,
        positions,
        presence=_presence(status, values.get("presence")),
        confidence=values.get("confidence", nobody_says),
        radius=values.get("radius90", nobody_says),
        definitions=definitions,
    )


def read_region(path: str | Path) -> Region:
    """Read a box that Slicer or `write_region` has saved, in LPS or RAS.

    Raises:
        InputError: the file is missing, damaged, or holds no box or several ones.
    """
    path = Path(path)
    markup = _only_markup(path, "ROI", "region of interest")
    is_ras = _is_ras(path, markup)
    affine = np.eye(4)
    try:
        axes = np.array(markup["orientation"], dtype=float).reshape(3, 3)
        affine[:3, :3] = axes * np.array(markup["size"], dtype=float).reshape(3)
        affine[:3, 3] = np.array(markup["center"], dtype=float).reshape(3)
        if not (np.abs(affine) <= MAX_COORDINATE_MM).all():
            raise ValueError("a number is out of range")
    except _MALFORMED as error:
        raise InputError(f"'{path}' is not a complete region of interest: save it again in Slicer.") from error
    if is_ras:
        affine[:3] *= _FLIP_RAS[:, None]
    return Region(affine)


def _write_markup(path: Path, markup: dict, durable: bool = True) -> None:
    text = json.dumps({"@schema": SCHEMA, "markups": [markup]}, indent=4, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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


def _measurements(landmarks: LandmarkSet) -> list[dict]:
    """Values per control point as Slicer saves static measurements; one that states nothing is left out."""
    result = []
    for (name, units), values in zip(
        MEASUREMENT_UNITS.items(), (landmarks.presence, landmarks.confidence, landmarks.radius)
    ):
        if np.isfinite(values).any():
            stated = np.where(np.isfinite(values), values, NOT_STATED).tolist()
            measurement = {"name": name, "enabled": True, **({"units": units} if units else {})}
            result.append({**measurement, "printFormat": "%5.3f %s", "controlPointValues": stated})
    return result


def _only_markup(path: Path, kind: str, called: str) -> dict:
    """The one markup in a file, which is of the type `kind` that people call `called`."""
    try:
        data = parse_json(path.read_bytes(), allow_nan=True)
    except FileNotFoundError as error:
        raise InputError(f"'{path}' does not exist: check the path.") from error
    except OSError as error:
        raise InputError(f"'{path}' cannot be opened: check that it is a file that you may read.") from error
    except FormatError as error:
        raise InputError(f"'{path}' is damaged or not a {called} (.mrk.json): save it again in Slicer.") from error
    markups = data.get("markups") if isinstance(data, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise InputError(f"'{path}' is not a Slicer {called}: choose a file that Slicer saved as .mrk.json.")
    if len(markups) != 1:
        raise InputError(f"'{path}' holds {len(markups)} markups: save the {called} to use in a file of its own.")
    found = str(markups[0].get("type"))[:40]
    if found != kind:
        raise InputError(f"'{path}' holds a markup of type '{found}', not a {called}: choose a {called}.")
    return markups[0]


def _is_ras(path: Path, markup: dict) -> bool:
    """Whether positions are RAS; old files name the system by a number."""
    system = str(markup.get("coordinateSystem", "LPS"))[:40].upper()
    if system not in ("LPS", "1", "RAS", "0"):
        raise InputError(f"'{path}' uses the unknown coordinate system '{system}': save it again in Slicer.")
    units = str(markup.get("coordinateUnits", "mm"))[:40]
    if units not in ("mm", "millimeter"):
        raise InputError(f"'{path}' gives positions in '{units}': save it in millimeters.")
    return system in ("RAS", "0")


def _status(point: dict) -> str:
    """'defined', 'missing' or 'undefined'; a point that is still being placed is not defined yet."""
    status = point.get("positionStatus", "defined")
    if status not in ("defined", "missing", "undefined", "preview"):
        raise ValueError("an unknown position status")
    return "undefined" if status == "preview" else status


def _position(point: dict, status: str) -> list[float]:
    if status != "defined":
        return [math.nan] * 3
    x, y, z = point["position"]
    return [float(x), float(y), float(z)]


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
        array = np.array([math.nan if value is None else value for value in stored], dtype=np.float64)
        stated = np.isfinite(array) & (array >= 0) & (array <= MEASUREMENT_LIMIT[name])
        values[name] = np.where(stated, array, np.nan)
    return values


def _check_points(path: Path, names: tuple[str, ...], positions: np.ndarray, status: list[str]) -> None:
    if "" in names:
        raise InputError(f"'{path}' has a control point without a label: name every landmark.")
    repeated, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InputError(f"'{path}' uses the label '{repeated}' more than once: give every landmark its own name.")
    for name, position, state in zip(names, positions, status):
        if state == "defined" and not np.isfinite(position).all():
            raise InputError(f"'{path}' has no finite position for '{name}': place that point again.")


def _presence(status: list[str], stored: np.ndarray | None) -> np.ndarray:
    """(K,) presence: the stored probability where it agrees with the status of the point, else what the status says."""
    by_status = np.array([{"defined": 1.0, "missing": 0.0}.get(state, math.nan) for state in status])
    return by_status if stored is None else agreeing_presence(by_status, stored)
