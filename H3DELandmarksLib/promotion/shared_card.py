"""The card of a shared model, written from its manifest alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from H3DELandmarksLib.models.lineage import lineage_of
from H3DELandmarksLib.promotion.comparison import Comparison


def shared_card(manifest: Mapping[str, Any], comparison: Comparison | None) -> str:
    """Markdown text.

    Args:
        manifest: as it is shared.
        comparison: with the model's base, where there is one.
    """
    limits = "\n".join(f"- {limit}" for limit in manifest["limitations"]) or "- none stated"
    license_ = manifest["license"]
    sections = [
        f"# {manifest['title']}\n\n{manifest['description']}\n\n**Not for clinical use.**",
        f"## Use\n\n{manifest['intended_use']}\n\nLimits:\n\n{limits}",
        _origin(manifest),
        *([f"## Compared with {comparison.base.name}\n\n```text\n{comparison.text()}```"] if comparison else []),
        *(_accuracy(subset, figures) for subset, figures in manifest["accuracy"].items()),
        _landmarks(manifest),
        f"## License\n\nOf the data: {license_['data']}\n\nOf the weights: {license_['weights']}",
    ]
    return "\n\n".join(sections) + "\n"


def _origin(manifest: Mapping[str, Any]) -> str:
    """Base and cases, by hash."""
    lineage, training = lineage_of(manifest), manifest["training"]
    date, software = training.get("date", "at an unknown date"), training.get("software", "unknown software")
    paragraphs = ["## Origin", f"Trained {date} with {software}."]
    if lineage is None:
        return "\n\n".join([*paragraphs, "Which cases it learnt from is not stated."])
    base = lineage.base
    paragraphs.append(f"Base: {base.name} (SHA-256 {base.digest})" if base else "Base: none")
    counts = Counter(case.subset for case in lineage.cases)
    told = ", ".join(f"{number} {subset}" for subset, number in sorted(counts.items())) or "none"
    paragraphs.append(f"Corrected cases, by the SHA-256 of their scans: {told}")
    hashes = [f"- {case.sha256} (revision {case.revision}, {case.subset})" for case in lineage.cases]
    return "\n\n".join([*paragraphs, *(["\n".join(hashes)] if hashes else [])])


def _accuracy(subset: str, figures: Mapping[str, Any]) -> str:
    """The main figures of a subset, in mm."""
    known = {name: figures[name] for name in ("cases", "mre_mm", "median_mm", "p90_mm", "missed") if name in figures}
    rows = "\n".join(f"- {name}: {value:.3g}" if isinstance(value, float) else f"- {name}: {value}"
                     for name, value in known.items())
    return f"## Accuracy on its author's {subset} cases\n\n{rows}"


def _landmarks(manifest: Mapping[str, Any]) -> str:
    radii = manifest["calibration"]["radius90_mm"]
    lines = ["## Landmarks", "", "| name | definition | radius that holds 90 % of errors, mm |", "|---|---|---|"]
    for landmark, radius in zip(manifest["scheme"]["landmarks"], radii):
        lines.append(f"| {landmark['name']} | {landmark['definition']} | {radius:.2f} |")
    return "\n".join(lines)
