"""Figures: `canvas` gives one in memory, `layout` says which views of a scan it shows; checks, curves, reports, cards."""
