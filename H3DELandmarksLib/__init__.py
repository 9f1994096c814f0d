"""Anatomical landmarks in medical volumes: detection, correction and learning, without a window."""

__version__ = "0.2.0"
