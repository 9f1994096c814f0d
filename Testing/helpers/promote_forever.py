"""Promotes and reverts until it is killed, and prints each thing that is done: what the test of kills runs."""

import itertools
import json
import sys
from pathlib import Path

from toy_package import CARD, toy_package

from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.models import registry
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksLib.models.versions import add_version, revert


def main(home: Path, seed: int) -> None:
    """Args: folder with "user" and "bundled", and a number that makes the models of this process its own."""
    registry.user_folder = lambda: home / "user"
    registry.bundled_folder = lambda: home / "bundled"
    for number in itertools.count(1):
        package = toy_package(home / f"new-{seed}", 1000 * (seed + 1) + number, version="1.1.0", replace=True)
        kept = add_version(package, package.content, CARD, "promote")
        print(json.dumps({"event": "promote", "version": kept.version, "digest": package_digest(kept)}), flush=True)
        try:
            back = revert("toy", "1.0.0").package
        except ModelPackageError as error:
            if "is the current one already" in str(error):  # another process was faster
                continue
            raise
        print(json.dumps({"event": "revert", "version": "1.0.0", "digest": package_digest(back)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
