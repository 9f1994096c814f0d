"""How good predicted landmarks are: errors in mm, detection rates, presence, coverage of the stated radius."""

from H3DELandmarksLib.evaluation.report import Evaluation, evaluate_sets

__all__ = ["Evaluation", "evaluate_sets"]
