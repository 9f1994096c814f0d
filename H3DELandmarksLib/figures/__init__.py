"""Figures that the panel and its child process draw: checks of cases, comparisons, learning curves.

`canvas` gives a figure in memory, `layout` says which views of a scan it shows and where; reports and model cards are
the research package's.
"""
