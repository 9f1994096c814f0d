"""The model card of a candidate: what it was retrained from and on, and how good it is on the held-out cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from H3DELandmarksLib.evaluation import Evaluation
from H3DELandmarksLib.training.retraining.subsets import HELD_OUT, TRAIN, VALIDATION


def candidate_card(manifest: Mapping[str, Any], content: Mapping[str, Any], evaluation: Evaluation | None) -> str:
    """Markdown text.

    Args:
        manifest: of the candidate.
        content: of the run's record.
        evaluation: on held-out cases; None where there are none.
    """
    sections = [
        f"# {manifest['title']}\n\n{manifest['description']}\n\n**Not for clinical use.**",
        f"## Use\n\n{manifest['intended_use']}\n\nLimits:\n\n" + "\n".join(f"- {x}" for x in manifest["limitations"]),
        _origin(content),
        _accuracy(evaluation),
        _landmarks(manifest),
        f"## Licenses\n\nWeights: {manifest['license']['weights']}\n\nData of the base: {manifest['license']['data']}; "
        "the corrected cases belong to whoever keeps them.",
        f"Trained {manifest['training']['date']} with {manifest['training']['software']}.",
    ]
    return "\n\n".join(sections) + "\n"


def _origin(content: Mapping[str, Any]) -> str:
    base, donor = content["base"], content["encoder_from"]
    start = "Started from random weights."
    if base is not None:
        start = f"Retrained from {base['id']} {base['version']} (SHA-256 {base['digest']})."
    elif donor is not None:
        start = f"The layers that read the image are those of {donor['id']} {donor['version']} (SHA-256 " \
                f"{donor['digest']}); all others started from random weights."
    rows = [f"| {row['id']} | {row['revision']} | {row['subset']} | {row['sha256']} |" for row in content["cases"]]
    subsets = [row["subset"] for row in content["cases"]]
    counts = ", ".join(f"{subsets.count(subset)} {subset}" for subset in (TRAIN, VALIDATION, HELD_OUT))
    notes = "".join(f"\n\n{note}" for note in content["notes"])
    table = "\n".join(["| case | review | subset | SHA-256 of the voxels |", "|---|---|---|---|", *rows])
    return f"## Origin\n\n{start}\n\nCorrected cases: {counts}.{notes}\n\n{table}"


def _accuracy(evaluation: Evaluation | None) -> str:
    title = "## Accuracy on the held-out cases"
    if evaluation is None:
        return f"{title}\n\nNo case was held out: measure on other cases how good this model is."
    table = f"```text\n{evaluation.text()}\n```"
    return f"{title}\n\nMillimeters; training and calibration never saw these cases.\n\n{table}"


def _landmarks(manifest: Mapping[str, Any]) -> str:
    lines = ["## Landmarks", "", "| name | definition | radius that holds 90 % of errors, mm |", "|---|---|---|"]
    for landmark, radius in zip(manifest["scheme"]["landmarks"], manifest["calibration"]["radius90_mm"]):
        lines.append(f"| {landmark['name']} | {landmark['definition']} | {radius:.2f} |")
    return "\n".join(lines)
