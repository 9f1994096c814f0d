"""The whole path from a scan to a landmark set, as a model package describes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.errors import Cancelled, InputError, ModelPackageError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.geometry import Grid, Volume, canonical, orthonormal_axes, turn_degrees
from H3DELandmarksLib.core.image_plane import counted_as_high, lay_flat, why_other_kind
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.region import FEWEST
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.absence import on_one_side, only_known_absences
from H3DELandmarksLib.detection.bone_surface import placed_on_bone
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.closer import look_closer
from H3DELandmarksLib.detection.engine import EngineSettings
from H3DELandmarksLib.detection.point_evidence import point_features
from H3DELandmarksLib.detection.predictions import Detection, RawPredictions
from H3DELandmarksLib.detection.recognition import recognise
from H3DELandmarksLib.detection.scan import IntensityMapping, Scan, set_straight
from H3DELandmarksLib.detection.search import localize, refine, refine_until_settled
from H3DELandmarksLib.detection.stage import StageNetwork
from H3DELandmarksLib.detection.together import placed_together
from H3DELandmarksLib.formats.results import RecognitionResult
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.models.fit import HOPELESS

logger = logging.getLogger(__name__)
SEARCHING = "Searching the whole scan"
# A scan whose axes are turned by more than this from the patient's is also searched along its own.
OBLIQUE_DEGREES = 15.0


class Detector:
    """Finds the landmarks of one model package; networks are loaded once and serve any number of scans."""

    def __init__(
        self, package: ModelPackage, device: str = "auto", backend: str = "auto", precision: str = "auto"
    ) -> None:
        """Load the package's networks.

        Args:
            package: an opened model package.
            device: "auto", "cpu", "cuda" or "mps".
            backend: "auto", "torch" or "openvino"; see EngineSettings.
            precision: "auto", "fp32" or "half".

        Raises:
            ModelPackageError: weights are missing or damaged.
            InputError: the device does not exist here.
        """
        self.package = package
        manifest = package.manifest
        self.scheme = package.scheme
        self.engine = chosen = EngineSettings.choose(device, backend, precision)
        self.networks = [
            StageNetwork(stage, package.load_stage(stage), self.scheme, chosen) for stage in manifest.stages
        ]
        shape = package.load_shape()
        self.is_2d = manifest.is_2d
        self.shape = ShapeModel(shape.mean * (1, 1, 0 if self.is_2d else 1), shape.tolerance)
        self.anatomy = package.load_anatomy()
        self.calibration = Calibration.from_manifest(manifest.calibration)

    @property
    def has_fallen_back(self) -> bool:
        """Whether a network runs on the CPU because the chosen device has failed."""
        return any(getattr(network.engine, "has_fallen_back", False) for network in self.networks)

    def detect(
        self, volume: Volume, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
    ) -> LandmarkSet:
        """Find the landmarks of a scan.

        Args:
            volume: any orientation and spacing; one slice where the model reads radiographs.
            progress: receives the fraction done and what is being done.
            cancelled: asked between steps; True ends the work.

        Returns:
            All landmarks of the scheme; absent ones have no position. Those of a radiograph lie in its plane.

        Raises:
            Cancelled: `cancelled` said so.
            InputError: a model for volumes got a radiograph, or the reverse, or the scan is far too large.
        """
        return self.examine(volume, progress, cancelled).landmarks

    def examine(
        self,
        volume: Volume,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        beyond: Cause = Cause.OUTSIDE_SCAN,
    ) -> Detection:
        """Find the landmarks of a scan, and say what is known of each and why not.

        Radii were measured in scans with fine voxels, and in whole ones alone unless points have their own: in others
        none is stated, nor where structures may be counted one off, and none that does not hold. Points placed on bone
        keep the radius of the network's own.

        Args:
            volume, progress, cancelled: as for `detect`.
            beyond: why landmarks that are expected beyond the volume were not examined.
        """
        found = self.findings(volume, progress, cancelled)
        self._warn_of_coarse_voxels(volume)
        detection, surface = self.conclude(found, volume, beyond), self.package.manifest.bone_surface
        if surface is None or not detection.landmarks.present.any():
            return detection
        expected = found.pose.to_lps(self.shape.mean)
        landmarks = placed_on_bone(detection.landmarks, expected, volume, surface, self.scheme)
        is_placed = np.isfinite(landmarks.moved_mm)[:, None]
        positions = np.where(is_placed, landmarks.positions, detection.doubtful.positions)
        doubtful = replace(detection.doubtful, positions=positions, networks=landmarks.networks)
        return replace(detection, landmarks=landmarks, doubtful=doubtful)

    def conclude(self, found: RawPredictions, volume: Volume, beyond: Cause = Cause.OUTSIDE_SCAN) -> Detection:
        """What is known of each landmark, and why not.

        Args:
            found: what `findings` says of a scan.
            volume: the scan; its values do not count.
            beyond: as for `examine`.
        """
        volume, factor = self.in_own_lengths(volume)
        placed = self.placed(found)
        doubtful, recognition = self.landmark_set(placed, volume.grid), self.recognition(found)
        miscounted = self.calibration.miscounted(placed.count)
        everything = np.ones(len(doubtful), dtype=bool)
        if self._exceeds(volume, HOPELESS):
            doubtful = landmarks = doubtful.unknown_where(everything, Cause.TOO_COARSE)
        elif recognition is not None and not recognition.recognised:
            landmarks = doubtful.unknown_where(everything, Cause.UNLIKE)
        else:
            unseen = np.isneginf(found.presence_logit)
            if recognition is None and not doubtful.present.any():
                unseen = everything  # that all of it is absent is less likely than that it is something else
            landmarks = on_one_side(doubtful.unknown_where(unseen, Cause.UNLIKE), self.shape, self.scheme.pairs)
            landmarks = landmarks.unknown_where(self._expected_beyond(volume, landmarks, found.pose), beyond)
            landmarks = only_known_absences(landmarks, self.shape, found.pose, volume.grid, recognition)
            cut = beyond in landmarks.causes and self.calibration.points is None
            in_doubt = miscounted is not None and miscounted.doubtful
            measured = self.package.manifest.measured
            radii_hold = measured is None or measured.radii_hold  # on unseen cases, or nobody knows otherwise
            if cut or in_doubt or self._exceeds(volume, 1.0) or not radii_hold:
                landmarks = replace(landmarks, radius=np.full(len(landmarks), np.nan))
        expected = found.pose.to_lps(self.shape.mean)
        detection = Detection(landmarks, recognition, doubtful, found.candidates, miscounted, expected)
        return detection.scaled(1 / factor)

    def grid_of(self, volume: Volume) -> Grid:
        """A scan's grid in the lengths of what `findings` says of it."""
        return self.in_own_lengths(volume)[0].grid

    def in_own_lengths(self, volume: Volume) -> tuple[Volume, float]:
        """A scan in the model's lengths, which are the patient's mm or shares of a radiograph's height."""
        height = self.package.manifest.height_mm
        return (volume, 1.0) if height is None else counted_as_high(volume, height)

    def _expected_beyond(self, volume: Volume, landmarks: LandmarkSet, pose: Pose) -> np.ndarray:
        """(K,) bool: not found, and expected outside the volume by the mean shape that is laid over the others."""
        if landmarks.present.sum() < FEWEST:
            return np.zeros(len(landmarks), dtype=bool)
        beyond: np.ndarray = ~landmarks.present & ~volume.grid.contains(pose.to_lps(self.shape.mean))
        return beyond

    def recognition(self, found: RawPredictions) -> RecognitionResult | None:
        """Whether a scan looks like those that the model was calibrated with; None where the model cannot tell.

        Args:
            found: what `findings` says of the scan.
        """
        return recognise(found, self.calibration)

    def likely_places(
        self, volume: Volume, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
    ) -> LandmarkSet | None:
        """Where the landmarks are likely to lie, to search there with a finer model; parameters as for `detect`.

        Returns:
            All landmarks as present: those that are absent, because they were missed or lie beyond the scan, where the
            mean shape expects them, laid over the others. None where fewer than `FEWEST` are present, or where the scan
            is not recognised.
        """
        found = self.findings(volume, progress, cancelled)
        self._warn_of_coarse_voxels(volume)
        _, factor = self.in_own_lengths(volume)
        landmarks, recognition = self.landmark_set(self.placed(found)), self.recognition(found)
        if landmarks.present.sum() < FEWEST or (recognition is not None and not recognition.recognised):
            return None
        expected = found.pose.to_lps(self.shape.mean)
        positions = np.where(landmarks.present[:, None], landmarks.positions, expected)
        return LandmarkSet(landmarks.names, positions / factor, np.ones(len(positions)))

    def findings(
        self,
        volume: Volume,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        silent: bool = False,
    ) -> RawPredictions:
        """Positions and evidence of all landmarks before calibration.

        Lengths are the model's own, see `ModelDescription.height_mm`; of other models they are the patient's.

        Args:
            volume, progress, cancelled: as for `detect`.
            silent: no warning of values that the model was not made for.
        """
        count = len(self.networks)

        def step(number: int, message: str) -> Callable[[float], None]:
            def report(fraction: float) -> None:
                if cancelled is not None and cancelled():
                    raise Cancelled("Detection was cancelled.")
                if progress is not None:
                    progress((number + fraction) / count, message)

            return report

        step(0, SEARCHING)(0.0)
        if reason := why_other_kind(self.package.id, self.is_2d, volume.array.shape):
            raise InputError(reason)
        volume, _ = self.in_own_lengths(volume)
        if self.is_2d:
            volume, lps_from_sheet = lay_flat(volume)
            found = self._on_either_side(self.scan_of(volume, silent), step, silent)
            return found.moved(Pose(lps_from_sheet[:3, :3], lps_from_sheet[:3, 3]))
        return self._along_either_axes(canonical(volume), step, silent)

    def _along_either_axes(
        self, volume: Volume, step: Callable[[int, str], Callable[[float], None]], silent: bool
    ) -> RawPredictions:
        """All stages along the patient's axes; of an oblique scan along its own where it is less strange in these.

        A model that searches in all poses, or cannot tell how strange a scan is, is not asked twice.
        """
        found = self._search(self.scan_of(volume, silent), step)
        axes = orthonormal_axes(volume.grid)
        degrees = turn_degrees(axes)
        if degrees <= OBLIQUE_DEGREES or self.networks[0].stage.sees_canonical_pose:
            return found
        before = self.recognition(found)
        if before is None:
            return found
        straight, back = set_straight(volume, axes)
        other = self._search(self.scan_of(straight, silent=True), step)
        after = self.recognition(other)
        if after is None or not after.recognised or after.p_value <= before.p_value:
            return found
        words = (
            "The scan's axes are turned by %.0f degrees from the patient's, and look more like what the model '%s' "
            "knows: it has searched along the scan's own axes."
        )
        logger.log(logging.DEBUG if silent else logging.WARNING, words, degrees, self.package.id)
        return other.moved(back)

    def _on_either_side(
        self, scan: Scan, step: Callable[[int, str], Callable[[float], None]], silent: bool
    ) -> RawPredictions:
        """All stages on a radiograph, and in its mirror image where only that is recognised, as of a face to the left.

        A model whose landmarks have sides is not asked twice: in the mirror, left would be right.
        """
        found = self._search(scan, step)
        if self.scheme.pairs or self.scheme.lateral or self._is_known(found):
            return found
        mirrored = self._search(scan.mirrored(), step)
        if not self._is_known(mirrored):
            return found
        words = (
            "The picture looks to the other side than those that the model '%s' knows: it was searched in the mirror."
        )
        logger.log(logging.DEBUG if silent else logging.WARNING, words, self.package.id)
        return mirrored.moved(scan.mirror)

    def _is_known(self, found: RawPredictions) -> bool:
        """Whether a scan is recognised, or the model cannot tell."""
        recognition = self.recognition(found)
        return recognition is None or recognition.recognised

    def _search(self, scan: Scan, step: Callable[[int, str], Callable[[float], None]]) -> RawPredictions:
        """All stages one after the other."""
        try:
            return self._all_stages(scan, step)
        except FloatingPointError as error:
            raise ModelPackageError(
                f"The model '{self.package.id}' cannot be used, since {error}: get it again from its source."
            ) from error

    def _all_stages(self, scan: Scan, step: Callable[[int, str], Callable[[float], None]]) -> RawPredictions:
        if self._exceeds(scan.volume, HOPELESS):
            return RawPredictions.nothing(len(self.scheme), Pose(np.eye(3), scan.volume.grid.center))
        found = localize(self.networks[0], scan, self.shape, step(0, SEARCHING))
        for number, network in enumerate(self.networks[1:], start=1):
            report = step(number, "Refining positions")
            report(0.0)
            if network.stage.is_closer:
                found = self.looked_closer(scan, found)
            elif network.stage.poses == "found":
                found = refine_until_settled(network, scan, self.shape, found)
            else:
                found = refine(network, scan, self.shape, found, canonical_pose=False)
            report(1.0)
        return found

    def landmark_set(self, found: RawPredictions, grid: Grid | None = None) -> LandmarkSet:
        """Calibrated landmarks from raw findings; no position is trusted more than that the landmark exists.

        Without a position there is neither confidence nor radius; a model that was not calibrated has radii of 0, and
        states none.

        Args:
            found: what `findings` says of a scan.
            grid: of the scan, see `grid_of`; without it, points count as far from the scan's ends.
        """
        presence = self.calibration.presence(found.presence_logit)
        features = point_features(found, self.shape, self.calibration, grid)
        confidence = self.calibration.confidence(features, found.count)
        radius = self.calibration.radius_of(features, self.calibration.radius90)
        shown = presence >= 0.5
        return LandmarkSet(
            self.scheme.names,
            found.positions,
            presence=presence,
            confidence=np.where(shown, np.minimum(confidence, presence), np.nan),
            radius=np.where(shown & (radius > 0), radius, np.nan),
            definitions=tuple(p.definition for p in self.scheme.landmarks),
        )

    def placed(self, found: RawPredictions) -> RawPredictions:
        """Raw findings with the positions that the model stands for: placed together, if it knows its anatomy."""
        if self.anatomy is None:
            return found
        return placed_together(found, self.calibration.presence(found.presence_logit), self.anatomy)

    def looked_closer(self, scan: Scan, found: RawPredictions) -> RawPredictions:
        """The findings with a closer look at what is placed together; as they are where the model has none."""
        network = self.networks[-1]
        if self.anatomy is None or not network.stage.is_closer:
            return found
        placed = self.placed(replace(found, closer=None))
        return replace(found, closer=look_closer(network, scan, self.shape, placed))

    def scan_of(self, volume: Volume, silent: bool = False) -> Scan:
        """A canonical volume, or a radiograph on its sheet, as networks see it; `silent` as for `findings`."""
        manifest = self.package.manifest
        intensity = IntensityMapping.for_volume(manifest.intensity, volume, silent)
        return Scan(volume, intensity, intensity.outside(manifest.outside))

    def _exceeds(self, volume: Volume, factor: float) -> bool:
        """Whether voxels are coarser than the model's limit by a factor: any of their edges, above 1 the mean edge."""
        limit = factor * (self.package.manifest.max_spacing_mm or np.inf)
        spacing = self._spacing(volume)
        edge = spacing.max() if factor == 1 else np.prod(spacing) ** (1 / len(spacing))
        return bool(edge > limit)

    def _spacing(self, volume: Volume) -> np.ndarray:
        """(3,) mm, or (2,) of a radiograph, in any order of axes."""
        return lay_flat(volume)[0].spacing[:2] if self.is_2d else volume.spacing

    def _warn_of_coarse_voxels(self, volume: Volume) -> None:
        volume, _ = self.in_own_lengths(volume)
        hopeless = self._exceeds(volume, HOPELESS)
        if hopeless or self._exceeds(volume, 1.0):
            logger.warning(
                "The scan's voxels (%.2f mm) are coarser than the model '%s' was made for (%.2f mm): %s.",
                self._spacing(volume).max(),
                self.package.id,
                self.package.manifest.max_spacing_mm,
                "no landmark can be seen in them" if hopeless else "check each point",
            )
