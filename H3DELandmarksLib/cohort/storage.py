"""Adding folders to a project so that each is there completely or not at all.

A folder is made aside and then renamed. A rename never replaces a folder that holds files, on any system, so that of
two programs that want the same place one gets it and the other is told. What a killed program leaves lies aside only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.files import TEMPORARY_PREFIX, flush, remove_forgotten, replaced_when_complete

ASIDE = f"{TEMPORARY_PREFIX}incoming"


@contextmanager
def folder_aside(project: Path) -> Iterator[Path]:
    """A new folder to prepare what will be added; removed at the end with whatever is left in it.

    Raises:
        InputError: something in the block could not be written.
    """
    aside = project / ASIDE / uuid4().hex
    try:
        aside.mkdir(parents=True)
        remove_forgotten([*aside.parent.iterdir(), *project.glob(f"{TEMPORARY_PREFIX}*-*")])
        yield aside
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"The project '{project}' cannot be written to ({reason}): check the permission and the free space; "
            "what was complete before is unchanged."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file that takes the place of an older one when it is complete."""
    with replaced_when_complete(path) as temporary:
        temporary.write_bytes(content)
        flush(temporary)
