"""The model card of a model that was trained here: with its data, its pictures and what its statements are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from H3DELandmarksLib.core.text import markdown_table, percent, plural
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.manifest import Manifest
from H3DELandmarksLib.models.card import Section, model_card

MAX_LISTED = 10


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


def trained_card(manifest: Manifest, *, accuracy: str | None = None, pictures: Sequence[CardPicture] = ()) -> str:
    """Markdown text of a package's card.

    Args:
        manifest: the package's manifest with calibration and accuracy.
        accuracy: the evaluation as aligned text; without it the card has the main figures of the manifest.
        pictures: files of the package that the card shows.
    """
    added = {section: _shown(pictures, section) for section in get_args(Section)}
    if added["failures"]:
        added["failures"] = f"## Failure cases\n\nThe test cases with the largest errors.\n\n{added['failures']}"
    added["data"] = _data(manifest)
    added["reliability"] = "\n\n".join(filter(None, [evidence(manifest.accuracy), added["reliability"]]))
    return model_card(manifest, accuracy=accuracy, added={name: text for name, text in added.items() if text})


def _shown(pictures: Sequence[CardPicture], section: Section) -> str:
    chosen = [picture for picture in pictures if picture.section == section]
    return "\n\n".join(f"![{picture.caption}]({picture.file})\n\n*{picture.caption}*" for picture in chosen)


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


def evidence(accuracy: Mapping[str, Any]) -> str:
    """What confidences and radii were worth on unseen cases, beside the share of errors within the radii."""
    text = []
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
