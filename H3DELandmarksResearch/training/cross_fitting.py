"""Calibration by cases that a model learnt from: each is looked at by a model of the same kind that never saw it.

Where cases are few, none can be set apart. The models of a cross-validation then stand in for the one that learns from
all cases (CV+, Barber et al., Annals of Statistics 49:486, 2021); so does one earlier model for one that goes on from
its weights with the cases that were set apart before. They learnt from fewer cases, so that what their
errors teach is rather too cautious than too hopeful.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Grid, Volume
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel, rigid_fit
from H3DELandmarksLib.core.text import first_of, plural
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.training import recorded_cases
from H3DELandmarksLib.models import ModelPackage, open_package
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.recognition import Finder
from H3DELandmarksResearch.training.remembered import Remembered

CROSS_FITTED = "cross-fitted"
FOLD, PACKAGE, LOOKS = "fold-*", "package", "looks"
FEWEST_HELD = 20  # cases that suffice where every model has learnt from some
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Cases that teach a calibration, and what looks at them without having learnt from them."""

    finder: Finder
    cases: Sequence[Case]


@dataclass(frozen=True)
class StandIn:
    """A model of a fold; its findings come in the frame of the model that it stands in for.

    Attributes:
        finder: the fold's model.
        own: its mean shape.
        shape: mean shape of the model that is calibrated.
    """

    finder: Finder
    own: ShapeModel
    shape: ShapeModel

    def findings(self, volume: Volume) -> RawPredictions:
        """As `Detector.findings`."""
        found = self.finder.findings(volume)
        turn = rigid_fit(self.shape.mean, self.own.mean)
        pose = Pose(found.pose.rotation @ turn.rotation, found.pose.to_lps(turn.translation))
        return replace(found, pose=pose)

    def grid_of(self, volume: Volume) -> Grid:
        """As `Detector.grid_of`."""
        return self.finder.grid_of(volume)


def folds_of(folder: Path, package: ModelPackage, cases: Sequence[Case], cache: Path) -> list[Part]:
    """The cases, each with the model of that fold which was tested on it.

    Args:
        folder: of a cross-validation, as `studies.cross_validation` leaves it.
        package: what is calibrated.
        cases: of which some model there must not have learnt each, or `FEWEST_HELD` at least; others are left out.
        cache: folder in which what these models find is kept between runs.

    Raises:
        InputError: there are no models in the folder, one has other networks or landmarks than the package, or too
            few cases were held out from any.
    """
    parts, waiting = [], {case.name: case for case in cases}
    shape = Detector(package).shape
    for path in sorted(folder.glob(f"{FOLD}/{PACKAGE}")):
        fold = open_package(path)
        same = [[stage.network for stage in each.manifest.stages] for each in (fold, package)]
        if same[0] != same[1] or fold.scheme.names != package.scheme.names:
            raise InputError(f"'{path}' is not of the kind of '{package.id}': give the folder of its cross-validation.")
        taught = set(recorded_cases(fold.manifest, "train"))
        if not taught:
            raise InputError(f"'{path}' does not say what it has learnt from: give models with their records.")
        held = [name for name in waiting if name not in taught]
        detector = Detector(fold)
        stand_in = StandIn(Remembered(detector, cache / LOOKS), detector.shape, shape)
        parts.append(Part(stand_in, [waiting.pop(name) for name in held]))
    if not parts:
        raise InputError(f"'{folder}' holds no models of folds: run the study cross_validation first.")
    count = sum(len(part.cases) for part in parts)
    if waiting and count < FEWEST_HELD:
        raise InputError(
            f"No model in '{folder}' was held out from {first_of(list(waiting))}: finish the cross-validation first."
        )
    if waiting:
        logger.warning("%s calibrate; every model has learnt from the other %d.", plural(count, "case"), len(waiting))
    return parts
