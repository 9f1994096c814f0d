"""Radiographs that show the same picture under two names, by content: copies, recompressed or shifted a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import is_radiograph, lay_flat
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json
from H3DELandmarksLib.io.case_folder import SCAN_SUFFIXES
from H3DELandmarksLib.io.isolated import read_volume

PAIRS = "same_picture_pairs"
SIDE = 48  # pixels of the small pictures that are compared
# Repeated cephalograms of ISBI2015 reach 0.998 and more, pictures of two patients 0.956 at most (one pair, perhaps of
# one patient, 0.994).
SAME = 0.996


def small_picture(volume: Volume) -> np.ndarray:
    """(48 * 48,) means over blocks of a radiograph on its sheet, of mean 0 and length 1; all 0 where it is flat."""
    array = np.asarray(lay_flat(volume)[0].array, dtype=float)[:, :, 0]
    array = _blocks(array.shape[0]) @ array @ _blocks(array.shape[1]).T
    centered = array.ravel() - array.mean()
    length = np.linalg.norm(centered)
    return centered / length if length > 1e-9 * array.size else np.zeros(array.size)


def _blocks(count: int) -> np.ndarray:
    """(48, count) share of each of so many pixels in each block; a pixel may be part of several."""
    ends, pixels = np.linspace(0, count, SIDE + 1)[:, None], np.arange(count)
    overlap = np.minimum(ends[1:], pixels + 1) - np.maximum(ends[:-1], pixels)
    return np.maximum(overlap, 0) * SIDE / count


def same_pictures(pictures: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Pairs of names whose pictures are the same; of several, the first is paired with each other one.

    Args:
        pictures: by name, as `small_picture` gives them.
    """
    names = list(pictures)
    if not names:
        return []
    every = np.stack([pictures[name] for name in names])
    pairs, paired = [], set()
    for number, row in enumerate(np.triu(every @ every.T, 1) >= SAME):
        if number not in paired:
            others = np.flatnonzero(row)
            pairs += [(names[number], names[other]) for other in others if other not in paired]
            paired.update(others.tolist())
    return pairs


def small_pictures(folder: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Small pictures of the radiographs of a folder of cases; cases without one, or with a volume, are left out."""
    pictures = {}
    for name in names:
        scans = [path for suffix in SCAN_SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
        if len(scans) == 1 and is_radiograph(volume := read_volume(scans[0])):
            pictures[name] = small_picture(volume)
    return pictures


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Pairs of names in a JSON file: a list of pairs, or an object with one under ``same_picture_pairs...``.

    Raises:
        InputError: it holds none.
    """
    try:
        content = parse_json(path.read_bytes())
        if isinstance(content, dict):
            content = next((pairs for key, pairs in content.items() if key.startswith(PAIRS)), None)
        return build(list[tuple[str, str]], content)
    except (OSError, FormatError) as error:
        raise InputError(f'\'{path}\' holds no pairs of cases: write a JSON list such as [["a", "b"]].') from error
