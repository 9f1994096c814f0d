"""MRML in and out: scans and point lists of a Slicer scene as volumes and landmark sets, and back.

The only room that imports slicer and vtk. It takes nodes and scenes as arguments, so that it works without the
application. Here millimeters change their frame: RAS in the scene, LPS in the library.
"""

from H3DELandmarksLib.scene.comparison import Comparison, compare_point_lists
from H3DELandmarksLib.scene.detections import latest_detection, may_be_replaced, show_detection
from H3DELandmarksLib.scene.hardening import HardeningWatch
from H3DELandmarksLib.scene.learning_curve import remove_curves, show_curves
from H3DELandmarksLib.scene.placing import begin_placing, end_placing, interaction_node, is_placing
from H3DELandmarksLib.scene.point_list import create_point_list, landmarks_from_point_list, update_point_list
from H3DELandmarksLib.scene.proposal import proposed_landmarks
from H3DELandmarksLib.scene.region import fit_to_points, fit_to_volume, region_from_node
from H3DELandmarksLib.scene.review import Review, ReviewedLandmark, ReviewState
from H3DELandmarksLib.scene.review_history import ReviewHistory
from H3DELandmarksLib.scene.sequences import current_frame
from H3DELandmarksLib.scene.subject_hierarchy import place_beside
from H3DELandmarksLib.scene.training_case import (
    ReviewedCase,
    find_case,
    remember_case,
    reviewed_case,
    show_case,
    show_points_of,
    volume_of,
    world_position_of,
)
from H3DELandmarksLib.scene.views import center_views, hide_radius, show_radius
from H3DELandmarksLib.scene.volumes import own_volume_from_node, volume_from_node, why_not_for_model, why_unusable

__all__ = [
    "Comparison",
    "HardeningWatch",
    "Review",
    "ReviewHistory",
    "ReviewState",
    "ReviewedCase",
    "ReviewedLandmark",
    "begin_placing",
    "center_views",
    "compare_point_lists",
    "create_point_list",
    "current_frame",
    "end_placing",
    "find_case",
    "fit_to_points",
    "fit_to_volume",
    "hide_radius",
    "interaction_node",
    "is_placing",
    "landmarks_from_point_list",
    "latest_detection",
    "may_be_replaced",
    "own_volume_from_node",
    "place_beside",
    "proposed_landmarks",
    "region_from_node",
    "remember_case",
    "remove_curves",
    "reviewed_case",
    "show_case",
    "show_curves",
    "show_detection",
    "show_points_of",
    "show_radius",
    "update_point_list",
    "volume_from_node",
    "volume_of",
    "why_not_for_model",
    "why_unusable",
    "world_position_of",
]
