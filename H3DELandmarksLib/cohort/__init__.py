"""Landmarks of any number of scans: what was given, how each is examined, where results go, and one table of all."""
