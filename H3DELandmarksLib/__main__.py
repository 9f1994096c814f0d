"""``python -m H3DELandmarksLib``: see `H3DELandmarksLib.cli.main`."""

from __future__ import annotations

import sys

from H3DELandmarksLib.cli.main import main

if __name__ == "__main__":
    sys.exit(main(program="python -m H3DELandmarksLib"))
