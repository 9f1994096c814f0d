"""Retraining: a model learns from the corrected cases of a project, or a new one begins with them.

A run lies in a folder::

    run.json                 what was decided at the start, and how far the run is; see `record`
    STAGE/curve.csv          error in mm on cases that the stage doesn't learn from
    STAGE/checkpoint.pt      from which a run that was killed goes on
    package/                 the candidate, a model package

Everything that a run does follows from its ``run.json``, so that a run which was interrupted ends with the weights
of one that was not, whatever was added to the project meanwhile.
"""

from H3DELandmarksLib.formats.run import RunRecord, read_record
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.new_model import plan_new_model
from H3DELandmarksLib.retraining.run import Status, retrain, start_run

__all__ = ["RunRecord", "Status", "plan_fine_tuning", "plan_new_model", "read_record", "retrain", "start_run"]
