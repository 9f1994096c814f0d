"""The commands that only a researcher needs; `H3DELandmarksLib.cli.main` adds them where this package is."""

from H3DELandmarksResearch.cli import (
    convert,
    demo,
    evaluate,
    import_published,
    phantom,
    radiographs,
    recalibrate,
    report,
)

COMMANDS = (evaluate, report, convert, radiographs, phantom, demo)
MODEL_ACTIONS = (import_published, recalibrate)

__all__ = ["COMMANDS", "MODEL_ACTIONS"]
