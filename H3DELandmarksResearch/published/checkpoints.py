"""Checkpoints of published networks, read without running anything that they contain.

PyTorch's checkpoints are pickles: programs that may call any function. They are surveyed first: what they name and how
much they would unpack to. Then ``torch.load(weights_only=True)`` reads them, with ``argparse.Namespace`` allowed, which
H3DE-Net's hold, and with a stand-in that keeps nothing for every other class of the training program.

Read are PyTorch's zip files (since 1.6), its older files, and safetensors.
"""

from __future__ import annotations

import argparse
import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch.torch_version import TorchVersion

from H3DELandmarksLib.core.errors import InputError, MissingDependencyError
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksResearch.published.pickle_survey import Survey, UnsafePickleError, survey

SAFE_VERSION = TorchVersion("2.6")  # CVE-2025-32434
MAX_FILE_BYTES = 8 * 2**30
MAX_PICKLE_BYTES = 4 * 2**20
# Older files: magic number, protocol, system, content and the keys of the storages, before the storages themselves.
LEGACY_PICKLES = 5
# Names that training programs give to the entry that holds the weights, in order of preference.
WEIGHT_ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# What torch.load may call by itself; the rest of PyTorch can ask for memory of any size.
TORCH_NAMES = re.compile(
    r"torch\.(_utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)|[A-Z]\w+Storage|Size|device"
    r"|b?float\d+|u?int\d+|bool)"
)
OTHER_NAMES = ("collections.OrderedDict", "builtins.set", "_codecs.encode", "argparse.Namespace")
REFUSED_NAMES = ("builtins.bytearray", "collections.Counter")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        tensors: weights and buffers by name, in the file's order.
        arguments: settings of the training program, as far as the file tells them; plain values only.
    """

    tensors: dict[str, np.ndarray]
    arguments: dict[str, Any] = field(default_factory=dict)


class _LeftOut:
    """Takes the place of an object of the training program; keeps nothing of it."""

    def __new__(cls, *_: Any) -> _LeftOut:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the weights of a PyTorch checkpoint or a safetensors file, running nothing of it.

    Args:
        path: any file name extension.

    Raises:
        InputError: no such file, no weights in it, or more in it than its size allows.
        MissingDependencyError: PyTorch is older than 2.6, before which pickles could run code in spite of everything.
    """
    path = Path(path)
    content = read_content(path)
    try:
        tensors = _weights(content)
        _check_sizes(tensors, path.stat().st_size)
    except UnsafePickleError as error:
        raise _unreadable(path, error) from error
    if not tensors:
        raise InputError(f"'{path}' holds no weights by name: save the network's state_dict() and import that file.")
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"'{name}' in '{path}' holds values that are not numbers: choose another checkpoint.")
    return Checkpoint(arrays, _arguments(content))


def read_content(path: Path) -> Any:
    """All that a checkpoint holds, running nothing of it: tensors, numbers, texts, lists and dictionaries.

    Raises:
        InputError, MissingDependencyError: as for `read_checkpoint`.
    """
    if not path.is_file():
        raise InputError(f"The checkpoint '{path}' does not exist: check the path.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"The checkpoint '{path}' is larger than {MAX_FILE_BYTES >> 30} GB: choose another file.")
    try:
        return _load(path)
    except MissingDependencyError:
        raise
    except Exception as error:  # damaged files end in exceptions of any kind
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error) if isinstance(error, UnsafePickleError) else type(error).__name__
    return InputError(f"'{path}' is no PyTorch checkpoint, or a damaged one: choose another ({reason}).")


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
        file.seek(0)
        if start[8:] == b"{" and path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        said = _survey_zip(file) if start[:4] == b"PK\x03\x04" else _survey_legacy(file)
        file.seek(0)
        return _load_surveyed(file, said)


def _survey_zip(file: BinaryIO) -> Survey:
    """Survey a zip file's pickle, and compare what all members claim with what is there."""
    with zipfile.ZipFile(file) as archive:
        # PyTorch's own reader finds members whatever their case.
        members = {member.filename.lower(): member for member in archive.infolist()}
        size = file.seek(0, io.SEEK_END)
        pickles = [name for name in members if name.rpartition("/")[2] in ("data.pkl", "constants.pkl")]
        if len(pickles) != 1 or not pickles[0].endswith("data.pkl") or len(members) != len(archive.infolist()):
            raise UnsafePickleError("the zip file does not hold one data.pkl")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise UnsafePickleError("the zip file is compressed")
        if sum(member.file_size for member in members.values()) > size:
            raise UnsafePickleError("its parts claim more than the file holds")
        if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise UnsafePickleError(f"its data.pkl is larger than {MAX_PICKLE_BYTES >> 20} MB")
        said = survey(io.BytesIO(archive.read(members[pickles[0]])))
    folder = pickles[0].removesuffix("data.pkl")
    for key, claimed in said.storages.items():
        if claimed > members[f"{folder}data/{key}".lower()].file_size:
            raise UnsafePickleError("a tensor claims more memory than the file holds")
    return said


def _survey_legacy(file: BinaryIO) -> Survey:
    """Survey the pickles of a file from before PyTorch 1.6, which stand before its tensors' memory."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start, said = io.BytesIO(file.read(MAX_PICKLE_BYTES)), Survey()
    for _ in range(LEGACY_PICKLES):
        one = survey(start)
        said.names.update(one.names)
        said.storages.update(one.storages)
    if sum(said.storages.values()) > size:
        raise UnsafePickleError("a tensor claims more memory than the file holds")
    return said


def _load_surveyed(file: BinaryIO, said: Survey) -> Any:
    """Load a checkpoint of which only known names and the stand-in are called."""
    if torch.__version__ < SAFE_VERSION:
        raise MissingDependencyError("Reading a checkpoint safely needs PyTorch 2.6 or newer: update it.")
    unknown = {name for name in said.names if not TORCH_NAMES.fullmatch(name) and name not in OTHER_NAMES}
    refused = sorted(name for name in unknown if name.startswith("torch.") or name in REFUSED_NAMES)
    if refused:
        raise UnsafePickleError(f"it holds a '{refused[0]}': save the network's state_dict() alone")
    allowed = [argparse.Namespace, *map(_stand_in, unknown)]
    with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def _stand_in(name: str) -> type:
    """A class of this full name that keeps nothing of what it gets."""
    module, _, short = name.rpartition(".")
    return type(short, (_LeftOut,), {"__module__": module})


def _weights(content: Any, depth: int = 3) -> dict[str, torch.Tensor]:
    """The entry of a checkpoint that holds weights by name, without prefixes that all names share."""
    if not isinstance(content, dict) or not depth:
        return {}
    found = {k: value for k, value in content.items() if isinstance(k, str) and isinstance(value, torch.Tensor)}
    if not any("." in name for name in found):
        entries = [_weights(content[name], depth - 1) for name in WEIGHT_ENTRIES if name in content]
        return next(filter(None, entries), {})
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _check_sizes(tensors: Mapping[str, torch.Tensor], file_bytes: int) -> None:
    """Refuse tensors that would grow when they are copied; until then they are views of what was read."""
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if sizes[name] > tensor.untyped_storage().nbytes():
            raise UnsafePickleError(f"'{name}' claims more memory than the file holds for it")
    if sum(sizes.values()) > 2 * file_bytes:
        raise UnsafePickleError("its tensors claim more memory than the file holds")


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return to_array(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)


def _arguments(content: Any) -> dict[str, Any]:
    """The training program's settings: an argparse.Namespace or a dictionary named ``args``."""
    arguments = content.get("args") if isinstance(content, dict) else None
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    if not isinstance(arguments, Mapping):
        return {}
    plain = (str, int, float, bool, type(None))
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(name, str)
        and (isinstance(value, plain) or (isinstance(value, list) and all(isinstance(v, plain) for v in value)))
    }
