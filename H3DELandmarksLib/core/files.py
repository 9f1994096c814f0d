"""Small files that another program reads while training writes them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

TEMPORARY_PREFIX = ".h3de-"
FORGOTTEN_AFTER_S = 24 * 3600.0


@contextmanager
def replaced_when_complete(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write to, which takes the place of `path` when the block ends without an error.

    The sibling lies in the same folder, so that the rename is atomic, and ends with the same name, so that libraries
    which choose a format by its extension write the right one. After an error it is removed and `path` is untouched.

    Args:
        path: file or folder to create or replace; its parent exists.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        if path.is_dir():
            _exchange_folders(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        _remove(temporary)


def _exchange_folders(new: Path, target: Path) -> None:
    """Put `new` where `target` is; a folder that holds files cannot be renamed over, so the old one steps aside."""
    old = new.with_name(f"{new.name}.old")
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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


def remove_forgotten(paths: Iterable[Path]) -> None:
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


ATTEMPTS, PAUSE_SECONDS = 20, 0.05


def write_watched(path: Path, text: str) -> None:
    """Write beside and rename; wait for a reader to close the file, without which Windows does not replace it."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with replaced_when_complete(path) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
            return
        except PermissionError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE_SECONDS)
