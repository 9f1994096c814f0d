"""Training configurations and their cases: what the file says, checked before anything is computed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.same_picture import repeated_pictures
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.core.text import first_of
from H3DELandmarksLib.formats.manifest import check_stages, check_texts
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json, read_record
from H3DELandmarksLib.formats.run import PACKAGE
from H3DELandmarksLib.formats.training import SUBSETS, Training, TrainingStage
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.training.cases import Case, VolumeStore
from H3DELandmarksResearch.cases.case_folder import points_of_case, read_case, readers_of_case, scan_of_case
from H3DELandmarksResearch.cases.shared_pictures import kept_fingerprint, refuse_shared
from H3DELandmarksResearch.cases.subjects import subjects_in
from H3DELandmarksResearch.composites.training_cases import composite_cases
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME
from H3DELandmarksResearch.phantom.training_cases import phantom_case
from H3DELandmarksResearch.training.record import CALIBRATION, RigidMotion, TrainingConfiguration, check_split

DATA_VARIABLE = "H3DE_DATA"
CONFIGURATIONS = Path(__file__).resolve().parents[1] / "configurations"  # of the bundled models


def for_cases(training: Training, cases: int) -> Training:
    """The same with epochs of so many cases as steps."""
    if training.epochs is None:
        return training
    steps = math.ceil(cases * training.epochs / training.batch)
    share = None if training.warmup_epochs is None else training.warmup_epochs / training.epochs
    warmup = training.warmup if share is None else round(steps * share)
    return replace(training, steps=steps, warmup=warmup, epochs=None, warmup_epochs=None)


@dataclass(frozen=True)
class Configuration:
    """A training configuration with the landmarks that it names.

    Attributes:
        path: the file it was read from.
        record: the file's content.
        scheme: the landmarks.
    """

    path: Path
    record: TrainingConfiguration
    scheme: LandmarkScheme

    @property
    def canonical_pose(self) -> bool:
        """Whether networks see the anatomy in the mean shape's frame (True) or along the patient's axes."""
        return self.record.sees_canonical_pose

    def data_folder(self) -> Path:
        """Folder of the cases; ``${H3DE_DATA}`` in it names the environment variable that holds the data's root."""
        text = self.record.data.folder or ""
        if f"${{{DATA_VARIABLE}}}" in text:
            text = text.replace(f"${{{DATA_VARIABLE}}}", str(data_root()))
        return Path(text)

    def split(self) -> Mapping[str, Sequence[str]]:
        """Names of the cases of each subset; ``data.split`` may name a file in the data folder, as `convert` writes it.

        Raises:
            InputError: there is no such file, it leaves a subset without cases, or it names a case twice.
        """
        split = self.record.data.split
        if isinstance(split, Mapping):
            return split
        path = self.data_folder() / (split or "")
        found = read_split(path)
        empty = [subset for subset in SUBSETS if not found.get(subset)]
        if empty:
            raise InputError(f"'{path}' has no cases for {' and '.join(empty)}: convert the data set completely.")
        subsets = {subset: found[subset] for subset in (*SUBSETS, CALIBRATION) if found.get(subset)}
        try:
            check_split(subsets)
        except ValueError as error:
            raise InputError(f"'{path}' cannot be used, {error}: correct it.") from error
        return subsets

    def with_steps(self) -> Configuration:
        """The same with the steps of each stage, where it says epochs of the training cases.

        Raises:
            InputError: as for `split`.
        """
        if all(stage.training.epochs is None for stage in self.record.stages):
            return self
        data = self.record.data
        made = len(range(*data.seeds["train"])) + (data.composites or {}).get("train", 0) if data.seeds else 0
        cases = made or len(self.split()["train"])
        stages = tuple(replace(s, training=for_cases(s.training, cases)) for s in self.record.stages)
        return replace(self, record=replace(self.record, stages=stages))

    @property
    def calibration_subset(self) -> str:
        """The subset that a model's calibration is fitted to: its own where there is one, else the validation cases."""
        subsets = self.record.data.seeds or self.split()
        return CALIBRATION if CALIBRATION in subsets else "validation"


def data_root() -> Path:
    """Folder of the data sets.

    Raises:
        InputError: the environment variable that names it is not set.
    """
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        raise InputError(f"Set the environment variable {DATA_VARIABLE} to the folder of the data sets.")
    return Path(root)


def read_configuration(path: Path) -> Configuration:
    """Read and check a configuration and the landmarks that it names.

    Raises:
        InputError: the file is missing or damaged, or an entry of it is unknown, missing, out of range or contradicts
            another one.
    """
    path = Path(path)
    record = read_record(TrainingConfiguration, path, what="configuration")
    scheme = _scheme(path, record)
    try:
        check_texts(record, scheme)
        check_stages(record.stages, scheme)
        _check_run(record.stages, scheme)
    except ValueError as error:
        raise InputError(f"The configuration '{path}' cannot be used, entry {error}: correct it.") from error
    return Configuration(path, record, scheme)


def _check_run(stages: Sequence[TrainingStage], scheme: LandmarkScheme) -> None:
    """What a run demands of its stages, each of which has a folder; raises ValueError."""
    folders = [PACKAGE]
    for number, stage in enumerate(stages):
        if not _FOLDER_NAME.fullmatch(stage.name) or stage.name.casefold() in folders:
            raise ValueError(
                f"stages[{number}].name: '{stage.name}' cannot name the stage's folder: choose another word of "
                "letters, digits, dots, hyphens and underscores"
            )
        folders.append(stage.name.casefold())
    if stages[0].poses == "found":
        raise ValueError("stages[0].poses: 'found' needs an earlier stage that finds the anatomy; take 'scan'")
    seen = {name for stage in stages for name in stage.landmarks}
    if unseen := [name for name in scheme.names if name not in seen]:
        raise ValueError(f"stages: none has {first_of(unseen)} of the scheme '{scheme.id}' in its groups")


_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _scheme(path: Path, record: TrainingConfiguration) -> LandmarkScheme:
    """The phantom brings its own scheme; others are named by a file beside the configuration."""
    if record.data.reader != "case-folder":
        return MOLAR_SCHEME
    return read_record(LandmarkScheme, path.parent / str(record.scheme), what="landmark scheme")


def read_split(path: Path) -> dict[str, list[str]]:
    """Read a split file.

    Raises:
        InputError: it is missing or not a split file.
    """
    try:
        return build(dict[str, list[str]], parse_json(path.read_bytes()))
    except FileNotFoundError as error:
        raise InputError(f"The split file '{path}' does not exist: convert the data set again.") from error
    except (OSError, FormatError) as error:
        raise InputError(f"'{path}' is not a split file: remove it and convert the data set again.") from error


def load_cases(configuration: Configuration, subset: str, cache: Path) -> list[Case]:
    """Load the cases of "train", "validation", "test" or "calibration"; radiographs come on their sheets.

    What exceeds a limit of memory lies on disk, see `VolumeStore`, and is read crop by crop.

    Where the published points of a specimen lie in another pose than its scan, the file named by ``data.poses`` holds
    the rigid motion from the one to the other.

    Args:
        configuration: its ``data`` entry names the reader.
        subset: which part of the split.
        cache: folder in which generated cases are kept between runs.

    Raises:
        InputError: the reader is unknown or the data is not there.
    """
    readers = {"case-folder": _from_folder, "phantom": _from_phantom, "composite": _from_composite}
    cases = readers[configuration.record.data.reader](configuration, subset, cache)
    cache.mkdir(parents=True, exist_ok=True)
    store = VolumeStore(cache)
    return [replace(case, volume=store.kept(case.volume)) for case in (each.laid_flat() for each in cases)]


def _from_folder(configuration: Configuration, subset: str, cache: Path) -> Iterator[Case]:
    folder = configuration.data_folder()
    data, motions = configuration.record.data, {}
    if data.poses is not None:
        motions = read_motions(configuration.path.parent / data.poses)
    for name in configuration.split()[subset]:
        volume, landmarks = read_case(folder, name, configuration.scheme.names)
        said = readers_of_case(folder, name, configuration.scheme.names)
        if name in motions:
            landmarks, *moved = (
                p.with_positions(motions[name].to_lps(p.positions)) for p in (landmarks, *said.values())
            )
            said = dict(zip(said, moved))
        yield Case(name, volume, landmarks, said)


def refuse_unreadable_points(configuration: Configuration) -> None:
    """Refuse case folders of which any point list cannot be read: those to test with are needed after the training.

    Raises:
        InputError: a point list is missing or unreadable.
    """
    if configuration.record.data.reader != "case-folder":
        return
    folder = configuration.data_folder()
    for names in configuration.split().values():
        for name in names:
            read_markups(points_of_case(folder, name))
            readers_of_case(folder, name)


def refuse_shared_pictures(configuration: Configuration, cache: Path) -> None:
    """Refuse a split of case folders of which two subsets share a picture; scans are looked at once and remembered.

    Args:
        configuration: what to train.
        cache: folder in which fingerprints are kept between runs.

    Raises:
        InputError: there is such a pair, or a scan is missing.
    """
    if configuration.record.data.reader != "case-folder":
        return
    subset_of = {name: subset for subset, names in configuration.split().items() for name in names}
    folder, names = configuration.data_folder(), sorted(subset_of)
    pictures = [kept_fingerprint(scan_of_case(folder, name), cache / "fingerprints", read_volume) for name in names]
    refuse_shared(names, repeated_pictures(pictures), subset_of)


def refuse_shared_subjects(configuration: Configuration) -> None:
    """Refuse a split of case folders of which two subsets share a subject, by a table in the folder or by BIDS names.

    Raises:
        InputError: there is such a subject, or the table cannot be used.
    """
    if configuration.record.data.reader != "case-folder":
        return
    subset_of = {name: subset for subset, names in configuration.split().items() for name in names}
    first: dict[str, str] = {}
    for name, subject in subjects_in(configuration.data_folder(), subset_of).items():
        other = first.setdefault(subject, name)
        if subset_of[name] != subset_of[other]:
            raise InputError(
                f"The cases '{other}' ({subset_of[other]}) and '{name}' ({subset_of[name]}) are of one subject, "
                f"'{subject}': put both into one subset."
            )


def doubtful_cases(configuration: Path) -> dict[str, str]:
    """Cases whose points are not to be trusted, by name with the reason; figures are stated without them, too.

    Args:
        configuration: file of a configuration; the list lies beside it as ``NAME-doubtful.json``.

    Returns:
        Empty where there is no list.

    Raises:
        InputError: the list cannot be read.
    """
    path = configuration.with_name(f"{configuration.stem}-doubtful.json")
    try:
        return build(dict[str, str], parse_json(path.read_bytes())) if path.exists() else {}
    except (OSError, FormatError) as error:
        raise InputError(f"'{path}' does not map names of cases to reasons: correct it.") from error


def read_motions(path: Path) -> dict[str, Pose]:
    """Rigid motions by case, from the frame of its points to that of its scan, LPS mm.

    Raises:
        InputError: the file is missing or damaged.
    """
    motions = read_record(dict[str, RigidMotion], path, what="file of motions")
    return {name: Pose(np.array(motion.rotation), np.array(motion.translation)) for name, motion in motions.items()}


def _from_phantom(configuration: Configuration, subset: str, cache: Path) -> Iterator[Case]:
    data = configuration.record.data
    first, last = data.seeds[subset]
    spacings = data.spacings_mm
    folder = cache / "phantom"
    return (
        phantom_case(seed, spacings[seed % len(spacings)], folder, data.wide_share, data.less_room_mm)
        for seed in range(first, last)
    )


def _from_composite(configuration: Configuration, subset: str, cache: Path) -> Iterator[Case]:
    """Composites of the subset's patients, then phantoms."""
    data = configuration.record.data
    patients = read_configuration(configuration.path.parent / str(data.patients)).split()[subset]
    count, folder, share = data.composites[subset], cache / "composites", data.wide_share
    source = configuration.data_folder()
    yield from composite_cases(source, patients, count, data.spacings_mm, folder, wide_share=share)
    yield from _from_phantom(configuration, subset, cache)


def find_configuration(name: str) -> Path:
    """A configuration file by path, or a bundled one by name.

    Raises:
        InputError: there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    if re.fullmatch(r"[\w-]+", name):
        path = CONFIGURATIONS / f"{name}.json"
        if path.is_file():
            return path
    raise InputError(f"The configuration '{name}' does not exist: give the path of a JSON file.")
