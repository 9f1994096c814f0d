"""Writing files so that a reader, or an interrupted run, never meets half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

TEMPORARY_PREFIX = ".h3de-"


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
