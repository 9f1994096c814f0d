"""Small files that another program reads while training writes them."""

from __future__ import annotations

import time
from pathlib import Path

from H3DELandmarksLib.files import replaced_when_complete

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
