"""A digital phantom: seeded cone-beam-like CT of the lower jaw with exact positions of 14 points on its molars."""

from H3DELandmarksResearch.phantom.anatomy import Anatomy, draw_anatomy
from H3DELandmarksResearch.phantom.case import PhantomCase, generate_phantom
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME, MOLARS

__all__ = ["MOLARS", "MOLAR_SCHEME", "Anatomy", "PhantomCase", "draw_anatomy", "generate_phantom"]
