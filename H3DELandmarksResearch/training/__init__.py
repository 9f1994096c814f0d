"""Training of a model from a configuration: cases, every stage, calibration, accuracy on test cases, package and card.

Sampling, losses and the loop are the library's (`H3DELandmarksLib.training`), which retraining uses, too; the published
losses join them from here.
"""
