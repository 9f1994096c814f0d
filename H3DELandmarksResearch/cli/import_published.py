"""``models import-published``: a model package from a checkpoint of H3DE-Net, HYATT-Net or HAN."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_json
from H3DELandmarksLib.core.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksLib.core.landmarks import LandmarkScheme

ARCHITECTURES = ("h3denet", "hyatt", "han")
# The radiographs' presets are the names in converters.radiograph_sets.
MOLARS = "mml"


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "import-published",
        help="make a model of a published network's checkpoint",
        description="Make a model package of a checkpoint of H3DE-Net, HYATT-Net or HAN. Nothing in the file is run.",
    )
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="PyTorch or safetensors file")
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True, help="model package to write")
    parser.add_argument(
        "--spacing",
        metavar="MM",
        type=float,
        help="voxel size that H3DE-Net was trained on. Leave it out for radiographs: each image is then fitted into "
        "the network's input as by the authors (a network pixel is 1.25 x max(width / input width, height / input "
        "height) image pixels); given, network pixels have this size in every image",
    )
    parser.add_argument(
        "--size",
        metavar="N",
        type=int,
        nargs="+",
        help="pixels of the network's input, width and height (voxels along three axes for H3DE-Net); default: as "
        "published for the set that --landmarks names, else 1024 1216",
    )
    parser.add_argument(
        "--landmarks",
        metavar="NAMES",
        required=True,
        help="mml, isbi2015, cepha29, hand, cephadoadu, pelvis (which also says how images are shown to the network), "
        "or a file: one name a line, or a scheme in JSON",
    )
    parser.add_argument("--architecture", choices=ARCHITECTURES, help="default: by the checkpoint's names")
    parser.add_argument(
        "--window",
        nargs=2,
        type=float,
        default=(0.0, 255.0),
        metavar=("LOW", "HIGH"),
        help="stored values that the authors' 0 and 255 correspond to (default: 0 255)",
    )
    parser.set_defaults(run=import_checkpoint)
    add_json(parser)


def import_checkpoint(options: argparse.Namespace, console: Console) -> bool:
    """Write the package."""
    from H3DELandmarksResearch.published.package import import_published

    scheme = chosen_scheme(options.landmarks)
    package = import_published(
        options.checkpoint,
        options.output,
        scheme,
        options.spacing,
        options.architecture,
        tuple(options.window),
        options.size,
    )
    console.say(f"Imported {package.manifest.title} with {len(scheme)} landmarks into {package.path}")
    console.say(package.manifest.limitations[0])
    console.document({"ok": True, "id": package.id, "version": package.version, "path": package.path})
    return True


def chosen_scheme(choice: str) -> LandmarkScheme:
    """The landmarks of a preset or a file.

    Raises:
        InputError: there is no such preset or file, or it holds no names.
    """
    from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS
    from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME

    if choice == MOLARS:
        return MOLAR_SCHEME
    if choice in RADIOGRAPH_SETS:
        return _scheme(choice, RADIOGRAPH_SETS[choice].names, f"Point {{}} of the data set {choice}.")
    path = Path(choice)
    if not path.is_file():
        presets = ", ".join((MOLARS, *RADIOGRAPH_SETS))
        raise InputError(f"There are no landmarks '{choice}': choose {presets}, or a file with their names.")
    return _scheme_of_file(path)


def _scheme_of_file(path: Path) -> LandmarkScheme:
    from H3DELandmarksLib.formats.reading import LARGEST_BYTES
    from H3DELandmarksResearch.cases.schemes import scheme_of_file

    if path.suffix.lower() == ".json":
        return scheme_of_file(path)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError("too large")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' holds no landmark names: write one a line.") from error
    lines = [line.strip() for line in text.splitlines()]
    return _scheme(path.stem, [line for line in lines if line and not line.startswith("#")], "")


def _scheme(name: str, names: list[str] | tuple[str, ...], definition: str) -> LandmarkScheme:
    from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme

    points = tuple(LandmarkDefinition(text, definition.format(k + 1)) for k, text in enumerate(names))
    return LandmarkScheme(name, "1", points)
