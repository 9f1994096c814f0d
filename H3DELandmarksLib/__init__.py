"""Anatomical landmarks in medical volumes: detection, correction and learning, without a window."""

__version__ = "0.1.0"
