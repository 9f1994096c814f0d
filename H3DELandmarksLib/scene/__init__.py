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
from H3DELandmarksLib.scene.detections import (
    latest_detection,
    may_be_replaced,
    provenance_of_list,
    rejoin_scan_of_original,
    show_detection,
)
from H3DELandmarksLib.scene.export import export_review
from H3DELandmarksLib.scene.measures import (
    definitions_of_list,
    draw_measurements,
    drawn_measurements,
    measure_list,
    measured_lists,
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
from H3DELandmarksLib.scene.proposal import HardeningWatch, HardeningWatches, landmarks_of_list, proposed_landmarks
from H3DELandmarksLib.scene.review import Review, ReviewedLandmark, ReviewState, expected_position
from H3DELandmarksLib.scene.review_display import (
    ReviewDisplay,
    forget_interrupted_review,
    hide_list,
    hide_other_points,
    review_field_of_view,
    show_hidden_list,
    show_own_points,
)
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
from H3DELandmarksLib.scene.scan_of_points import (
    bind_decided_points,
    can_follow_scan,
    follow_scan,
    frame_of,
    has_left_scan,
    has_lost_scan,
    is_of,
    rejoin_scan,
    shows_frame,
    why_apart,
)
from H3DELandmarksLib.scene.views import (
    begin_placing,
    center_views,
    end_placing,
    follow_point,
    forget_placing,
    hide_radius,
    hide_trace,
    interaction_node,
    is_placing,
    looks_of,
    show_radius,
    show_trace,
    shown_volumes,
    uncover_background,
)
from H3DELandmarksLib.scene.volumes import (
    bind_region,
    current_frame,
    exceeds_spacing,
    fit_to_points,
    fit_to_volume,
    give_region,
    has_volume,
    is_region_of_other,
    own_volume_from_node,
    region_from_node,
    scan_facts,
    select_frame,
    volume_from_node,
    voxel_time,
    why_not_for_model,
    why_region_misses,
    why_unusable,
)
from H3DELandmarksLib.scene.windows import hide_surface, show_surface, show_window
