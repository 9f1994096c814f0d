"""Which other models recognise a scan in which one has seen nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.models import ModelPackage, available_models, find_model
from H3DELandmarksLib.models.fit import ScanFacts, crop_count, fitting_first

if TYPE_CHECKING:
    from H3DELandmarksLib.detection.detector import Detector

logger = logging.getLogger(__name__)
# A model that needs more crops than this to search the scan is not asked: it would take minutes.
MAX_CROPS = 200


def models_that_recognise(
    volume: Volume, but: str, load: Callable[[ModelPackage], Detector], modality: str = ""
) -> list[ModelPackage]:
    """The models that recognise a scan and find a point in it, the one that finds it least strange first.

    Only models that may fit by the scan's header, search it quickly and were taught to recognise their anatomy look at
    it; of several versions, the current one.

    Args:
        volume: the scan.
        but: id of the model that has looked already.
        load: makes a model ready.
        modality: DICOM's code, as for `ScanFacts`.
    """
    ids = dict.fromkeys(entry.package.id for entry in available_models() if entry.package)
    packages = [find_model(model_id) for model_id in ids if model_id != but]
    found: list[tuple[float, ModelPackage]] = []
    facts = ScanFacts.of(volume.grid, modality)
    for package, reason in fitting_first(packages, facts):
        is_slow = crop_count(package.manifest.stages[0], facts.extent.tolist()) > MAX_CROPS
        if reason or is_slow or package.manifest.calibration.recognition is None:
            continue
        try:
            detector = load(package)
            # Warnings would be about a model that nobody has chosen.
            said = detector.conclude(detector.findings(volume, silent=True), volume)
        except H3DELandmarksError as error:
            logger.info("The model '%s' cannot look at the scan: %s", package.id, error)
            continue
        if said.recognition is not None and said.recognition.recognised and said.landmarks.present.any():
            found.append((said.recognition.p_value, package))
    return [package for _, package in sorted(found, key=lambda pair: -pair[0])]
