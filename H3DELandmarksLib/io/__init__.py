"""Images, point lists and tables on disk."""
