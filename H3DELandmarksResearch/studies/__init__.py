"""The studies behind the tables of docs/results: one script each, with its command in its docstring."""
