"""Measures for reports: Procrustes analysis of shapes, and whether stated confidence holds."""
