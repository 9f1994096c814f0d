"""What reads each kind of file, and how files of that kind are changed."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from benchmarks.fuzzing.mutations import Mutation, head_bytes, members, some_bytes, tree, words
from H3DELandmarksLib.formats.reading import build, parse_json

Reading = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """A way into the software.

    Attributes:
        read: reads a file; its own errors are the right answer to a bad one.
        mutations: one of them is drawn for each input.
    """

    read: Reading
    mutations: Sequence[Mutation]

    def mutated(self, rng: random.Random, seeds: Sequence[Path]) -> tuple[str, bytes]:
        """Name and content of an input."""
        seed = rng.choice(seeds)
        data = seed.read_bytes()
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            data = rng.choice(self.mutations)(rng, data)
        return seed.name, data


class _Node:
    """A node of a scene file with one attribute."""

    def __init__(self, text: str) -> None:
        self.text = text

    def GetAttribute(self, name: str) -> str:  # noqa: N802
        return self.text


def _scan(path: Path) -> object:
    from H3DELandmarksLib.io.images import read_volume

    return read_volume(path, spacing=(1.0, 1.0) if path.suffix in (".png", ".jpg", ".bmp", ".tif") else None)


def _names(path: Path) -> object:
    from H3DELandmarksResearch.cli.import_published import chosen_scheme

    return chosen_scheme(str(path))


def _json(record: str) -> Reading:
    """A record of the room of formats by its full name."""

    def read(path: Path) -> object:
        from importlib import import_module

        module, _, name = record.rpartition(".")
        return build(getattr(import_module(f"H3DELandmarksLib.formats.{module}"), name), parse_json(path.read_bytes()))

    return read


def _attribute(path: Path) -> object:
    from H3DELandmarksLib.scene.proposal import read_proposal

    return read_proposal(_Node(path.read_bytes().decode("utf-8", "replace")))


def _coco(path: Path) -> object:
    from H3DELandmarksResearch.converters.coco import convert

    with tempfile.TemporaryDirectory() as target:
        shutil.copy(path.parents[1] / "seeds" / "scan" / "c.png", path.with_name("a.png"))
        return convert(path.parent, Path(target), {"spacing": "0.1"}, lambda *_: None)


def _run(path: Path) -> object:
    from H3DELandmarksLib.formats.run import read_run

    return read_run(path.replace(path.with_name("run.json")).parent)


def _history(path: Path) -> object:
    from H3DELandmarksLib.formats.versions import read_history

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "_history" / "toy" / "000001"
        place.mkdir(parents=True)
        shutil.copy(path, place / "entry.json")
        return read_history(Path(folder), "toy")


def _scheme(path: Path) -> object:
    from H3DELandmarksLib.formats.schemes import read_scheme_bytes

    return read_scheme_bytes(path.read_bytes())


def _step(path: Path) -> object:
    from H3DELandmarksLib.formats.schemes import SchemeStep

    return SchemeStep.from_bytes(path.read_bytes())


def _model(path: Path) -> None:
    from H3DELandmarksLib.models import open_package

    open_package(path).verify()


def _manifest(path: Path) -> None:
    from H3DELandmarksLib.models import open_package
    from H3DELandmarksLib.models.card import model_card
    from H3DELandmarksLib.models.package import package_digest
    from H3DELandmarksLib.models.sharing import shared_manifest

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "toy"
        shutil.copytree(path.parents[1] / "seeds" / "toy", copy)
        shutil.copy(path, copy / "manifest.json")
        package = open_package(copy)
        package.verify()
        shared_manifest(package)
        package_digest(package)
        model_card(package.manifest)


def _weights(path: Path) -> object:
    from H3DELandmarksLib.models import open_package

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "toy"
        shutil.copytree(path.parents[1] / "seeds" / "toy", copy)
        shutil.copy(path, copy / "a.safetensors")
        text = (copy / "manifest.json").read_text(encoding="utf-8")
        old = open_package(copy).weight_files["a.safetensors"]
        (copy / "manifest.json").write_text(text.replace(old, hashlib.sha256(path.read_bytes()).hexdigest()))
        return open_package(copy).verify()


def _shared(path: Path) -> object:
    from H3DELandmarksLib.models import registry, sharing

    with tempfile.TemporaryDirectory() as folder, patch.object(registry, "user_folder", lambda: Path(folder)):
        return sharing.add_shared(path)


def _cases(path: Path) -> object:
    from toy_projects import SCHEME

    from H3DELandmarksLib.cases import create_project
    from H3DELandmarksResearch.cases.archive import add_archive

    with tempfile.TemporaryDirectory() as folder:
        return add_archive(create_project(Path(folder) / "project", SCHEME), path, lambda *_: None)


def _events(path: Path) -> object:
    import application

    application.start()
    from H3DELandmarksPanel.CommandRun import CommandRun
    from H3DELandmarksPanel.Worker import ChildProcess

    run = CommandRun([], "detection")
    for line in path.read_bytes().splitlines():
        event = ChildProcess._parsed(line)
        if event is not None:
            run._note(event)
    run.cancel()
    return run.remaining


def _library(name: str) -> Reading:
    """A function of the library or the research package by its full name."""

    def read(path: Path) -> object:
        from importlib import import_module

        module, _, function = name.rpartition(".")
        return getattr(import_module(module), function)(path)

    return read


JSON = (tree, tree, words, some_bytes)
TEXT = (words, some_bytes)
BINARY = (some_bytes, head_bytes, words)
ZIP = (members, members, some_bytes)
READERS = {
    "scan": Reader(_scan, BINARY),
    "markups": Reader(_library("H3DELandmarksLib.io.markups.read_markups"), JSON),
    "region": Reader(_library("H3DELandmarksLib.io.markups.read_region"), JSON),
    "fcsv": Reader(_library("H3DELandmarksLib.io.markups.read_markups"), TEXT),
    "table": Reader(_library("H3DELandmarksResearch.planning.point_tables.read_tables"), TEXT),
    "names": Reader(_names, TEXT),
    "scheme": Reader(_library("H3DELandmarksResearch.cases.schemes.scheme_of_file"), JSON),
    "project scheme": Reader(_scheme, JSON),
    "scheme step": Reader(_step, JSON),
    "manifest": Reader(_manifest, JSON),
    "weights": Reader(_weights, BINARY),
    "model zip": Reader(_model, ZIP),
    "shared model": Reader(_shared, ZIP),
    "history entry": Reader(_history, JSON),
    "revision": Reader(_json("case_record.RevisionRecord"), JSON),
    "image record": Reader(_json("case_record.ImageRecord"), JSON),
    "case zip": Reader(_cases, ZIP),
    "run record": Reader(_run, JSON),
    "configuration": Reader(_library("H3DELandmarksResearch.training.configuration.read_configuration"), JSON),
    "split": Reader(_library("H3DELandmarksResearch.training.configuration.read_split"), JSON),
    "coco": Reader(_coco, JSON),
    "checkpoint": Reader(_library("H3DELandmarksResearch.published.checkpoints.read_checkpoint"), (*BINARY, members)),
    "training checkpoint": Reader(_library("H3DELandmarksLib.training.checkpoints.load_checkpoint"), BINARY),
    "scene attribute": Reader(_attribute, JSON),
    "child events": Reader(_events, TEXT),
}
