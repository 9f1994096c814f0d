"""What networks say of all landmarks of a scan before calibration, how several looks become one, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.candidates import Candidates, pooled
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.rows import RowCount
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.formats.results import MiscountedResult, RecognitionResult


@dataclass(frozen=True)
class RawPredictions:
    """Best guesses for all K landmarks of a scheme, whether they exist or not.

    Attributes:
        positions: (K, 3) LPS mm, NaN where no stage has looked yet.
        presence_logit: (K,) uncalibrated log-odds of presence; -inf where no stage has looked yet.
        concentration: (K,) share of probability around the peak.
        pose: placement of the model frame.
        candidates: all places where the landmarks may lie; None where the decoder gives none.
        count: how sure it is which structure is which; None where none was counted.
        closer: (K, 3) LPS mm that a closer look at placed points gives, NaN of others; None without such a look.
    """

    positions: np.ndarray
    presence_logit: np.ndarray
    concentration: np.ndarray
    pose: Pose
    candidates: Candidates | None = None
    count: RowCount | None = None
    closer: np.ndarray | None = None

    @classmethod
    def nothing(cls, count: int, pose: Pose) -> RawPredictions:
        """No landmark found yet."""
        return cls(np.full((count, 3), np.nan), np.full(count, -np.inf), np.zeros(count), pose)

    def moved(self, motion: Pose) -> RawPredictions:
        """The same findings after a rigid motion of everything."""
        pose = Pose(motion.rotation @ self.pose.rotation, motion.to_lps(self.pose.translation))
        candidates = self.candidates and self.candidates.moved(motion)
        closer = None if self.closer is None else motion.to_lps(self.closer)
        return replace(self, positions=motion.to_lps(self.positions), pose=pose, candidates=candidates, closer=closer)

    @property
    def weights(self) -> np.ndarray:
        """(K,) trust in each position, from 0 to 1, before calibration."""
        finite = np.isfinite(self.positions).all(axis=1)
        return np.where(finite, self.concentration / (1 + np.exp(-np.clip(self.presence_logit, -50, 50))), 0.0)


@dataclass(frozen=True)
class Detection:
    """What a model says of a scan.

    Attributes:
        landmarks: what it stands for, LPS mm; where the scan is not recognised, nothing is known of any landmark.
        recognition: whether the scan looks like those that the model knows; None where the model cannot tell.
        doubtful: what its networks say all the same, before anything is withheld; see `on_request` for what people
            see of it.
        candidates: all places where the landmarks may lie, in the scheme's order, for `core.revision`; None where
            the model's decoder gives none.
        miscounted: how likely structures are counted one off; None where the model counts none, or cannot tell.
        expected: (K, 3) LPS mm where the mean shape, laid over what was found, has the landmarks; None where nobody
            has looked.
    """

    landmarks: LandmarkSet
    recognition: RecognitionResult | None
    doubtful: LandmarkSet
    candidates: Candidates | None = None
    miscounted: MiscountedResult | None = None
    expected: np.ndarray | None = None

    @property
    def on_request(self) -> LandmarkSet:
        """What is shown to those who want points of scans that are not recognised, too.

        Where the scan is recognised, or the model cannot tell, that is what it stands for. Else nothing is absent: of
        what was not found nothing is known. No radius holds where structures may be counted one off.
        """
        if self.recognition is None or self.recognition.recognised:
            return self.landmarks
        points = self.doubtful.unknown_where(~self.doubtful.present, Cause.UNLIKE)
        if self.miscounted is None or not self.miscounted.doubtful:
            return points
        return replace(points, radius=np.full(len(points), np.nan))

    def scaled(self, factor: float) -> Detection:
        """The same with all lengths multiplied, about the origin."""
        if factor == 1:
            return self
        both = (
            replace(one, positions=one.positions * factor, radius=one.radius * factor)
            for one in (self.landmarks, self.doubtful)
        )
        landmarks, doubtful = both
        candidates = self.candidates and self.candidates.magnified(factor)
        expected = None if self.expected is None else self.expected * factor
        return replace(self, landmarks=landmarks, doubtful=doubtful, candidates=candidates, expected=expected)


def merge_best(findings: Sequence[RawPredictions]) -> RawPredictions:
    """For each landmark the finding with the most evidence of presence."""
    best = np.argmax([f.presence_logit for f in findings], axis=0)
    rows = np.arange(len(best))

    def pick(name: str) -> np.ndarray:
        picked: np.ndarray = np.stack([getattr(f, name) for f in findings])[best, rows]
        return picked

    return RawPredictions(
        pick("positions"), pick("presence_logit"), pick("concentration"), findings[0].pose, _pooled(findings)
    )


def _pooled(findings: Sequence[RawPredictions], summed: bool = False) -> Candidates | None:
    looks = [f.candidates for f in findings if f.candidates is not None]
    if not looks:
        return None
    return pooled([look.scaled(1 / len(looks)) for look in looks] if summed else looks, summed)


def merge_mean(findings: Sequence[RawPredictions]) -> RawPredictions:
    """Mean of several looks at the same landmarks, positions weighted by trust."""
    weights = np.stack([np.maximum(f.weights, 1e-9) * np.isfinite(f.positions).all(axis=1) for f in findings])
    total = weights.sum(axis=0)
    positions = np.nan_to_num(np.stack([f.positions for f in findings]))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (positions * weights[..., None]).sum(axis=0) / total[:, None]
    seen = weights > 0

    def average(name: str, nothing: float) -> np.ndarray:
        values = np.where(seen, np.stack([getattr(f, name) for f in findings]), 0.0).sum(axis=0)
        return np.where(seen.any(axis=0), values / np.maximum(seen.sum(axis=0), 1), nothing)

    return RawPredictions(
        np.where(total[:, None] > 0, mean, np.nan),
        average("presence_logit", -np.inf),
        average("concentration", 0.0),
        findings[0].pose,
        _pooled(findings, summed=True),
    )
