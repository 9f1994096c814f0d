"""JSON Schemas of all files and results, for editors and programs: ``python -m H3DELandmarksResearch.schemas``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from H3DELandmarksLib.formats.case_record import ImageRecord, IndexRecord, RevisionRecord
from H3DELandmarksLib.formats.cohort import CohortScan
from H3DELandmarksLib.formats.comparison import Comparison
from H3DELandmarksLib.formats.export import ExportRecord
from H3DELandmarksLib.formats.lineage import Lineage
from H3DELandmarksLib.formats.manifest import Manifest
from H3DELandmarksLib.formats.measurements import MeasurementsRecord
from H3DELandmarksLib.formats.provenance import Provenance
from H3DELandmarksLib.formats.reading import json_schema
from H3DELandmarksLib.formats.results import DetectionResult
from H3DELandmarksLib.formats.run import RunRecord
from H3DELandmarksLib.formats.schemes import MigrationRecord, SchemeRecord
from H3DELandmarksLib.formats.untrusted_zip import ArchiveManifest
from H3DELandmarksLib.formats.versions import HistoryEntry
from H3DELandmarksResearch.cases.audit_record import AuditRecord
from H3DELandmarksResearch.training.record import TrainingConfiguration

FOLDER = Path(__file__).resolve().parents[1] / "Resources" / "Schemas"
# Formats by the name of their schema's file.
RECORDS: dict[str, type] = {
    "manifest": Manifest,
    "training-configuration": TrainingConfiguration,
    "run": RunRecord,
    "revision": RevisionRecord,
    "image": ImageRecord,
    "index": IndexRecord,
    "scheme": SchemeRecord,
    "migration": MigrationRecord,
    "archive": ArchiveManifest,
    "export": ExportRecord,
    "audit": AuditRecord,
    "comparison": Comparison,
    "lineage": Lineage,
    "version-entry": HistoryEntry,
    "detection-result": DetectionResult,
    "cohort-scan": CohortScan,
    "provenance": Provenance,
    "measurements": MeasurementsRecord,
}


def schema_files() -> dict[str, str]:
    """Text of every schema by file name; needs pydantic."""
    return {
        f"{name}.schema.json": json.dumps(json_schema(record), indent=1, ensure_ascii=False) + "\n"
        for name, record in RECORDS.items()
    }


def write_schemas(folder: Path = FOLDER) -> None:
    """Write all schemas into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(*(Path(argument) for argument in sys.argv[1:2]))
