"""The curve of a stage's training on disk: one line for each validation, complete at any moment."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from H3DELandmarksLib.errors import MissingDependencyError
from H3DELandmarksLib.files import replaced_when_complete
from H3DELandmarksLib.pictures.plots import draw_training_curve
from H3DELandmarksLib.training.watched_files import write_watched


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a line; the file is written anew, so that a kill leaves the old one."""
    _write(path, [*read_curve(path), {name: f"{value:.6g}" for name, value in row.items()}])


def trim_curve(path: Path, step: int) -> None:
    """Leave out what was written after a checkpoint, whose training is done again."""
    rows = read_curve(path)
    kept = [row for row in rows if int(row["step"]) <= step]
    if len(kept) < len(rows):
        _write(path, kept)


def read_curve(path: Path) -> list[dict[str, str]]:
    """All lines by column; none where the file is not there."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def draw_curve(path: Path) -> None:
    """Draw the curve as a PNG beside its file; nothing before the first line, or without matplotlib (as in Slicer)."""
    rows = read_curve(path)
    if not rows:
        return
    try:
        picture = draw_training_curve(rows)
    except MissingDependencyError:
        return
    with replaced_when_complete(path.with_suffix(".png")) as partial:
        partial.write_bytes(picture)


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_watched(path, text.getvalue())
