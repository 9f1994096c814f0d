"""Adding folders to a project so that each is there completely or not at all.

A folder is made aside and then renamed. A rename never replaces a folder that holds files, on any system, so that of
two programs that want the same place one gets it and the other is told. What a killed program leaves lies aside only.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.files import TEMPORARY_PREFIX, replaced_when_complete

ASIDE = f"{TEMPORARY_PREFIX}incoming"
FORGOTTEN_AFTER_S = 24 * 3600.0


@contextmanager
def folder_aside(project: Path) -> Iterator[Path]:
    """A new folder to prepare what will be added; removed at the end with whatever is left in it.

    Raises:
        InputError: something in the block could not be written.
    """
    aside = project / ASIDE / uuid4().hex
    try:
        aside.mkdir(parents=True)
        _remove_forgotten([*aside.parent.iterdir(), *project.glob(f"{TEMPORARY_PREFIX}*-*")])
        yield aside
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"The project '{project}' cannot be written to ({reason}): check the permission and the free space; "
            "what was complete before is unchanged."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def take_place(prepared: Path, target: Path) -> bool:
    """Move a prepared folder, which holds files, to its place; False where the place is taken."""
    for path in sorted(prepared.rglob("*")):
        if path.is_file():
            flush(path)
    for path in (prepared, *prepared.rglob("*")):
        if path.is_dir():
            flush(path)
    try:
        os.rename(prepared, target)
    except OSError:
        if target.exists():
            return False
        raise
    flush(target.parent)
    return True


def write_file(path: Path, content: bytes) -> None:
    """Write a small file that takes the place of an older one when it is complete."""
    with replaced_when_complete(path) as temporary:
        temporary.write_bytes(content)
        flush(temporary)


def flush(path: Path) -> None:
    """Have the system keep a file, or the names in a folder, through a loss of power, where it can."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return  # folders of Windows
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


def _remove_forgotten(paths: Iterable[Path]) -> None:
    """Remove what killed programs left; nobody writes for a day."""
    for path in paths:
        try:
            if time.time() - path.stat().st_mtime < FORGOTTEN_AFTER_S:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            continue
