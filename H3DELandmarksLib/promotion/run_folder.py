"""What a retraining says of itself: its candidate and the cases that it learnt from and held out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.models import ModelPackage, open_package
from H3DELandmarksLib.models.lineage import Lineage, ModelReference

RUN, PACKAGE, COMPARISON = "run.json", "package", "comparison.json"
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class RunFolder:
    """A retraining on disk.

    Attributes:
        folder: of the run.
        lineage: its base and all its cases.
        state: "running", "cancelled", "failed" or "done".
    """

    folder: Path
    lineage: Lineage
    state: str

    def candidate(self) -> ModelPackage:
        """The package that the run has made.

        Raises:
            InputError: the run is not done.
            ModelPackageError: the package cannot be used.
        """
        if self.state != "done":
            raise InputError(f"The retraining in '{self.folder}' is not finished ({self.state}): resume it first.")
        return open_package(self.folder / PACKAGE)

    @property
    def base(self) -> ModelReference | None:
        """The model that the run started from; None where it started from nothing."""
        return self.lineage.base


def read_run(folder: str | Path) -> RunFolder:
    """Read the record of a retraining.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(folder) / RUN
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        return RunFolder(Path(folder), Lineage.from_dict(content), str(content["state"]))
    except FileNotFoundError as error:
        raise InputError(f"'{folder}' holds no retraining (no {RUN}): choose the folder of a run.") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"The record '{path}' cannot be read: retrain again, or choose another run.") from error
