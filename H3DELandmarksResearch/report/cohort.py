"""What the output folder of ``detect`` says of many scans: its log where there is one, else its files.

The points are those that the lists hold now: what a person has moved or placed since counts as corrected.
"""

from __future__ import annotations

import codecs
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import shown
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.landmarks import SAME_PLACE_MM, LandmarkSet, ReviewState, Statement
from H3DELandmarksLib.core.text import from_csv
from H3DELandmarksLib.evaluation.measures import without_moved_radii
from H3DELandmarksLib.formats.export import sha256_of
from H3DELandmarksLib.formats.provenance import EXTENSION as PROVENANCE
from H3DELandmarksLib.formats.provenance import (
    ModelOrigin,
    PointOrigin,
    Provenance,
    read_provenance,
    with_causes,
    written_points,
)
from H3DELandmarksLib.formats.reading import FormatError, parse_json
from H3DELandmarksLib.io.markups import EXTENSION as MARKUPS
from H3DELandmarksLib.io.markups import point_lists_in, read_markups
from H3DELandmarksLib.io.tables import read_rows

logger = logging.getLogger(__name__)
LOG, MEASURED, DOCUMENT = "cohort.jsonl", ".measured.csv", "h3delandmarks-detection"
OUTPUTS = ("markups", "table", "provenance", "picture")
FOUND, DOUBTFUL, NOT_RECOGNISED, NOTHING, FAILED = CASE_STATES = (
    "found",
    "doubtful",
    "not recognised",
    "nothing found",
    "failed",
)
ABSENT_BY_PERSON = "absent, by a person"
IN_WORDS = {"proposed": "found", "proposed absent": "absent", "absent": ABSENT_BY_PERSON}
BY_PERSON = frozenset(IN_WORDS.get(state.value, state.value) for state in ReviewState if state.is_decided)
DOUBT = 0.5  # a landmark that is more likely wrong than right makes its case doubtful


@dataclass(frozen=True)
class Measurement:
    """A measured value of a case, as its file states it; texts are empty and numbers None where it does not."""

    name: str
    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    usual: str = ""
    is_usual: bool | None = None


@dataclass(frozen=True, kw_only=True)
class CohortCase:
    """A scan of the cohort.

    Attributes:
        name: of its results, or of the scan.
        subject: whom it shows; empty where nobody says so.
        model: id@version; empty where nobody says so.
        reason: why there is no result; empty where there is one.
        summary: what people should know of the result first.
        landmarks: LPS mm; None without a result.
        states: (K) a review state of each landmark, in words.
        doubts: (K,) probability that what is said of a landmark is wrong; NaN where nobody can say.
        recognised: whether the scan looks like what the model knows; None where the model cannot tell.
        unit: of positions and radii.
        within: distance that the confidences mean, with its unit; empty where nobody says so.
        seconds: that detection took.
        scan: path, where it is known.
        series, spacing: to read it with.
        voxels_sha256: of the scan.
        files: of the result, by kind.
        measurements: on its landmarks.
        is_measured_before: whether what was measured holds no more and is left out, since points were moved.
    """

    name: str
    subject: str = ""
    model: str = ""
    reason: str = ""
    summary: str = ""
    landmarks: LandmarkSet | None = None
    states: tuple[str, ...] = ()
    doubts: np.ndarray = field(default_factory=lambda: np.empty(0))
    recognised: bool | None = None
    unit: LengthUnit = "mm"
    within: str = ""
    seconds: float | None = None
    scan: Path | None = None
    series: str | None = None
    spacing: tuple[float, ...] | None = None
    voxels_sha256: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    is_measured_before: bool = False

    @property
    def doubt(self) -> float | None:
        """The largest doubt of its landmarks; 1 for a scan that is not recognised, None where nobody can say."""
        if self.recognised is False:
            return 1.0
        known = self.doubts[np.isfinite(self.doubts)]
        return float(known.max()) if known.size else None

    @property
    def state(self) -> str:
        """One of `CASE_STATES`."""
        if self.landmarks is None:
            return FAILED
        if self.recognised is False:
            return NOT_RECOGNISED
        if not self.landmarks.present.any():
            return NOTHING
        return DOUBTFUL if (self.doubt or 0.0) > DOUBT else FOUND


def read_cohort(folder: Path) -> list[CohortCase]:
    """Every scan of a folder, in the order of its log or of the names.

    Args:
        folder: output of ``detect``, or any folder of point lists.

    Raises:
        InputError: it does not exist, or tells of no scan.
    """
    if not folder.is_dir():
        raise InputError(f"The folder '{folder}' does not exist: give the output folder of 'detect'.")
    entries = list(_logged(folder))
    known = {entry["outputs"].get("markups") for entry in entries}
    if not entries:
        entries, known = _documented(folder)
    entries += [entry for entry in _plain(folder) if entry["outputs"]["markups"] not in known]
    if not entries:
        raise InputError(f"The folder '{folder}' holds no results of 'detect': choose another folder.")
    names: dict[str, None] = {}  # of landmarks, in the order of the lists
    cases = []
    for entry in entries:
        cases.append(case := _case(entry, names))
        names |= dict.fromkeys(case.landmarks.names if case.landmarks is not None else ())
    return cases


def _logged(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of the log, the last of each scan; a line that a killed program has cut is left out."""
    path, last = folder / LOG, {}
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            entry = parse_json(line.decode("utf-8", errors="replace").encode())
            model = entry.get("model") or {}
            models = model.get("id"), model.get("version")
            key = tuple(map(str, (entry["scan"], entry.get("series"), *models, entry.get("region"))))
            entry["outputs"] = dict(entry.get("outputs") or {})
        except (FormatError, AttributeError, KeyError, TypeError, ValueError):  # cut, or edited by hand
            continue
        last.pop(key, None)
        last[key] = entry
    for entry in last.values():
        outputs = entry["outputs"]
        digest = outputs.pop("provenance_sha256", None)
        paths = {kind: _inside(folder, at) for kind, at in outputs.items() if at}
        if digest and _is_other(paths.get("provenance"), digest):
            continue  # another detection has written files of these names since, which are taken for themselves
        yield {**entry, "outputs": {kind: path for kind, path in paths.items() if path is not None}}


def _is_other(path: Path | None, digest: str) -> bool:
    """Whether a file is not the one that had this SHA-256; of one that is not there nobody knows."""
    try:
        return path is not None and sha256_of(path) != digest
    except OSError:
        return False


def _documented(folder: Path) -> tuple[list[dict[str, Any]], set[Path | None]]:
    """What kept documents of ``detect --json`` say, which alone name the scans that failed, and all lists they name.

    Of several that tell of a scan and model, or of a point list, the newest holds.
    """
    latest: dict[tuple[str, str], list[dict[str, Any]]] = {}
    known: set[Path | None] = set()
    paths = [path for path in folder.glob("*.json") if not path.name.endswith((MARKUPS, PROVENANCE))]
    for path in sorted(paths, key=lambda path: (_changed(path), path)):
        said: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entry in _entries(folder, _document(path)):
            key = os.path.normpath(str(entry.get("scan"))), str(entry["model"].get("id"))
            said.setdefault(key, []).append(entry)
        lists = {entry["outputs"].get("markups") for entries in said.values() for entry in entries} - {None}
        older = {key: [e for e in old if e["outputs"].get("markups") not in lists] for key, old in latest.items()}
        latest, known = older | said, known | lists
    return [entry for entries in latest.values() for entry in entries], known


def _entries(folder: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a document says of each scan; nothing where somebody has edited it so that it says nothing."""
    entries = []
    try:
        for scan in content.get("scans") or ():
            outputs = {kind: folder / Path(scan[kind]).name for kind in OUTPUTS if scan.get(kind)}
            model = dict(scan.get("model") or content.get("model") or {})
            entries.append({**scan, "reason": scan.get("error"), "outputs": outputs, "model": model})
    except (AttributeError, TypeError, ValueError):
        return []
    return entries


def _document(path: Path) -> dict[str, Any]:
    """A document of ``detect``; empty where the file is something else. PowerShell redirects text as UTF-16."""
    try:
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = data.decode("utf-16").encode()
        content = parse_json(data)
    except (FormatError, OSError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, dict) and content.get("format") == DOCUMENT else {}


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _plain(folder: Path) -> Iterator[dict[str, Any]]:
    """Results without any log."""
    for name, paths in sorted(point_lists_in(folder).items()):
        others = {"table": f"{name}.csv", "provenance": f"{name}{PROVENANCE}", "picture": f"{name}.png"}
        yield {"name": name, "outputs": {"markups": paths[0], **{kind: folder / at for kind, at in others.items()}}}


def _inside(folder: Path, relative: object) -> Path | None:
    """A path of the log, where it leads into the folder."""
    path = Path(str(relative))
    return None if path.is_absolute() or ".." in path.parts else folder / path


def _case(entry: Mapping[str, Any], names: Collection[str]) -> CohortCase:
    """What files say of a case; labels are taken for known names that they differ from in case or blanks alone."""
    files = {kind: path for kind, path in entry["outputs"].items() if path.is_file()}
    scan = Path(str(entry["scan"])) if entry.get("scan") else None
    model = entry.get("model") or {}
    case = CohortCase(
        name=shown(str(entry.get("name") or (scan.name if scan else "") or "unnamed")),
        subject=str(entry.get("subject") or ""),
        model=shown(f"{model.get('id')}@{model.get('version')}") if model.get("id") else "",
        reason=" ".join(str(entry.get("reason") or "").split()),
        summary=str(entry.get("summary") or ""),
        recognised=entry.get("recognised"),
        seconds=_number(entry.get("seconds")),
        scan=scan,
        series=entry.get("series"),
        files=files,
    )
    if case.reason:
        return case
    try:
        return _with_points(case, names)
    except InputError as error:
        return replace(case, reason=" ".join(str(error).split()))


def _with_points(case: CohortCase, names: Collection[str]) -> CohortCase:
    """The case with what its files say.

    Raises:
        InputError: they are missing or damaged.
    """
    if "markups" not in case.files:
        raise InputError(f"The point list of '{case.name}' is missing: detect again.")
    origin = read_provenance(case.files["provenance"]) if "provenance" in case.files else None
    landmarks = read_markups(case.files["markups"], tuple(origin.by_name()) if origin else names)
    if origin is not None:
        landmarks = without_moved_radii(with_causes(landmarks, origin), written_points(origin))
        case = _of_origin(case, origin)
    states, measured = _states(landmarks, origin), tuple(_measurements(case.files))
    is_changed = origin is not None and _is_changed(landmarks, origin)
    return replace(
        case,
        landmarks=landmarks,
        states=states,
        doubts=_doubts(landmarks, states),
        measurements=() if is_changed else measured,
        is_measured_before=is_changed and bool(measured),
    )


def _of_origin(case: CohortCase, origin: Provenance) -> CohortCase:
    model, scan, settings, seen = origin.model, origin.scan, origin.settings, origin.recognition
    return replace(
        case,
        model=case.model or (f"{model.id}@{model.version}" if model else ""),
        unit=origin.unit,
        within=_within(model) if model else "",
        recognised=case.recognised if seen is None else seen.recognised,
        voxels_sha256=scan.voxels_sha256 if scan else None,
        scan=case.scan or (Path(scan.file) if scan and scan.file else None),
        spacing=settings.spacing_mm if settings else None,
    )


def _within(model: ModelOrigin) -> str:
    counted = " in a picture of the model's height," if model.unit == "px" else ""
    return f"{model.confidence_within_mm:g} {model.unit}{counted}"


def _states(landmarks: LandmarkSet, origin: Provenance | None) -> tuple[str, ...]:
    """What is stated of each landmark now; a point that lies elsewhere than it was written was moved by a person."""
    written = origin.by_name() if origin else {}
    stated = zip(landmarks.names, landmarks.statements, landmarks.positions)
    return tuple(
        _state(written[name], statement, place) if name in written else statement.value
        for name, statement, place in stated
    )


def _state(point: PointOrigin, statement: Statement, place: np.ndarray) -> str:
    before, said = point.position_lps_mm, IN_WORDS.get(point.state, point.state)
    if statement is Statement.FOUND:
        if before is None:
            return ReviewState.PLACED.value
        return ReviewState.MOVED.value if np.linalg.norm(place - np.array(before)) > SAME_PLACE_MM else said
    is_absent = said.startswith(Statement.ABSENT.value)
    if statement is Statement.ABSENT:
        return said if is_absent else ABSENT_BY_PERSON
    return statement.value if is_absent or before is not None else said


def _is_changed(landmarks: LandmarkSet, origin: Provenance) -> bool:
    """Whether a point lies elsewhere than it was written."""
    written = {point.name: point.position_lps_mm or (np.nan,) * 3 for point in origin.points}
    return any(
        not np.allclose(place, written[name], rtol=0, atol=SAME_PLACE_MM, equal_nan=True)
        for name, place in zip(landmarks.names, landmarks.positions)
        if name in written
    )


def _doubts(landmarks: LandmarkSet, states: tuple[str, ...]) -> np.ndarray:
    """(K,) 1 - confidence of what was found, presence of what was said to be absent, 0 where a person decided."""
    return np.where([state in BY_PERSON for state in states], 0.0, landmarks.doubts)


def _measurements(files: Mapping[str, Path]) -> Iterator[Measurement]:
    """The rows of the measurement table, where a result has one."""
    path = files.get("measurement_table") or files["markups"].with_name(
        files["markups"].name.removesuffix(MARKUPS) + MEASURED
    )
    if not path.is_file():
        return
    try:
        rows = read_rows(path)
    except (OSError, ValueError):
        logger.warning("'%s' is no table in UTF-8: save it so again, or detect again in this scan.", path)
        return
    for row in rows:
        mean, sd = _number(row.get("norm_mean")), _number(row.get("norm_sd"))
        yield Measurement(
            name=from_csv(row.get("measurement") or row.get("title") or ""),  # titles are shared by several
            value=_number(row.get("value")),
            unit=row.get("unit") or "",
            low=_number(row.get("low90")),
            high=_number(row.get("high90")),
            usual="" if mean is None else f"{mean:g}" + (f" \N{PLUS-MINUS SIGN} {sd:g}" if sd is not None else ""),
            is_usual={"true": True, "false": False}.get(row.get("within_norm") or ""),
        )


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
