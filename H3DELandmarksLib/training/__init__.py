"""Training of one stage's network from annotated cases, which retraining and configurations share.

    Case (cases)  ->  prepare_case  ->  CropSampler (sampling, augmentation)  ->  StageTrainer (loop, losses)
                  ->  averaged_weights  ->  fit_calibration, radii (calibration)

`warm_start` lets a stage begin with the weights of another model. What is drawn follows from the seed and the number
of the step alone, so that a run that was interrupted ends with the weights of one that was not.
"""
