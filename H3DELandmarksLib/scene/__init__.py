"""MRML in and out: scans and point lists of a Slicer scene as volumes and landmark sets, and back.

The only room that imports slicer and vtk. It takes nodes and scenes as arguments, so that it works without the
application. Here millimeters change their frame: RAS in the scene, LPS in the library.
"""

from H3DELandmarksLib.scene.cases import (
    ReviewedCase,
    find_case,
    remember_case,
    reviewed_case,
    show_case,
    world_position_of,
)
from H3DELandmarksLib.scene.charts import PointComparison, compare_point_lists, remove_curves, show_curves
from H3DELandmarksLib.scene.detections import latest_detection, may_be_replaced, provenance_of_list, show_detection
from H3DELandmarksLib.scene.export import export_review
from H3DELandmarksLib.scene.looks import looks_of
from H3DELandmarksLib.scene.measures import (
    definitions_of_list,
    draw_measurements,
    drawn_measurements,
    measure_list,
    remove_measurements,
    remove_orphaned_measurements,
    update_measurements,
)
from H3DELandmarksLib.scene.point_list import (
    create_point_list,
    landmarks_from_point_list,
    list_unit,
    place_beside,
    update_point_list,
    volume_of,
)
from H3DELandmarksLib.scene.proposal import HardeningWatch, proposed_landmarks
from H3DELandmarksLib.scene.review import Review, ReviewedLandmark, ReviewState, expected_position
from H3DELandmarksLib.scene.review_display import ReviewDisplay, review_field_of_view
from H3DELandmarksLib.scene.review_history import ReviewHistory
from H3DELandmarksLib.scene.revision import (
    Follower,
    corrections_of,
    mend,
    points_for_second_look,
    revealed_error,
    systematic_error,
    take_second_look,
)
from H3DELandmarksLib.scene.views import (
    begin_placing,
    center_views,
    end_placing,
    follow_point,
    hide_radius,
    hide_trace,
    interaction_node,
    is_placing,
    show_radius,
    show_trace,
)
from H3DELandmarksLib.scene.volumes import (
    bind_region,
    current_frame,
    exceeds_spacing,
    fit_to_points,
    fit_to_volume,
    is_region_of_other,
    own_volume_from_node,
    region_from_node,
    scan_facts,
    select_frame,
    volume_from_node,
    why_not_for_model,
    why_region_misses,
    why_unusable,
)
from H3DELandmarksLib.scene.windows import hide_surface, show_surface, show_window

__all__ = [
    "bind_region",
    "is_region_of_other",
    "why_region_misses",
    "PointComparison",
    "Follower",
    "HardeningWatch",
    "Review",
    "ReviewDisplay",
    "ReviewHistory",
    "ReviewState",
    "ReviewedCase",
    "ReviewedLandmark",
    "begin_placing",
    "center_views",
    "compare_point_lists",
    "corrections_of",
    "create_point_list",
    "current_frame",
    "definitions_of_list",
    "draw_measurements",
    "drawn_measurements",
    "measure_list",
    "remove_measurements",
    "remove_orphaned_measurements",
    "update_measurements",
    "end_placing",
    "exceeds_spacing",
    "find_case",
    "fit_to_points",
    "expected_position",
    "export_review",
    "follow_point",
    "fit_to_volume",
    "hide_radius",
    "hide_trace",
    "hide_surface",
    "interaction_node",
    "is_placing",
    "landmarks_from_point_list",
    "list_unit",
    "latest_detection",
    "looks_of",
    "may_be_replaced",
    "mend",
    "points_for_second_look",
    "revealed_error",
    "take_second_look",
    "own_volume_from_node",
    "place_beside",
    "proposed_landmarks",
    "provenance_of_list",
    "region_from_node",
    "remember_case",
    "remove_curves",
    "review_field_of_view",
    "reviewed_case",
    "select_frame",
    "scan_facts",
    "show_case",
    "show_curves",
    "show_detection",
    "show_radius",
    "show_trace",
    "show_surface",
    "show_window",
    "systematic_error",
    "update_point_list",
    "volume_from_node",
    "volume_of",
    "why_not_for_model",
    "why_unusable",
    "world_position_of",
]
