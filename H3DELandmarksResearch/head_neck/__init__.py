"""Landmarks of the human head and neck, derived from clinicians' contours of organs in planning CT."""

from H3DELandmarksResearch.head_neck.derive import derive_landmarks
from H3DELandmarksResearch.head_neck.scheme import HEAD_NECK_SCHEME, ORGANS
from H3DELandmarksResearch.head_neck.stability import derive_stable

__all__ = ["HEAD_NECK_SCHEME", "ORGANS", "derive_landmarks", "derive_stable"]
