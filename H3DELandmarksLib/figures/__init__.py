"""Pictures of results, drawn without OpenGL: projections of the scan with its landmarks, close-ups of doubtful ones."""

from H3DELandmarksLib.figures.detection import draw_detection, is_drawing

__all__ = ["draw_detection", "is_drawing"]
