"""How good predicted landmarks are.

predictions, references  ->  evaluate_sets (report)  ->  Evaluation: figures, text
                         ->  metrics: errors in mm, detection rates, presence, coverage of the stated radius
probabilities, outcomes  ->  reliability: do stated probabilities mean what they say?
two models, same cases   ->  paired: improvement over subjects with interval and test
"""

from H3DELandmarksLib.evaluation.report import Evaluation, evaluate_sets

__all__ = ["Evaluation", "evaluate_sets"]
