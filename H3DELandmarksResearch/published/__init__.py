"""Checkpoints of published networks as model packages."""
