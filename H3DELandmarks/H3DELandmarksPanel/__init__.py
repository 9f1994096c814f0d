"""The parts of the panel, one task each; H3DELandmarks.py wires them together."""
