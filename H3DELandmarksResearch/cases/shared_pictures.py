"""Splits of which two subsets share a picture, refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.same_picture import Repeat, fingerprint
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Volume


def kept_fingerprint(path: Path, folder: Path, read: Callable[[Path], Volume]) -> np.ndarray:
    """The fingerprint of a file, from a folder of earlier ones where the file has not changed since.

    Args:
        path: scan.
        folder: of fingerprints; made if it does not exist.
        read: gives the volume of the path.
    """
    state = path.stat()
    name = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
    kept = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"
    try:
        return np.asarray(np.load(kept, allow_pickle=False))
    except (OSError, ValueError):
        made = fingerprint(read(path))
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept) as temporary, temporary.open("wb") as file:
        np.save(file, made)
    return made


def refuse_shared(names: Sequence[str], repeats: Sequence[Repeat], subset_of: Mapping[str, str]) -> None:
    """Refuse a split of which two subsets share a picture.

    Args:
        names: of the cases.
        repeats: as `repeated_pictures` gives them.
        subset_of: the subset of each case.

    Raises:
        InputError: names the first two such cases, and how many more there are.
    """
    shared = [
        (names[repeat.first], names[repeat.second])
        for repeat in repeats
        if subset_of[names[repeat.first]] != subset_of[names[repeat.second]]
    ]
    if not shared:
        return
    one, other = shared[0]
    more = f", and {len(shared) - 1} more pairs do so" if len(shared) > 1 else ""
    raise InputError(
        f"The cases '{one}' ({subset_of[one]}) and '{other}' ({subset_of[other]}) show the same picture{more}: leave "
        "one case of each pair out of the split, or put both into one subset ('audit' lists all pairs)."
    )
