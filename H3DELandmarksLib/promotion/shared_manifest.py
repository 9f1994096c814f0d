"""What leaves the house with a shared model: only what is listed here, so that nothing else can come along.

Of the manifest's free parts, ``training`` and ``accuracy``, numbers with known names are kept, dates, hashes, ids and
versions; names of subjects, cases and folders, paths, pictures and reports are not. Title, description, intended use,
limits, licenses and definitions go along as their author wrote them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.models.lineage import Lineage, lineage_of

AUTHORED = (
    "schema_version", "id", "version", "title", "description", "modality", "anatomy", "intended_use", "limitations",
    "license", "intensity", "outside", "max_spacing_mm",
)  # fmt: skip
SHAPE_FILE = "shape.safetensors"
SETTINGS = frozenset({
    "batch", "learning_rate", "early_rate", "weight_decay", "warmup", "ema", "sigma", "validate_every",
    "checkpoint_seconds", "seed", "steps", "rotation_degrees", "shift_mm", "truncate", "contrast", "brightness",
    "gamma", "noise", "blur", "scale", "stretch",
})  # fmt: skip
FIGURES = frozenset({
    "cases", "n", "missed", "mre_mm", "sd_mm", "mean_mm", "median_mm", "p90_mm", "max_mm", "coverage",
})  # fmt: skip
SUBSETS = ("test", "held-out")
PRESENCE = frozenset({"accuracy", "precision", "recall", "f1"})
_RATE = re.compile(r"sdr_[0-9.]{1,8}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SOFTWARE = re.compile(r"H3DELandmarksLib [0-9][0-9A-Za-z.+-]{0,31}")


def shared_manifest(package: ModelPackage) -> tuple[dict[str, Any], dict[str, str]]:
    """The manifest to share, and the package's name of each of its weights files.

    Raises:
        InputError: a setting of a network is a text, which may say anything.
    """
    manifest = package.manifest
    names = {manifest["shape_model"]["file"]: SHAPE_FILE}
    for number, stage in enumerate(manifest["stages"], 1):
        names.setdefault(stage["weights"]["file"], f"stage-{number}.safetensors")
    shared = {name: deepcopy(manifest[name]) for name in AUTHORED if name in manifest}
    shared["scheme"] = package.scheme.to_dict()
    shared["stages"] = [_stage(stage, names) for stage in manifest["stages"]]
    shared["shape_model"] = {**manifest["shape_model"], "file": names[manifest["shape_model"]["file"]]}
    calibration = {name: value for name, value in manifest["calibration"].items() if name != "cases"}
    _refuse_texts(calibration)
    shared["calibration"] = deepcopy(calibration)
    shared["training"] = _training(manifest["training"])
    shared["accuracy"] = _accuracy(manifest["accuracy"], package.scheme.names)
    return shared, {new: old for old, new in names.items()}


def _stage(stage: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    _refuse_texts(stage["network"]["settings"])
    if not all(_TOKEN.fullmatch(name) for name in (stage["name"], stage["network"]["architecture"])):
        raise InputError("A stage of the model has a name that cannot be shared: use letters, digits and hyphens.")
    return {**deepcopy(stage), "weights": {**stage["weights"], "file": names[stage["weights"]["file"]]}}


def _training(training: Mapping[str, Any]) -> dict[str, Any]:
    """Date, software, settings and lineage."""
    kept: dict[str, Any] = {}
    for name, form in (("date", _DATE), ("software", _SOFTWARE)):
        if isinstance(training.get(name), str) and form.fullmatch(training[name]):
            kept[name] = training[name]
    stages = training.get("stages")
    if isinstance(stages, Mapping):
        kept["stages"] = {
            name: {part: _numbers(_mapping(parts, part), SETTINGS) for part in ("training", "augmentation")}
            for name, parts in stages.items() if _TOKEN.fullmatch(name)
        }  # fmt: skip
    lineage: Lineage | None = lineage_of({"training": training})
    if lineage is not None:
        kept["lineage"] = lineage.to_dict()
    return kept


def _accuracy(accuracy: Mapping[str, Any], landmarks: Collection[str]) -> dict[str, Any]:
    """Figures over all cases and of each landmark."""
    kept = {}
    for subset in SUBSETS:
        told = _mapping(accuracy, subset)
        rows = [row for row in told.get("per_landmark") or () if isinstance(row, Mapping)]
        if figures := _numbers(told, FIGURES):
            kept[subset] = {
                **figures, "presence": _numbers(_mapping(told, "presence"), PRESENCE),
                "per_landmark": [
                    {"landmark": row["landmark"], **_numbers(row, FIGURES)}
                    for row in rows if row.get("landmark") in landmarks
                ],
            }  # fmt: skip
    return kept


def _mapping(data: Any, name: str) -> Mapping[str, Any]:
    """An object in an object; an empty one where it is none."""
    found = data.get(name) if isinstance(data, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _numbers(data: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The numbers of known names."""
    known = [name for name in data if name in names or _RATE.fullmatch(name)]
    return {name: data[name] for name in known if _is_number(data[name])}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _refuse_texts(value: Any) -> None:
    """Settings must be numbers and switches."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
                raise InputError("A setting of the model has a name that cannot be shared: use small letters.")
            _refuse_texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_texts(item)
    elif isinstance(value, str):
        raise InputError("A setting of the model is a text, which cannot be shared: use numbers.")
