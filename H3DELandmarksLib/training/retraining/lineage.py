"""Where a candidate comes from, as far as a run needs it: its base, and what earlier models did with the cases."""

from __future__ import annotations

from collections.abc import Mapping

from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.models.lineage import ModelReference
from H3DELandmarksLib.training.retraining.subsets import TRAIN


def reference(package: ModelPackage) -> dict[str, str]:
    """How a run names a model that it starts from."""
    return {**ModelReference.to(package).to_dict(), "path": str(package.path.resolve())}


def written_lineage(manifest: Mapping) -> Mapping:
    """What a manifest says of base and cases, see `models.lineage`; empty for models that were not retrained."""
    return manifest.get("training", {}).get("lineage") or {}


def known_subsets(manifest: Mapping) -> dict[str, str]:
    """Subset, by SHA-256, of each scan that a model or one before it was made with; the oldest decides."""
    return _subsets(written_lineage(manifest))


def _subsets(lineage: Mapping) -> dict[str, str]:
    if not lineage:
        return {}
    before = _subsets((lineage.get("base") or {}).get("lineage") or {})
    learnt = dict.fromkeys(lineage.get("earlier", ()), TRAIN)
    return {**{case["sha256"]: case["subset"] for case in lineage["cases"]}, **learnt, **before}


def next_version(package: ModelPackage) -> str:
    """The first version after this one, and after all of this model that are there: its middle number counts up."""
    versions = [entry.package.version for entry in available_models() if entry.package and entry.id == package.id]
    numbers = [tuple(map(int, text.partition("-")[0].split("."))) for text in (*versions, package.version)]
    major, minor, _ = max(numbers)
    return f"{major}.{minor + 1}.0"
