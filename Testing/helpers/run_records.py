"""Records of retrainings for tests that need one without its training."""

import json
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.landmarks import LandmarkScheme


def plain_stage(scheme: LandmarkScheme, name: str = "localizer", steps: int = 9) -> dict[str, Any]:
    """A stage of a plan that looks for all landmarks."""
    return {
        "name": name,
        "network": {"architecture": "h3denet", "settings": {"landmarks": len(scheme)}},
        "spacing_mm": 2.0,
        "shape": [32, 32, 32],
        "groups": [{"landmarks": list(scheme.names)}],
        "training": {"steps": steps, "learning_rate": 0.001},
    }


def run_record(scheme: LandmarkScheme, **changes: Any) -> dict[str, Any]:
    """The content of a complete ``run.json``; entries that are given take the place of these."""
    stage = plain_stage(scheme)
    return {
        "format_version": 2,
        "software": "0.1.0",
        "kind": "fine-tuning",
        "project": "/data/cases",
        "scheme": scheme.to_dict(),
        "cases": [],
        "model": {"id": "tiny", "version": "1.1.0", "intensity": {"method": "window", "low": -500.0, "high": 1500.0}},
        "plan": {"stages": [stage], "base_names": {}},
        "state": "done",
        "stages": [{"name": stage["name"], "step": 3, "steps": 9}],
        "updated": "2026-01-01T00:00:00Z",
        **changes,
    }


def as_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """The same record as it was written before today's version, with what followed from other entries."""
    stages = content["stages"]
    missing = dict.fromkeys(("base", "encoder_from", "message", "device", "seconds_left"))
    derived = {name: sum(stage[name] for stage in stages) for name in ("step", "steps")}
    poses = {stage.get("poses", "scan") for stage in content["plan"]["stages"]}
    return {**missing, **content, **derived, "own_frame": poses != {"scan"}, "format_version": 1}


def write_run_record(folder: Path, scheme: LandmarkScheme, **changes: Any) -> Path:
    """A folder with such a record; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run_record(scheme, **changes)), encoding="utf-8")
    return folder
