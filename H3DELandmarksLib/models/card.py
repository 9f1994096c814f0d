"""The model card: what a user must know before trusting a model, written from its manifest.

Models that were trained here, retrained, shared or imported get the same card; a section appears where the manifest, or
what is given beside it, has something to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from H3DELandmarksLib.core.text import markdown_table, percent, plural
from H3DELandmarksLib.formats.comparison import floor_of
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.manifest import Manifest, RecognitionCalibration, StageDesign

MAX_LISTED = 10
NETWORKS = {
    "h3denet": "H3DE-Net (arXiv 2502.14221)",
    "hyatt": "HYATT-Net (arXiv 2412.06499, version 2)",
    "han": "HAN (arXiv 2412.06499, version 1)",
}
FIGURES = ("cases", "mre_mm", "median_mm", "p90_mm", "missed")
Section = Literal["definitions", "accuracy", "reliability", "failures"]


@dataclass(frozen=True)
class CardPicture:
    """A picture of the card.

    Attributes:
        section: where it belongs.
        file: name in the package.
        caption: a sentence below it.
        data: the file's bytes.
    """

    section: Section
    file: str
    caption: str
    data: bytes


def model_card(
    manifest: Manifest,
    *,
    accuracy: str | None = None,
    measured_on: str = "test",
    comparison: str | None = None,
    notes: Sequence[str] = (),
    pictures: Sequence[CardPicture] = (),
) -> str:
    """Markdown text of a package's card.

    Args:
        manifest: the package's manifest with calibration and accuracy.
        accuracy: the evaluation as aligned text; without it the card has the main figures of the manifest.
        measured_on: the cases that `accuracy` is about, "test" or "held-out".
        comparison: with the model's base, as text.
        notes: paragraphs on the method, beside what follows from the manifest.
        pictures: files of the package that the card shows.
    """

    def shown(section: Section) -> str:
        chosen = [picture for picture in pictures if picture.section == section]
        return "".join(f"\n\n![{picture.caption}]({picture.file})\n\n*{picture.caption}*" for picture in chosen)

    failures = shown("failures")
    caution = manifest.measured.caution() if manifest.measured else ""
    sections = [
        f"# {manifest.title}\n\n{manifest.description}\n\n**{f'{caution} ' if caution else ''}Not for clinical use.**",
        _use(manifest),
        _data(manifest),
        _origin(manifest),
        _landmarks(manifest) + bone_section(manifest) + shown("definitions"),
        _accuracy(manifest, accuracy, measured_on) + shown("accuracy"),
        f"## Compared with its base\n\n```text\n{comparison.rstrip()}\n```" if comparison else "",
        confidence_section(manifest, measured_on) + shown("reliability"),
        f"## Failure cases\n\nThe test cases with the largest errors.{failures}" if failures else "",
        _license(manifest),
        _method(manifest, notes),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _use(manifest: Manifest) -> str:
    limits = "\n".join(f"- {limit}" for limit in manifest.limitations) or "- none stated"
    return f"## Use\n\n{manifest.intended_use}\n\nLimits:\n\n{limits}"


def _data(manifest: Manifest) -> str:
    """The cases of a model that was trained from a configuration, by subset."""
    data = manifest.training.get("data")
    if not isinstance(data, Mapping) or lineage_of(manifest) is not None:
        return ""
    told: dict[str, list[str]] = {}
    for name, count in data.get("composites", {}).items():
        told.setdefault(name, []).append(f"{plural(count, 'composite')} of simulated teeth in real heads")
    for name, (first, last) in data.get("seeds", {}).items():
        told.setdefault(name, []).append(f"phantoms of seeds {first} to {last - 1}")
    for name, cases in data.get("split", {}).items():
        told.setdefault(name, []).append(_listed(cases, name))
    rows = "\n".join(f"- {name}: {'; '.join(parts)}" for name, parts in told.items())
    return f"## Data\n\n{rows}" if rows else ""


def _listed(cases: Sequence[str], subset: str) -> str:
    """How many cases, and their names where they are few; else where the names stand."""
    where = ", ".join(cases) if len(cases) <= MAX_LISTED else f"listed in manifest.json, training.data.split.{subset}"
    return f"{plural(len(cases), 'case')} ({where})"


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
    if cross := accuracy.get("cross_conformal"):
        text.append(
            f"Of all {cross['cases']} cases that training never saw, {percent(cross['coverage'])} of errors lie within "
            "radii from the other cases."
        )
    if table := _reliability(accuracy.get("reliability", {})):
        text.append(table)
    if judged := accuracy.get("left_out_by_condition"):
        text.append(_by_condition(judged))
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


def _reliability(reliability: Mapping[str, Any]) -> str:
    """Calibration errors of presence and confidence as a table; empty where they were not measured."""
    scans = {"whole": "whole", "whole_and_cut_off": "whole, and as many with one end cut off"}
    stated = {"presence": "presence", "confidence": "confidence of the points shown"}
    rows = [
        (scans[subset], stated[name], str(part["statements"]), f"{part['ece']:.3f}", f"{part['ece_equal_mass']:.3f}")
        for subset in scans
        for name in stated
        if (part := reliability.get(subset, {}).get(name)) and part["ece"] is not None
    ]
    head = ("test scans", "probability", "statements", "calibration error (ECE)", "with bins of equal mass")
    return markdown_table([head, *rows]) if rows else ""


def _by_condition(judged: Mapping[str, Mapping[str, float]]) -> str:
    """What confidence and radius are worth in calibration scans as users have them."""
    rows = [
        (condition, f"{part['points']:g}", f"{part['ece']:.3f}", percent(part["coverage"]))
        for condition, part in judged.items()
    ]
    head = ("scans", "points", "calibration error (ECE) of confidence", "errors within the radius")
    return (
        "Calibration scans as users may have them, of each case by what the others teach (recognised scans alone):\n\n"
        + markdown_table([head, *rows])
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
