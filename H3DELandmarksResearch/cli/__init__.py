"""The commands that the panel does not need; `H3DELandmarksLib.cli.main` adds them where this package is."""

from H3DELandmarksResearch.cli import (
    audit,
    cases,
    convert,
    demo,
    evaluate,
    export,
    import_published,
    measure,
    models,
    phantom,
    radiographs,
    recalibrate,
    report,
)

COMMANDS = (measure, export, audit, evaluate, report, convert, radiographs, phantom, demo)
ACTIONS = {"cases": (cases,), "models": (models, import_published, recalibrate)}

__all__ = ["ACTIONS", "COMMANDS"]
