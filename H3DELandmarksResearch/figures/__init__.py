"""Figures for reports and model cards: results over the scan, definitions of landmarks."""
