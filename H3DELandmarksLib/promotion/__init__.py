"""From a candidate to a better model: compared on held-out cases, promoted by a rule, shared with others.

``held_out`` chooses the cases that may judge, ``compare`` pairs the errors of both models, ``rule`` decides,
``promote`` makes the candidate the current version (``models.versions`` keeps the others and leads back), and
``sharing`` writes and reads models for other sites.
"""

from H3DELandmarksLib.promotion.compare import compare_models, detect_both
from H3DELandmarksLib.promotion.comparison import Comparison, read_comparison, write_comparison
from H3DELandmarksLib.promotion.held_out import held_out_cases
from H3DELandmarksLib.promotion.promote import promote_run
from H3DELandmarksLib.promotion.rule import Rule, decide
from H3DELandmarksLib.promotion.run_folder import read_run
from H3DELandmarksLib.promotion.sharing import add_shared, share_model

__all__ = [
    "Comparison", "Rule", "add_shared", "compare_models", "decide", "detect_both", "held_out_cases", "promote_run",
    "read_comparison", "read_run", "share_model", "write_comparison",
]  # fmt: skip
