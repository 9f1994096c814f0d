"""``python -m benchmarks.fuzzing``: so many damaged files for every reader, and what did not end in a sentence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The panel's own modules with the stand-in for Slicer, and the helpers of the tests.
sys.path[:0] = [str(ROOT / name) for name in ("Testing/helpers", "Testing/standin", "H3DELandmarks")]

from benchmarks.fuzzing.campaign import run_campaign, work  # noqa: E402
from benchmarks.fuzzing.readers import READERS  # noqa: E402


def main() -> int:
    """Run; the exit code is 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzzing", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="how many for all readers together (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first input of each reader (default: 0)")
    parser.add_argument("--readers", nargs="+", choices=sorted(READERS), default=sorted(READERS))
    parser.add_argument("--workers", type=int, default=1, help="processes at once (default: 1)")
    parser.add_argument(
        "--output", type=Path, default=Path("fuzz-output"), help="where the files go that found a fault"
    )
    parser.add_argument("--minutes", type=float, help="begin no further input after so long")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)  # what a child process does
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return 0
    given = options.readers, options.inputs, options.seed, options.workers, options.output, options.minutes
    return run_campaign(*given)


if __name__ == "__main__":
    sys.exit(main())
