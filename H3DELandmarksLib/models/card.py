"""The model card: what a user must know before trusting a model, written from its manifest.

Models that were trained here, retrained, shared or imported get the same card; a section appears where the manifest, or
what is given beside it, has something to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from H3DELandmarksLib.core.text import markdown_table, percent
from H3DELandmarksLib.formats.comparison import floor_of
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.manifest import Manifest, RecognitionCalibration, StageDesign

NETWORKS = {
    "h3denet": "H3DE-Net (arXiv 2502.14221)",
    "hyatt": "HYATT-Net (arXiv 2412.06499, version 2)",
    "han": "HAN (arXiv 2412.06499, version 1)",
}
FIGURES = ("cases", "mre_mm", "median_mm", "p90_mm", "missed")
Section = Literal["data", "definitions", "accuracy", "reliability", "failures"]


def model_card(
    manifest: Manifest,
    *,
    accuracy: str | None = None,
    measured_on: str = "test",
    comparison: str | None = None,
    notes: Sequence[str] = (),
    added: Mapping[Section, str] | None = None,
) -> str:
    """Markdown text of a package's card.

    Args:
        manifest: the package's manifest with calibration and accuracy.
        accuracy: the evaluation as aligned text; without it the card has the main figures of the manifest.
        measured_on: the cases that `accuracy` is about, "test" or "held-out".
        comparison: with the model's base, as text.
        notes: paragraphs on the method, beside what follows from the manifest.
        added: what training alone can tell: sections on data and on failures, paragraphs and pictures of others.
    """

    def more(section: Section) -> str:
        return f"\n\n{added[section]}" if added and section in added else ""

    caution = manifest.measured.caution() if manifest.measured else ""
    sections = [
        f"# {manifest.title}\n\n{manifest.description}\n\n**{f'{caution} ' if caution else ''}Not for clinical use.**",
        _use(manifest),
        more("data").strip(),
        _origin(manifest),
        _landmarks(manifest) + bone_section(manifest) + more("definitions"),
        _accuracy(manifest, accuracy, measured_on) + more("accuracy"),
        f"## Compared with its base\n\n```text\n{comparison.rstrip()}\n```" if comparison else "",
        confidence_section(manifest, measured_on) + more("reliability"),
        more("failures").strip(),
        _license(manifest),
        _method(manifest, notes),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _use(manifest: Manifest) -> str:
    limits = "\n".join(f"- {limit}" for limit in manifest.limitations) or "- none stated"
    return f"## Use\n\n{manifest.intended_use}\n\nLimits:\n\n{limits}"


def _origin(manifest: Manifest) -> str:
    """Base and corrected cases, by hash, of a model that was retrained."""
    lineage = lineage_of(manifest)
    if lineage is None:
        return ""
    base, donor = lineage.base, lineage.encoder_from
    if base is not None:
        start = f"Retrained from {base.name} (SHA-256 {base.digest})."
    elif donor is not None:
        start = (
            f"The layers that read the image are those of {donor.name} (SHA-256 {donor.digest}); all others started "
            "from random weights."
        )
    else:
        start = "Started from random weights."
    counts = Counter(case.subset for case in lineage.cases)
    told = ", ".join(f"{count} {subset}" for subset, count in sorted(counts.items())) or "none"
    rows = [(str(case.revision), case.subset, case.sha256) for case in lineage.cases]
    table = [markdown_table([("review", "subset", "SHA-256 of the voxels"), *rows])] if rows else []
    return "\n\n".join(["## Origin", start, f"Corrected cases: {told}.", *lineage.notes, *table])


def _landmarks(manifest: Manifest) -> str:
    rows = [
        (landmark.name, landmark.definition, f"{radius:.2f}")
        for landmark, radius in zip(manifest.scheme.landmarks, manifest.calibration.radius90_mm)
    ]
    head = ("name", "definition", f"radius that holds 90 % of errors, {manifest.length_unit}")
    return "\n\n".join(filter(None, ["## Landmarks", manifest.length_note, markdown_table([head, *rows])]))


def bone_section(manifest: Manifest) -> str:
    """Which points fine scans place on the surface of bone, as a paragraph; empty where there are none."""
    surface = manifest.bone_surface
    used = [point for point in surface.points if point.is_steadier] if surface else []
    if surface is None or not used:
        return ""
    rows = [(point.landmark, *(f"{spread:.2f}" for spread in point.spread_mm)) for point in used]
    return (
        f"\n\nIn scans with voxels of at most {surface.max_spacing_mm:g} mm these points are placed on the surface of "
        "bone near the network's point, within its radius, where the surface can be told; the network's point is kept "
        "beside them. Their radius is that of the network's point. Spread when the same scan is seen on other "
        "lattices, with noise and in other voxels, mm:\n\n" + markdown_table([("name", "network", "bone"), *rows])
    )


def _beside_readers(measured: Any, manifest: Manifest) -> str:
    """The model beside the people who marked the cases, as a paragraph; empty where each case had one."""
    floor = floor_of(measured)
    return f"\n\n{floor.sentence('The model', manifest.length_unit)}" if floor else ""


def _accuracy(manifest: Manifest, table: str | None, measured_on: str) -> str:
    if table is not None:
        unit = manifest.length_unit
        table = table if unit == "mm" else table.replace("_mm", f"_{unit}").replace(" mm", f" {unit}")
        return (
            f"## Accuracy on the {measured_on} cases\n\n{manifest.length_note or 'Millimeters.'} Neither training nor "
            f"calibration saw these cases.{_beside_readers(manifest.accuracy.get(measured_on), manifest)}\n\n"
            f"```text\n{table.rstrip()}\n```"
        )
    parts = []
    for subset in ("test", "held-out"):
        measured = manifest.accuracy.get(subset)
        if isinstance(measured, Mapping):
            rows = [f"- {name}: {_figure(measured[name])}" for name in FIGURES if name in measured]
            parts.append(
                f"## Accuracy on its author's {subset} cases\n\n"
                + "\n".join(rows)
                + _beside_readers(measured, manifest)
            )
    return "\n\n".join(parts) or "## Accuracy\n\nNot measured: measure on other cases how good this model is."


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def confidence_section(manifest: Manifest, measured_on: str) -> str:
    """What confidence and radius mean, on which cases they were fitted, and what they were worth on unseen cases."""
    calibration, accuracy = manifest.calibration, manifest.accuracy
    text = [
        "## Confidence",
        "Presence is the probability that a landmark is in the scan. Confidence is the probability that its stated "
        f"position lies within {calibration.confidence.tolerance_mm:g} {manifest.length_unit} of the right place. "
        + _radius(manifest),
    ]
    if calibration.cases:
        text.append(_calibrated_on(calibration.cases))
    text.append(_recognition(calibration.recognition))
    coverage = accuracy.get(measured_on, {}).get("coverage")
    if coverage is not None:
        text.append(f"Errors within the radius on the {measured_on} cases: {percent(coverage)}.")
    return "\n\n".join(text)


def _radius(manifest: Manifest) -> str:
    """What the radius stands for, and where it holds."""
    if manifest.calibration.points is None:
        return (
            "The radius around the stated position holds the right place in 90 % of whole scans; none is stated where "
            "the scan ends within the anatomy or its voxels are coarser than the model's limit, as that was not "
            "measured."
        )
    text = (
        "The radius around the stated position holds the right place in 90 % of scans. It is each point's own: the "
        "radius of its landmark, times a factor that follows from how sharply and how surely the point was seen, how "
        "it fits to the others and how near the scan ends. None is stated where voxels are coarser than the model's "
        "limit."
    )
    held = manifest.accuracy.get("radius_by_condition")
    if not held:
        return text
    shares = ", ".join(f"{name} {percent(part['coverage'])} of {part['errors']}" for name, part in held.items())
    return f"{text} On test scans under each condition it held: {shares} errors."


def _recognition(fitted: RecognitionCalibration | None) -> str:
    """A sentence on what becomes of scans of something else."""
    if fitted is None:
        return (
            "It was not taught to recognise its anatomy: it shows points in scans of anything, so that only scans of "
            "its anatomy may be given to it."
        )
    return (
        "Of a scan that does not look like this anatomy no point is shown. How strange a scan is, its p-value says: "
        f"the share of {len(fitted.scores)} calibration scans, whole, cut, coarse, noisy and with metal, that are as "
        f"strange. Up to {percent(fitted.false_alarm_rate, 0)} it is refused, and about as many scans of this anatomy "
        "are refused wrongly."
    )


def _calibrated_on(cases: Mapping[str, Any]) -> str:
    """A sentence each on the calibration cases and on the radii."""
    if "kept_from" in cases:
        return (
            f"Presence and confidence are calibrated as those of {cases['kept_from']}; radii were checked on "
            f"{cases['scans']} {cases['radii_checked_on']} cases."
        )
    if cases["subset"] == "calibration":
        own = f"Calibrated on {cases['scans']} cases of its own, which neither training nor the choice of settings saw."
    elif cases["subset"] == "cross-fitted":
        own = (
            f"Calibrated on {cases['scans']} cases that it learnt from, but by what models of its kind find there that "
            "learnt from other cases alone (cross-fitting). These had fewer cases and steps than this model, which "
            "makes the calibration rather too cautious than too hopeful."
        )
    elif cases["subset"] == "train":
        own = f"Calibrated on {cases['scans']} cases that it learnt from, which makes it too hopeful."
    else:
        own = (
            f"Calibrated on the {cases['scans']} {cases['subset']} cases, as the data have none set apart for it: the "
            "number of training steps was chosen by the same cases, which makes the calibration a little too hopeful."
        )
    if cases.get("radii") != "cross-conformal":
        return own
    return (
        f"{own} Radii come from these and the test cases together, as cases are few; each test case was measured "
        "with radii from all other cases (cross-conformal), so that no error was judged by itself."
    )


def _license(manifest: Manifest) -> str:
    cases = "; corrected cases belong to whoever keeps them" if lineage_of(manifest) is not None else ""
    return f"## License\n\nOf the data: {manifest.license.data}{cases}\n\nOf the weights: {manifest.license.weights}"


def _voxels(stage: StageDesign) -> str:
    if stage.fit is None:
        return f"voxels of {stage.spacing_mm:g} mm"
    return f"crops {stage.fit:g} times as large as the radiograph ({stage.spacing_mm:.4g} mm a pixel in a usual one)"


def _method(manifest: Manifest, notes: Sequence[str]) -> str:
    stages = "\n".join(
        f"- {stage.name}: {NETWORKS.get(stage.network.architecture, stage.network.architecture)}, "
        f"{_voxels(stage)}, input {' x '.join(map(str, stage.shape))}"
        for stage in manifest.stages
    )
    training = manifest.training
    made = [
        f"Trained {training.get('date', 'at an unknown date')} with {training.get('software', 'unknown software')}."
    ]
    if "imported" in training:
        made = [f"Imported {training['imported']} with {training.get('software', 'unknown software')}."]
    if "recalibrated" in training:
        made.append(f"Calibrated and measured again {training['recalibrated']}.")
    return "\n\n".join(["## Method", stages, " ".join(made), *notes])
