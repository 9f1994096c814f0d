"""MRML in and out: scans and point lists of a Slicer scene as volumes and landmark sets, and back.

The only room that imports slicer and vtk. It takes nodes and scenes as arguments, so that it works without the
application. Here millimeters change their frame: RAS in the scene, LPS in the library.
"""

from H3DELandmarksLib.scene.detections import latest_detection, may_be_replaced, show_detection
from H3DELandmarksLib.scene.point_list import create_point_list, landmarks_from_point_list, update_point_list
from H3DELandmarksLib.scene.subject_hierarchy import place_beside
from H3DELandmarksLib.scene.volumes import volume_from_node, why_unusable

__all__ = [
    "create_point_list",
    "landmarks_from_point_list",
    "latest_detection",
    "may_be_replaced",
    "place_beside",
    "show_detection",
    "update_point_list",
    "volume_from_node",
    "why_unusable",
]
