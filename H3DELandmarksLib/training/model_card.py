"""The model card: what a user must know before trusting a model, written from the manifest and the test table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from H3DELandmarksLib.evaluation import Evaluation
from H3DELandmarksLib.training.card_pictures import ACCURACY, DEFINITIONS, FAILURES, RELIABILITY, CardPicture
from H3DELandmarksLib.training.evaluation import CROSS, CUT, WHOLE

MOST_LISTED = 10

NETWORKS = {
    "h3denet": "H3DE-Net (arXiv 2502.14221)",
    "hyatt": "HYATT-Net (arXiv 2412.06499, version 2)",
    "han": "HAN (arXiv 2412.06499, version 1)",
}


def model_card(manifest: Mapping, evaluation: Evaluation, pictures: Sequence[CardPicture] = ()) -> str:
    """Markdown text of a package's card.

    Args:
        manifest: the package's manifest with its calibration and accuracy.
        evaluation: results on the test cases.
        pictures: files beside the card that it shows.
    """
    shown = {section: _shown(pictures, section) for section in (DEFINITIONS, ACCURACY, RELIABILITY, FAILURES)}
    sections = [
        f"# {manifest['title']}\n\n{manifest['description']}\n\n**Not for clinical use.**",
        _use(manifest),
        _data(manifest),
        _landmarks(manifest) + shown[DEFINITIONS],
        "## Accuracy on the test cases\n\nMillimeters; training never saw these cases.\n\n"
        f"```text\n{evaluation.text()}```" + shown[ACCURACY],
        _confidence(manifest, evaluation) + shown[RELIABILITY],
        *([f"## Failure cases\n\nThe test cases with the largest errors.{shown[FAILURES]}"] if shown[FAILURES] else []),
        _method(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _shown(pictures: Sequence[CardPicture], section: str) -> str:
    """The pictures of a section, each with its caption below."""
    chosen = [picture for picture in pictures if picture.section == section]
    return "".join(f"\n\n![{picture.caption}]({picture.file})\n\n*{picture.caption}*" for picture in chosen)


def _use(manifest: Mapping) -> str:
    limits = "\n".join(f"- {limit}" for limit in manifest.get("limitations", ()))
    return f"## Use\n\n{manifest['intended_use']}\n\nLimits:\n\n{limits}"


def _data(manifest: Mapping) -> str:
    data, license_ = manifest["training"]["data"], manifest["license"]
    if "seeds" in data:
        subsets = {name: f"seeds {first} to {last - 1}" for name, (first, last) in data["seeds"].items()}
    else:
        subsets = {name: _listed(cases, name) for name, cases in data["split"].items()}
    rows = "\n".join(f"- {name}: {text}" for name, text in subsets.items())
    licenses = f"License of the data: {license_['data']}\n\nLicense of the weights: {license_['weights']}"
    return f"## Data\n\n{rows}\n\n{licenses}"


def _listed(cases: Sequence[str], subset: str) -> str:
    """How many cases, and their names where they are few; else where the names stand."""
    where = ", ".join(cases) if len(cases) <= MOST_LISTED else f"listed in manifest.json, training.data.split.{subset}"
    return f"{len(cases)} cases ({where})"


def _landmarks(manifest: Mapping) -> str:
    radii = manifest["calibration"]["radius90_mm"]
    lines = ["## Landmarks", "", "| name | definition | radius that holds 90 % of errors, mm |", "|---|---|---|"]
    for landmark, radius in zip(manifest["scheme"]["landmarks"], radii):
        lines.append(f"| {landmark['name']} | {landmark['definition']} | {radius:.2f} |")
    return "\n".join(lines)


def _confidence(manifest: Mapping, evaluation: Evaluation) -> str:
    """What confidence and radius mean, on which cases they were fitted, and what they were worth on the test cases."""
    calibration, accuracy = manifest["calibration"], manifest["accuracy"]
    cases = calibration.get("cases", {})
    text = [
        "## Confidence",
        f"Presence is the probability that a point is in the scan. Confidence is the probability that it lies within "
        f"{calibration['confidence']['tolerance_mm']:g} mm of the right place. The radius of a point is meant to hold "
        f"90 % of its errors in whole scans; where a scan ends within the anatomy, errors are larger.",
        *_calibrated_on(cases),
    ]
    if "familiarity" in calibration:
        text.append(
            "Where the points found in a scan do not fit together as this anatomy does, the confidence of all points "
            "falls to nothing and their presence below one half; learnt from disturbed copies of the calibration scans."
        )
    coverage = evaluation.to_dict()["coverage"]
    if coverage is not None:
        text.append(f"Errors within the radius on the test cases: {100 * coverage:.1f} %.")
    if "cross_conformal" in accuracy:
        cross = accuracy["cross_conformal"]
        text[-1] += (
            f" Of all {cross['cases']} cases that training never saw, {100 * cross['coverage']:.1f} % of errors lie "
            "within radii from the other cases."
        )
    rows = [
        f"| {scans} | {title} | {part['statements']} | {part['ece']:.3f} | {part['ece_equal_mass']:.3f} |"
        for subset, scans in ((WHOLE, "whole"), (CUT, "whole, and as many with one end cut off"))
        for name, title in (("presence", "presence"), ("confidence", "confidence of the points shown"))
        if (part := accuracy.get("reliability", {}).get(subset, {}).get(name)) and part["ece"] is not None
    ]
    if rows:
        head = "| test scans | probability | statements | calibration error (ECE) | with bins of equal mass |"
        text.append("\n".join([head, "|---|---|---|---|---|", *rows]))
    return "\n\n".join(text)


def _calibrated_on(cases: Mapping) -> list[str]:
    """A sentence each on the calibration cases and on the radii."""
    if not cases:
        return []
    if cases["subset"] == "calibration":
        own = f"Calibrated on {cases['scans']} cases of its own, which neither training nor the choice of settings saw."
    else:
        own = (
            f"Calibrated on the {cases['scans']} {cases['subset']} cases, as the data have none set apart for it: the "
            "number of training steps was chosen by the same cases, which makes the calibration a little too hopeful."
        )
    if cases["radii"] != CROSS:
        return [own]
    return [
        f"{own} Radii come from these and the test cases together, as cases are few; each test case was measured "
        "with radii from all other cases (cross-conformal), so that no error was judged by itself."
    ]


def _method(manifest: Mapping) -> str:
    stages = "\n".join(
        f"- {stage['name']}: {NETWORKS.get(stage['network']['architecture'], stage['network']['architecture'])}, voxels of {stage['spacing_mm']} mm, input "
        f"{' x '.join(map(str, stage['shape']))}"
        for stage in manifest["stages"]
    )
    training = manifest["training"]
    again = f" Calibrated and measured again {training['recalibrated']}." if "recalibrated" in training else ""
    return f"## Method\n\n{stages}\n\nTrained {training['date']} with {training['software']}.{again}"
