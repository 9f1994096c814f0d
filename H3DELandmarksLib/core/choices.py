"""What options of the command line may be; here, so that help texts need neither PyTorch nor other packages."""

DEVICES = ("auto", "cpu", "cuda", "mps")
BACKENDS = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "fp32", "half")
# Distances in mm within which a landmark counts as detected, as published.
THRESHOLDS_MM = (2.0, 2.5, 3.0, 4.0)
