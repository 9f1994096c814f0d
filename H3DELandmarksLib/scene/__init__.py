"""MRML in and out: scans and point lists of a Slicer scene as volumes and landmark sets, and back.

The only room that imports slicer and vtk. It takes nodes and scenes as arguments, so that it works without the
application. Here millimeters change their frame: RAS in the scene, LPS in the library.
"""

from H3DELandmarksLib.scene.frames import lps_from_ras
from H3DELandmarksLib.scene.point_list import create_point_list, landmarks_from_point_list, update_point_list
from H3DELandmarksLib.scene.subject_hierarchy import place_beside
from H3DELandmarksLib.scene.volumes import volume_from_node, why_unusable

__all__ = [
    "create_point_list",
    "landmarks_from_point_list",
    "lps_from_ras",
    "place_beside",
    "update_point_list",
    "volume_from_node",
    "why_unusable",
]
