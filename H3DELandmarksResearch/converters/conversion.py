"""Writing the cases of a published data set as plain case folders, one case at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.same_picture import fingerprint, repeated_pictures
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import plural
from H3DELandmarksLib.formats.training import SUBSETS
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksResearch.cases.case_folder import POINTS_SUFFIX, SCAN_SUFFIXES, scan_of_case, write_readers
from H3DELandmarksResearch.cases.shared_pictures import refuse_shared
from H3DELandmarksResearch.training.configuration import read_split

log = logging.getLogger(__name__)

SPLIT_FILE = "split.json"
NOT_IN_FILE_NAMES = '<>:"/\\|?*'


@dataclass(frozen=True)
class SourceCase:
    """A case of a published data set that has not been read yet.

    Attributes:
        name: file name of the case in the target folder, without suffix.
        read: gives scan and landmarks (LPS mm), or raises InputError that names the file and what is wrong.
        subsets: what the published split calls it: "train", "validation" or "test", and finer names beside; empty where
            the set has no split.
        readers: gives what several people marked, by a word for each, LPS mm.
    """

    name: str
    read: Callable[[], tuple[Volume, LandmarkSet]]
    subsets: tuple[str, ...] = ()
    readers: Callable[[], Mapping[str, LandmarkSet]] = dict


@dataclass
class Summary:
    """What a conversion did.

    Attributes:
        written: names of the cases that were written now.
        kept: names of the cases that the target folder already held.
        skipped: one sentence for each case that could not be converted.
        notes: sentences about the whole set that a user should know.
        split: the split file, where the set has a published split.
    """

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    split: Path | None = None

    def text(self) -> str:
        """The counts in one line."""
        written = plural(len(self.written), "case")
        return f"{written} written, {len(self.kept)} kept as they were, {len(self.skipped)} skipped"


def convert_cases(
    cases: Sequence[SourceCase], target: Path, progress: Progress, leave_out_repeats: bool = False
) -> Summary:
    """Write cases into a folder, each file beside and renamed; a case that is already there is left alone.

    A bad case is skipped with a warning of one sentence and does not stop the others.

    Args:
        cases: what to read; of cases with the same name the first is written and the others are skipped.
        target: folder of cases, which exists; gets a split file where cases name their subsets.
        progress: receives the fraction done and the name of the case at hand.
        leave_out_repeats: of cases with one picture, only the first is named in the split: by subset, then by order.

    Raises:
        InputError: two subsets share a picture, and repeats are not to be left out. The cases are written, the split
            file is not.
    """
    summary, seen = Summary(), set()
    for number, case in enumerate(cases):
        progress(number / len(cases), case.name)
        try:
            if case.name.casefold() in seen:
                raise InputError(f"Two cases would be called '{case.name}': rename one, the first is kept.")
            seen.add(case.name.casefold())
            done = summary.written if _write_case(case, target) else summary.kept
            done.append(case.name)
        except InputError as error:
            summary.skipped.append(" ".join(str(error).split()))
            log.warning("%s", summary.skipped[-1])
    progress(1.0, "done")
    there = {*summary.written, *summary.kept}
    names = dict.fromkeys([*SUBSETS, *(subset for case in cases for subset in case.subsets)])
    subsets = {s: [case.name for case in cases if s in case.subsets and case.name in there] for s in names}
    if any(subsets.values()):
        repeats = _repeats(subsets, target, progress, leave_out_repeats)
        for name, first in repeats.items():
            summary.notes.append(f"'{name}' shows the picture of '{first}' again: it is not named in the split.")
        subsets = {subset: [name for name in listed if name not in repeats] for subset, listed in subsets.items()}
        summary.split = write_split(target / SPLIT_FILE, subsets)
    return summary


def _repeats(subsets: Mapping[str, Sequence[str]], target: Path, progress: Progress, leave_out: bool) -> dict[str, str]:
    """Cases to leave out of a split, each with the case whose picture it repeats; a split that shares one is refused.

    Finer names of a subset count as the subset itself.
    """
    subset_of = {name: subset for subset in SUBSETS for name in subsets[subset]}
    names, pictures = [], []
    for number, name in enumerate(subset_of):
        progress(number / len(subset_of), f"picture of {name}")
        try:
            pictures.append(fingerprint(read_volume(scan_of_case(target, name))))
        except InputError as error:  # what somebody has put there stays, and training will tell
            log.warning("%s", error)
            continue
        names.append(name)
    repeats = repeated_pictures(pictures)
    if leave_out:
        return {names[repeat.second]: names[repeat.first] for repeat in repeats}
    try:
        refuse_shared(names, repeats, subset_of)
    except InputError as error:
        raise InputError(f"{error} With --leave-out-repeats the conversion does the first.") from error
    return {}


def with_validation(cases: Sequence[SourceCase], every: int) -> list[SourceCase]:
    """The same cases, every n-th training case (by order) held out where none is for validation.

    Args:
        cases: all cases of a set.
        every: n; 0 leaves the split as published.
    """
    if every < 1 or any("validation" in case.subsets for case in cases):
        return list(cases)
    training = [case for case in cases if "train" in case.subsets]
    held_out = {id(case) for case in training[every - 1 :: every]}
    return [replace(case, subsets=("validation",)) if id(case) in held_out else case for case in cases]


LONGEST_NAME = 200  # bytes; leaves room for an ending in the 255 of a file name


def case_name(text: str) -> str:
    """A name from a data set as a file name that every system accepts."""
    text = text.encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore")
    kept = "".join("_" if c in NOT_IN_FILE_NAMES or not c.isprintable() else c for c in text)
    return kept.strip(" .") or "case"


def write_split(path: Path, subsets: Mapping[str, Sequence[str]]) -> Path:
    """Write a split file, or add to one the cases that it doesn't name yet; what it says already stays.

    Args:
        path: JSON file with lists of case names under "train", "validation" and "test", as configurations use it.
        subsets: the same as a mapping.

    Returns:
        `path`.
    """
    split = read_split(path) if path.exists() else {subset: [] for subset in SUBSETS}
    named = {name for names in split.values() for name in names}
    for subset, names in subsets.items():
        split[subset] = [*split.get(subset, []), *(name for name in names if name not in named)]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8")
    return path


def _write_case(case: SourceCase, target: Path) -> bool:
    """Write scan and then points; False where both are there already."""
    points = target / f"{case.name}{POINTS_SUFFIX}"
    scans = [path for suffix in SCAN_SUFFIXES if (path := target / f"{case.name}{suffix}").exists()]
    if points.exists() and scans:
        return False
    if points.exists():
        raise InputError(f"'{points}' is there without its scan: move that file, or choose another target folder.")
    volume, landmarks = case.read()
    if scans:
        _check_is_same(scans[0], volume)  # what an interrupted conversion left
    else:
        write_volume(target / f"{case.name}.nrrd", volume)
    write_readers(target, case.name, case.readers())
    write_markups(points, landmarks)
    return True


def _check_is_same(path: Path, volume: Volume) -> None:
    found = read_volume(path)
    if not (np.array_equal(found.array, volume.array) and np.allclose(found.affine, volume.affine, atol=1e-5)):
        raise InputError(f"'{path}' is there and is another scan: move that file, or choose another target folder.")
