"""Training of a model from a configuration: cases, every stage, calibration, accuracy on test cases, package and card.

Sampling, losses and the loop are the library's (`H3DELandmarksLib.training`), which retraining uses, too; the published
losses, several processes that train one model, and checkpoints of version 0.1 join them from here.
"""
