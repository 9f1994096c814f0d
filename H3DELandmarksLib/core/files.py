"""Files and folders that are there completely or not at all, whatever stops the program that writes them.

Everything is prepared in a hidden sibling (`TEMPORARY_PREFIX`) on the same disk and takes its place by a rename:
`atomic_write` replaces what is there, `atomic_move` refuses a place that is taken, and `append_numbered` adds to a
series of numbered folders to which several programs may add at once. What a killed program leaves is hidden, put back
where it was the only copy, and otherwise removed after a day. Locks between programs (`held`) last while a program
works, and are gone with it however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from H3DELandmarksLib.core.errors import InputError, OutputError

TEMPORARY_PREFIX = ".h3de-"
FORGOTTEN_AFTER_S = 24 * 3600.0
NUMBERED = re.compile(r"[0-9]{6}")
ATTEMPTS, PAUSE_S = 20, 0.05
LONGEST_NAME = 255  # bytes, on the file systems of today
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{8}-")
# A folder that stepped aside for its successor; the group is its name.
_SET_ASIDE = re.compile(_TEMPORARY.pattern + r"(.+)\.old", re.DOTALL)


# What the operating system says, and what the user can do about it.
_REASONS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "the file is too large for this place: free some space",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EROFS: "the place is read-only: choose another",
    errno.EACCES: "the permission is missing: choose another place",
    errno.EPERM: "the permission is missing: choose another place",
    errno.ENOENT: "its folder does not exist: make it, or choose another",
    errno.ENOTDIR: "its folder is a file: choose another",
    errno.EEXIST: "it is there already: choose another name",
    errno.ENOTEMPTY: "it is there already: choose another name",
}


_TAKEN_MEANWHILE = (errno.ENOTEMPTY, errno.ENOENT)


class TakenError(OutputError):
    """The place of a file or folder is taken by another one."""


def _replace_any(old: Path) -> bool:
    return True


@contextmanager
def atomic_write(
    path: Path, *, durable: bool = True, may_replace: Callable[[Path], bool] = _replace_any
) -> Iterator[Path]:
    """A temporary sibling of `path` to write to, which takes the place of `path` when the block ends without an error.

    The sibling lies in the same folder, so that the rename is atomic, and ends with the same name, so that libraries
    which choose a format by its extension write the right one. After an error it is removed and `path` is untouched.

    Args:
        path: file or folder to create or replace; its parent exists.
        durable: whether it must survive a loss of power; costs a few milliseconds.
        may_replace: whether what has `path` at the end may be replaced, which may lie elsewhere when this is asked.

    Raises:
        OutputError: the block or the rename met an error of the operating system.
        TakenError: `may_replace` said no.
    """
    path = Path(path)
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        if durable:
            flush_tree(temporary)
        if temporary.is_dir():
            restore_interrupted(path.parent)
            _place_folder(temporary, path, may_replace)
        else:
            _place_file(temporary, path, may_replace)
        if durable:
            flush(path.parent)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        _remove(temporary)


def temporary_name(name: str) -> str:
    """A hidden name for a sibling, new at each call; of a very long name it keeps the end."""
    prefix = f"{TEMPORARY_PREFIX}{uuid4().hex[:8]}-"
    kept = os.fsencode(name)[-(LONGEST_NAME - len(prefix)) :]
    return prefix + (name if len(kept) == len(os.fsencode(name)) else kept.decode("utf-8", "ignore"))


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The sentence about a file or folder that could not be written, by the name that it was to have."""
    return OutputError(f"'{_TEMPORARY.sub('', shown(path))}' cannot be written: {reason_of(error)}.", error)


def reason_of(error: OSError) -> str:
    """Why something cannot be written and what to do, without a full stop."""
    known = _REASONS.get(error.errno or 0)
    return known or f"{error.strerror or type(error).__name__}: check the permission and the free space"


def shown(path: Path | str) -> str:
    """A path for messages; bytes that are no UTF-8 become question marks."""
    return str(path).encode("utf-8", "replace").decode()


def refuse_existing(*paths: Path | str | None, overwrite: bool) -> None:
    """Refuse, before the work begins, to replace files of which nobody knows what has been done with them.

    Raises:
        InputError: one is there, or cannot be.
    """
    for path in (Path(path) for path in paths if path is not None):
        if shown(path) != str(path):
            raise InputError(f"The name '{shown(path)}' is not UTF-8: choose another name.")
        if path.is_dir():
            raise InputError(f"'{path}' is a folder: choose the name of a file.")
        if os.path.lexists(path) and not overwrite:
            raise InputError(
                f"'{path}' is there already and is kept: add --overwrite to replace it, or choose another name."
            )


def _place_file(new: Path, target: Path, may_replace: Callable[[Path], bool]) -> None:
    """Put a file where `target` is; where nothing may be replaced, of several programs only the first succeeds."""
    if may_replace is _replace_any or (os.path.lexists(target) and may_replace(target)):
        os.replace(new, target)
        return
    try:
        os.link(new, target)  # unlike a rename, refuses a place that is taken
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:  # disks without links
        if os.path.lexists(target):
            raise _taken(target) from error
        os.replace(new, target)


def _taken(target: Path) -> TakenError:
    return TakenError(f"'{shown(target)}' is there already: choose another name.", FileExistsError(errno.EEXIST, ""))


def _place_folder(new: Path, target: Path, may_replace: Callable[[Path], bool]) -> None:
    """Put `new` where `target` is; a folder that holds files cannot be renamed over, so the old one steps aside."""
    old = new.with_name(f"{new.name}.old")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if _is_taken(target):
                if not may_replace(target):
                    raise _taken(target)
                os.replace(target, old)
                if not may_replace(old):  # it was changed meanwhile
                    raise _taken(target)
            os.replace(new, target)
            break
        except BaseException as error:  # also Ctrl-C
            if os.path.lexists(old) and not os.path.lexists(target):
                os.replace(old, target)
            # Another program was faster, or looked between both renames and has put the old one back.
            if attempt == ATTEMPTS or not isinstance(error, OSError) or error.errno not in _TAKEN_MEANWHILE:
                raise
    _remove(old)


def _is_taken(target: Path) -> bool:
    """Whether something lies there that a rename cannot replace: anything but an empty folder."""
    return os.path.lexists(target) and (os.name == "nt" or not target.is_dir() or any(target.iterdir()))


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
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # it may never have been there, on a disk that is read-only
            path.unlink()


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


def walked(folder: str | Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk` from the top, also behind links; each place is visited once, whatever links lead there.

    Args:
        folder: where to begin.

    Returns:
        A place, names of its folders (those that are taken out of the list are not visited) and of its files.
    """
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        yield Path(place), folders, files


# What a lock that another program holds says; anything else means that this disk has no locks.
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock; gives False where another program, or another part of this one, holds it.

    On a disk that has no locks everybody gets one.

    Args:
        path: of the lock's file, which is made and stays.

    Raises:
        OSError: the file cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock; never makes its file."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock an open file; closing it unlocks it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True
