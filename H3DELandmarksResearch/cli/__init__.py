"""The commands that only a researcher needs; ``H3DELandmarksLib.cli.research`` adds them where they are installed."""

from H3DELandmarksResearch.cli import convert, import_published, phantom, radiographs

COMMANDS = (convert, radiographs, phantom)

__all__ = ["COMMANDS", "import_published"]
