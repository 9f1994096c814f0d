"""The model card: what a user must know before trusting a model, written from the manifest and the test table."""

from __future__ import annotations

from collections.abc import Mapping

from H3DELandmarksLib.evaluation import Evaluation

NETWORKS = {
    "h3denet": "H3DE-Net (arXiv 2502.14221)",
    "hyatt": "HYATT-Net (arXiv 2412.06499, version 2)",
    "han": "HAN (arXiv 2412.06499, version 1)",
}


def model_card(manifest: Mapping, evaluation: Evaluation) -> str:
    """Markdown text of a package's card.

    Args:
        manifest: the package's manifest with its calibration.
        evaluation: results on the test cases.
    """
    sections = [
        f"# {manifest['title']}\n\n{manifest['description']}\n\n**Not for clinical use.**",
        _use(manifest),
        _data(manifest),
        "## Accuracy on the test cases\n\nMillimeters; training and calibration never saw these cases.\n\n"
        f"```text\n{evaluation.text()}\n```",
        _landmarks(manifest),
        _method(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _use(manifest: Mapping) -> str:
    limits = "\n".join(f"- {limit}" for limit in manifest.get("limitations", ()))
    return f"## Use\n\n{manifest['intended_use']}\n\nLimits:\n\n{limits}"


def _data(manifest: Mapping) -> str:
    data, license_ = manifest["training"]["data"], manifest["license"]
    if "seeds" in data:
        subsets = {name: f"seeds {first} to {last - 1}" for name, (first, last) in data["seeds"].items()}
    else:
        subsets = {name: f"{len(cases)} cases ({', '.join(cases)})" for name, cases in data["split"].items()}
    rows = "\n".join(f"- {name}: {text}" for name, text in subsets.items())
    licenses = f"License of the data: {license_['data']}\n\nLicense of the weights: {license_['weights']}"
    return f"## Data\n\n{rows}\n\n{licenses}"


def _landmarks(manifest: Mapping) -> str:
    radii = manifest["calibration"]["radius90_mm"]
    lines = ["## Landmarks", "", "| name | definition | radius that holds 90 % of errors, mm |", "|---|---|---|"]
    for landmark, radius in zip(manifest["scheme"]["landmarks"], radii):
        lines.append(f"| {landmark['name']} | {landmark['definition']} | {radius:.2f} |")
    return "\n".join(lines)


def _method(manifest: Mapping) -> str:
    stages = "\n".join(
        f"- {stage['name']}: {NETWORKS[stage['network']['architecture']]}, voxels of {stage['spacing_mm']} mm, input "
        f"{' x '.join(map(str, stage['shape']))}"
        for stage in manifest["stages"]
    )
    tolerance = manifest["calibration"]["confidence"]["tolerance_mm"]
    return (
        f"## Method\n\n{stages}\n\nConfidence is the calibrated probability that a point lies within {tolerance} mm of "
        f"the right place.\n\n"
        f"Trained {manifest['training']['date']} with {manifest['training']['software']}."
    )
