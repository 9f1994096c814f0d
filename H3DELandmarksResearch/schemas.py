"""JSON Schemas of all files and results, for editors and programs: ``python -m H3DELandmarksResearch.schemas``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.image_plane import in_unit
from H3DELandmarksLib.formats.case_record import GuideRecord, ImageRecord, IndexRecord, RevisionRecord
from H3DELandmarksLib.formats.comparison import Comparison
from H3DELandmarksLib.formats.export import ExportRecord
from H3DELandmarksLib.formats.lineage import Lineage
from H3DELandmarksLib.formats.manifest import Manifest
from H3DELandmarksLib.formats.measurements import MeasurementsRecord
from H3DELandmarksLib.formats.provenance import Provenance
from H3DELandmarksLib.formats.reading import LENGTHS, type_adapter
from H3DELandmarksLib.formats.results import CohortScan, DetectionResult, ProposalResult
from H3DELandmarksLib.formats.run import RunRecord
from H3DELandmarksLib.formats.schemes import MigrationRecord, SchemeRecord
from H3DELandmarksLib.formats.untrusted_zip import ArchiveManifest
from H3DELandmarksLib.formats.versions import HistoryEntry
from H3DELandmarksResearch.cases.audit import AuditRecord
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
    "proposal-result": ProposalResult,
    "guide": GuideRecord,
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


def json_schema(record: type) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a format."""
    schema = type_adapter(record).json_schema()
    if hasattr(record, LENGTHS):
        for part in (schema, *schema.get("$defs", {}).values()):
            _allow_pixels(part)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _allow_pixels(schema: dict[str, Any]) -> None:
    """Let the lengths of a record be there as pixels in place of mm."""
    known, needed = schema.get("properties", {}), schema.get("required", [])
    lengths = [name for name in known if name.endswith("_mm")]
    known |= {in_unit(name, "px"): known[name] for name in lengths}
    if both := [name for name in needed if name in lengths]:
        schema["required"] = [name for name in needed if name not in lengths]
        schema["anyOf"] = [{"required": both}, {"required": [in_unit(name, "px") for name in both]}]


def write_schemas(folder: Path = FOLDER) -> None:
    """Write all schemas into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(*(Path(argument) for argument in sys.argv[1:2]))
