"""Folders as ``detect`` leaves them for many scans, made without a model: heads with ten landmarks on bone."""

import json
from pathlib import Path

import numpy as np
from sample_cases import NAMES, points_of, scan_of

from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.formats.provenance import ModelOrigin, Provenance, ScanOrigin, proposed_points, write_provenance
from H3DELandmarksLib.formats.results import RecognitionResult
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksLib.io.tables import write_table

MODEL = {"id": "head", "version": "1.0.0", "sha256": "0" * 64}
HOSTILE = '<img src=x onerror="document.title=1">&lt;\'"'
REASON = "The scan </script><script>document.title='x'</script> is damaged: copy it again."


def landmarks_of(seed: int, rng: np.random.Generator) -> LandmarkSet:
    """What a model may say of a head: mostly sure, sometimes in doubt, sometimes absent."""
    sure = rng.beta(9, 1.3, len(NAMES))
    presence = np.where(rng.random(len(NAMES)) < 0.04, 0.2, 0.99)
    return LandmarkSet(NAMES, points_of(seed), presence, np.where(presence > 0.5, sure, np.nan), 0.6 + 3 * (1 - sure))


def write_result(folder: Path, name: str, landmarks: LandmarkSet, scan=None, file: str = "", is_known=True) -> None:
    """The files of a result."""
    content = content_of(scan) if scan is not None else None
    provenance = Provenance(
        software="0.2.0",
        time="2026-01-01T00:00:00Z",
        model=ModelOrigin(**MODEL, confidence_within_mm=2.0),
        scan=ScanOrigin(
            file=file or name,
            voxels_sha256=content.digest if content else "1" * 64,
            shape=content.grid.shape if content else (9, 9, 9),
            spacing_mm=tuple(content.grid.spacing.tolist()) if content else (1.0, 1.0, 1.0),
        ),
        recognition=RecognitionResult(is_known, 0.5 if is_known else 0.01, 0.05),
        points=proposed_points(landmarks),
    )
    write_markups(folder / f"{name}.mrk.json", landmarks)
    write_table(folder / f"{name}.csv", landmarks, provenance)
    write_provenance(folder / f"{name}.provenance.json", provenance)


def write_cohort(folder: Path, count: int = 8, scans: Path | None = None, failed: int = 2, strange: int = 1) -> Path:
    """A cohort with a log; `scans` is where to write scans, None for none."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(7), []
    for k in range(count):
        name, scan, path = f"head_{k:04d}", None, folder.parent / "gone" / f"head_{k:04d}.nrrd"
        landmarks, is_known = landmarks_of(k, rng), k >= strange
        if not is_known:
            landmarks = landmarks.unknown_where(np.ones(len(NAMES), bool), Cause.UNLIKE)
        if scans is not None:
            scans.mkdir(parents=True, exist_ok=True)
            scan, path = scan_of(k), scans / f"{name}.nrrd"
            write_volume(path, scan)
        write_result(folder, name, landmarks, scan, path.name, is_known)
        outputs = {"markups": f"{name}.mrk.json", "table": f"{name}.csv", "provenance": f"{name}.provenance.json"}
        lines.append(
            {
                "scan": str(path),
                "name": name,
                "subject": HOSTILE if k == 1 else f"S{k // 2:03d}",
                "model": MODEL,
                "status": "found",
                "summary": "10 of 10 landmarks found.",
                "seconds": round(float(rng.gamma(4, 2)), 2),
                "outputs": outputs,
            }
        )
    for k in range(failed):
        entry = {"scan": f"/bad_{k}.nrrd", "name": f"bad_{k}", "status": "failed", "reason": REASON, "seconds": 0.1}
        lines.append(entry)
    (folder / "cohort.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder
