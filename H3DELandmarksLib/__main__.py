"""``python -m H3DELandmarksLib``: see `H3DELandmarksLib.cli`."""

import sys

from H3DELandmarksLib.cli import main

if __name__ == "__main__":
    sys.exit(main(program="python -m H3DELandmarksLib"))
