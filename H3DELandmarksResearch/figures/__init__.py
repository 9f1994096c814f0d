"""Figures for checks, curves, reports and cards: `canvas` gives one, `layout` says which views of a scan it shows."""
