"""Retraining: a model learns from the corrected cases of a person, or a new one begins with them.

    newest_cases (cases)  ->  plan_fine_tuning or plan_new_model  ->  start_run  ->  retrain (run)
                          ->  build_candidate (candidate)  ->  compare_models (compare)  ->  promote_run (promote)

A run lies in a folder::

    run.json                 what was decided at the start, and how far the run is; see `formats.run`
    STAGE/curve.csv          error in mm on cases that the stage does not learn from
    STAGE/checkpoint.safetensors  from which a run that was killed goes on
    package/                 the candidate, a model package

Everything that a run does follows from its ``run.json``, so that a run which was interrupted ends with the weights
of one that was not, whatever was added to the cases meanwhile. Only `fine_tuning`, `new_model`, `candidate` and `run`
need PyTorch.
"""
