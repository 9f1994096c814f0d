"""The commands of the command line that only a researcher needs; `H3DELandmarksLib.cli.main` adds them where they are."""

from H3DELandmarksResearch.cli import convert, import_published, phantom, radiographs

COMMANDS = (convert, radiographs, phantom)

__all__ = ["COMMANDS", "import_published"]
