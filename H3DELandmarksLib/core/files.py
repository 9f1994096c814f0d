"""Files and folders that are there completely or not at all, whatever stops the program that writes them.

Everything is prepared in a hidden sibling (`TEMPORARY_PREFIX`) on the same disk and takes its place by a rename:
`atomic_write` replaces what is there, `atomic_move` refuses a place that is taken, and `append_numbered` adds to a
series of numbered folders to which several programs may add at once. What a killed program leaves is hidden, put back
where it was the only copy, and otherwise removed after a day.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from H3DELandmarksLib.core.errors import OutputError

TEMPORARY_PREFIX = ".h3de-"
FORGOTTEN_AFTER_S = 24 * 3600.0
NUMBERED = re.compile(r"[0-9]{6}")
ATTEMPTS, PAUSE_S = 20, 0.05
# A folder that stepped aside for its successor; the group is its name.
_SET_ASIDE = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{8}-(.+)\.old", re.DOTALL)


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary sibling of `path` to write to, which takes the place of `path` when the block ends without an error.

    The sibling lies in the same folder, so that the rename is atomic, and ends with the same name, so that libraries
    which choose a format by its extension write the right one. After an error it is removed and `path` is untouched.

    Args:
        path: file or folder to create or replace; its parent exists.
        durable: whether it must survive a loss of power; costs a few milliseconds.

    Raises:
        OutputError: the block or the rename met an error of the operating system.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        if durable:
            flush_tree(temporary)
        if temporary.is_dir():
            restore_interrupted(path.parent)
        if path.is_dir():
            _exchange_folders(temporary, path)
        else:
            os.replace(temporary, path)
        if durable:
            flush(path.parent)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        _remove(temporary)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The sentence about a file or folder that could not be written."""
    reason = error.strerror or type(error).__name__
    return OutputError(f"'{path}' cannot be written ({reason}): check the permission and the free space.", error)


def _exchange_folders(new: Path, target: Path) -> None:
    """Put `new` where `target` is; a folder that holds files cannot be renamed over, so the old one steps aside."""
    old = new.with_name(f"{new.name}.old")
    try:
        os.replace(target, old)
        os.replace(new, target)
    except BaseException:  # also Ctrl-C
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    _remove(old)


def restore_interrupted(folder: Path) -> None:
    """Put back every folder that stepped aside for a successor which never came, since the program was killed."""
    for old in folder.glob(f"{TEMPORARY_PREFIX}*.old"):
        _put_back(old)


def _put_back(old: Path) -> bool:
    """Give a folder that stepped aside its name again; False where its successor is there, or `old` is no such one."""
    name = _SET_ASIDE.fullmatch(old.name)
    if name is None or old.with_name(name[1]).exists():
        return False
    with contextlib.suppress(OSError):  # another program was faster, or nothing may be written here: it stays
        os.rename(old, old.with_name(name[1]))
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def atomic_move(prepared: Path, target: Path) -> bool:
    """Move a prepared folder, which holds files, to its place; False where the place is taken.

    Raises:
        OSError: it cannot be moved.
    """
    flush_tree(prepared)
    try:
        os.rename(prepared, target)
    except OSError:
        if target.exists():
            return False
        raise
    flush(target.parent)
    return True


def numbered_folders(folder: Path) -> list[Path]:
    """The folders ``000001``, ``000002``, ... of a series in order; none where the series does not exist.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if NUMBERED.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def append_numbered(folder: Path, staging: Path, prepare: Callable[[Path], bool]) -> Path | None:
    """Add the next folder to a numbered series to which other programs may add at the same time.

    Args:
        folder: of the series; exists.
        staging: where to prepare, on the same disk; what is there is removed.
        prepare: writes, into the new folder that it is given, what follows the series as it is now; False where there
            is nothing to add. It is asked again where another program was faster.

    Returns:
        The new folder; None where there was nothing to add.

    Raises:
        OSError: something cannot be written.
    """
    while True:
        last = max((int(path.name) for path in numbered_folders(folder)), default=0)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        if not prepare(staging):
            return None
        target = folder / f"{last + 1:06d}"
        if atomic_move(staging, target):
            return target


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


def flush_tree(path: Path) -> None:
    """`flush` a file, or a folder with everything in it: files first, then the folders that name them."""
    inside = sorted(path.rglob("*")) if path.is_dir() else []
    for entry in (*(p for p in inside if p.is_file()), *(p for p in inside if p.is_dir()), path):
        flush(entry)


def remove_forgotten(paths: Iterable[Path]) -> None:
    """Remove what killed programs left, for nobody writes for a day; the only copy of a folder is put back instead."""
    for path in paths:
        try:
            if not _put_back(path) and time.time() - path.stat().st_mtime > FORGOTTEN_AFTER_S:
                _remove(path)
        except OSError:
            continue


def write_watched(path: Path, text: str) -> None:
    """Replace a text file that another program reads meanwhile, without which Windows does not replace it: wait.

    Raises:
        OutputError: it cannot be written.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with atomic_write(path, durable=False) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
            return
        except OSError as error:
            reason = error.__cause__ if isinstance(error, OutputError) else error
            if attempt == ATTEMPTS or not isinstance(reason, PermissionError):
                raise
            time.sleep(PAUSE_S)


# Names of before, until every caller has changed.
replaced_when_complete = atomic_write
take_place = atomic_move
