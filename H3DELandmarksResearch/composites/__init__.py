"""Composites: the phantom's teeth, with exact points, in the jaws of real head and neck CT."""

from H3DELandmarksResearch.composites.case import CompositeCase, generate_composite
from H3DELandmarksResearch.composites.patient import Patient, read_patient

__all__ = ["CompositeCase", "Patient", "generate_composite", "read_patient"]
