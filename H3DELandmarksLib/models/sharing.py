"""A model as one zip file for another site: package, card, lineage, checksums, and nothing else.

The file is also a model package as every other command reads it. One that comes from elsewhere is trusted in nothing:
it is checked completely, reduced to what a share may hold, and written anew before it takes its place.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import InputError, ModelPackageError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.formats.comparison import Comparison
from H3DELandmarksLib.formats.lineage import Lineage, lineage_of, package_digest
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.formats.untrusted_zip import DAMAGED, checked_entries, extract, read_manifest, refused
from H3DELandmarksLib.models import ModelPackage, available_models, find_model, open_package, registry, write_package
from H3DELandmarksLib.models.package import MANIFEST, MODEL_CARD
from H3DELandmarksLib.models.versions import add_version, read_history


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
        *(_accuracy_lines(subset, figures) for subset, figures in manifest["accuracy"].items()),
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


def _accuracy_lines(subset: str, figures: Mapping[str, Any]) -> str:
    """The main figures of a subset, in mm."""
    known = {name: figures[name] for name in ("cases", "mre_mm", "median_mm", "p90_mm", "missed") if name in figures}
    rows = "\n".join(
        f"- {name}: {value:.3g}" if isinstance(value, float) else f"- {name}: {value}" for name, value in known.items()
    )
    return f"## Accuracy on its author's {subset} cases\n\n{rows}"


def _landmarks(manifest: Mapping[str, Any]) -> str:
    radii = manifest["calibration"]["radius90_mm"]
    lines = ["## Landmarks", "", "| name | definition | radius that holds 90 % of errors, mm |", "|---|---|---|"]
    for landmark, radius in zip(manifest["scheme"]["landmarks"], radii):
        lines.append(f"| {landmark['name']} | {landmark['definition']} | {radius:.2f} |")
    return "\n".join(lines)


AUTHORED = (
    "schema_version",
    "id",
    "version",
    "title",
    "description",
    "modality",
    "anatomy",
    "intended_use",
    "limitations",
    "license",
    "intensity",
    "outside",
    "max_spacing_mm",
)
SHAPE_FILE = "shape.safetensors"
SETTINGS = frozenset(
    {
        "batch",
        "learning_rate",
        "early_rate",
        "weight_decay",
        "warmup",
        "ema",
        "sigma",
        "validate_every",
        "checkpoint_seconds",
        "seed",
        "steps",
        "rotation_degrees",
        "shift_mm",
        "truncate",
        "contrast",
        "brightness",
        "gamma",
        "noise",
        "blur",
        "scale",
        "stretch",
    }
)
FIGURES = frozenset({"cases", "n", "missed", "mre_mm", "sd_mm", "mean_mm", "median_mm", "p90_mm", "max_mm", "coverage"})
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
            for name, parts in stages.items()
            if _TOKEN.fullmatch(name)
        }
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
                **figures,
                "presence": _numbers(_mapping(told, "presence"), PRESENCE),
                "per_landmark": [
                    {"landmark": row["landmark"], **_numbers(row, FIGURES)}
                    for row in rows
                    if row.get("landmark") in landmarks
                ],
            }
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


SHARE = "share.json"
FORMAT, FORMAT_VERSION = "h3delandmarks-model", 1
_WEIGHTS = re.compile(r"(?:stage-[0-9]{1,3}|shape)\.safetensors")
_MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Added:
    """What adding a shared model did.

    Attributes:
        package: where it is kept.
        shared_version: its version where it comes from.
        is_new: whether no version here was the same model.
        is_current: whether its id alone means it.
    """

    package: ModelPackage
    shared_version: str
    is_new: bool
    is_current: bool


def share_model(model: str, path: str | Path) -> ModelPackage:
    """Write a model as a file that another site can add; returns the package that was shared.

    Args:
        model: id, or id@version.
        path: new zip file.

    Raises:
        InputError: the file is there already or cannot be written, or the model cannot be shared.
        ModelPackageError: there is no such model, or it is damaged.
    """
    path, package = Path(path), find_model(model)
    if path.exists():
        raise InputError(f"'{path}' is there already: choose another name.")
    package.verify()
    with tempfile.TemporaryDirectory() as folder:
        content = _reduced(package, Path(folder) / "package", _comparison(package))
        files = {name: content.read(name) for name in content.files}
        said = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "digest": package_digest(content),
            "files": {
                name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
            },
        }
        _write_zip(path, {**files, SHARE: to_json(said)})
    return package


def add_shared(path: str | Path) -> Added:
    """Add a shared model as a version of its id; nothing is written where anything is wrong with it.

    It becomes current only where there was no model of its id.

    Raises:
        InputError: the file cannot be used.
        ModelPackageError: the user's folder cannot be written to.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            package = _checked(path, Path(folder))
            reduced = _reduced(package, Path(folder) / "reduced", None)
        except DAMAGED as error:
            raise refused(path, f"it is damaged or was changed ({type(error).__name__})") from error
        except FileNotFoundError as error:
            raise InputError(f"'{path}' does not exist: check the path.") from error
        except (OSError, ModelPackageError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise refused(path, f"its content is no usable model ({reason})") from error
        digest = package_digest(reduced)
        known = [e.package for e in available_models() if e.package and e.id == reduced.id]
        is_new = all(package_digest(other) != digest for other in known)
        kept = add_version(reduced, reduced.manifest, package.model_card(), "add", {})
    current = find_model(kept.id)
    return Added(kept, package.version, is_new, current.version == kept.version)


def _reduced(package: ModelPackage, folder: Path, comparison: Comparison | None) -> ModelPackage:
    """The package with nothing but what may be shared; tensors are written anew, without remarks in their files."""
    manifest, names = shared_manifest(package)
    weights = {new: package.load_weights(old) for new, old in names.items()}
    reduced = write_package(folder, manifest, weights, shared_card(manifest, comparison))
    reduced.verify()
    return reduced


def _comparison(package: ModelPackage) -> Comparison | None:
    """How the version compared when it was promoted here."""
    digest = package_digest(package)
    for entry in reversed(read_history(registry.user_folder(), package.id)):
        if entry.event == "promote" and entry.digest == digest and entry.details.get("comparison"):
            try:
                return Comparison.from_dict(entry.details["comparison"])
            except ValueError:
                return None
    return None


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    try:
        with replaced_when_complete(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name)  # a fixed date
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}): check the folder and its space.") from error


def _checked(path: Path, folder: Path) -> ModelPackage:
    """The package of a shared file, extracted aside and checked."""
    with zipfile.ZipFile(path) as archive:
        entries = checked_entries(path, archive, _may_hold, {SHARE, MANIFEST, MODEL_CARD}, "models share")
        if sum(entry.file_size for entry in entries.values()) > _MOST_BYTES:
            raise refused(path, "it is far too large")
        manifest = read_manifest(path, archive, entries, SHARE, (FORMAT, FORMAT_VERSION))
        for name, said in manifest.files.items():
            extract(path, archive, entries[name], said, folder / "shared" / name)
    package = open_package(folder / "shared")
    package.verify()
    if set(package.files) != set(manifest.files) or package_digest(package) != manifest.digest:
        raise refused(path, "it is not the model that it says it is")
    return package


def _may_hold(name: str) -> bool:
    return name in (SHARE, MANIFEST, MODEL_CARD) or _WEIGHTS.fullmatch(name) is not None
