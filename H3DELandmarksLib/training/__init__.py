"""From annotated cases to a model package: sampling, losses, the loop, calibration."""
