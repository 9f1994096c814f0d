"""Checkpoints of published networks, read without running anything that they contain.

PyTorch's checkpoints are pickles: programs that may call any function. Those of H3DE-Net hold an ``argparse.Namespace``
and optimizer state, which ``torch.load(weights_only=True)`` refuses. The reader here interprets such a program itself.
It calls nothing that a file names: tensors and containers are rebuilt from a short list of known constructors, and
every other object becomes an ``Inert`` record of its name, arguments and state. Neither PyTorch nor a class of the file
is imported.

Read are PyTorch's zip files (since 1.6), its older files, and safetensors.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError

LARGEST_FILE = 8 * 2**30
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Names that training programs give to the entry that holds the weights, in order of preference.
WEIGHT_ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
DTYPES = {
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "BFloat16": "bfloat16",
}

# What reading a file that is no checkpoint, or not all of one, can end in.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(eq=False)
class Inert:
    """An object of a checkpoint that was not built: what the file says of it.

    Attributes:
        name: module and class, for example ``argparse.Namespace``.
        arguments: what its constructor was to get.
        state: what it was to be filled with; for most classes their attributes by name.
    """

    name: str
    arguments: tuple = ()
    state: Any = None


@dataclass(frozen=True)
class _Global:
    """A class or function that a pickle names; never looked up."""

    name: str


@dataclass(eq=False)
class _Storage:
    """Memory that tensors share; older files bring it after the tensors."""

    dtype: str
    count: int
    data: bytes | None = None

    def values(self) -> np.ndarray:
        """All elements; bfloat16 widened to float32."""
        wanted = "<u2" if self.dtype == "bfloat16" else self.dtype
        if self.data is None or len(self.data) < self.count * np.dtype(wanted).itemsize:
            raise ValueError("a tensor's memory is missing or too short")
        raw = np.frombuffer(self.data, wanted, self.count)
        return (raw.astype("<u4") << 16).view("<f4") if self.dtype == "bfloat16" else raw


@dataclass(eq=False)
class _Tensor:
    """A strided view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """A copy of the elements.

        Raises:
            ValueError: the view reaches beyond its storage.
        """
        values = self.storage.values()
        if len(self.shape) != len(self.strides) or any(n < 0 for n in (self.offset, *self.shape, *self.strides)):
            raise ValueError("a tensor has no valid shape")
        if 0 in self.shape:
            return np.zeros(self.shape, values.dtype)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if last >= len(values):
            raise ValueError("a tensor reaches beyond its memory")
        steps = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps, writeable=False).copy()


def _tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor names no memory")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


# All that a pickle may have called; each only moves its arguments into a container.
CONSTRUCTORS: dict[str, Callable] = {
    "collections.OrderedDict": lambda *pairs: dict(*pairs),
    "builtins.dict": lambda *pairs: dict(*pairs),
    "builtins.list": lambda *items: list(*items),
    "builtins.tuple": lambda *items: tuple(*items),
    "builtins.set": lambda *items: list(*items),
    "torch.Size": lambda *sizes: tuple(*sizes),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
}


class _InertUnpickler(pickle._Unpickler):
    """Pickle's own interpreter (the one in Python) without any way to reach a class or function.

    The one in C keeps remembered objects in an array that a file can make as long as it likes.
    """

    def __init__(self, file: io.BufferedIOBase, storages: dict[str, _Storage]) -> None:
        """Read from ``file``; storages that tensors name are added to ``storages`` by their key."""
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storages = storages

    def find_class(self, module: str, name: str) -> _Global:
        """Keep the name."""
        return _Global(f"{'builtins' if module == '__builtin__' else module}.{name}")

    def get_extension(self, code: int) -> None:
        """Append a placeholder for a class that is known by number."""
        self.append(_Global(f"extension.{code}"))

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a tensor names."""
        kind, storage_type, key, _, count = pid[:5]
        name = storage_type.name.rpartition(".")[2].removesuffix("Storage")
        if kind != "storage" or name not in DTYPES:
            raise ValueError(f"tensors of type {name} are not known")
        return self.storages.setdefault(str(key), _Storage(DTYPES[name], int(count)))

    def _construct(self, what: Any, arguments: tuple) -> Any:
        if not isinstance(what, _Global) or not isinstance(arguments, tuple):
            raise ValueError("something that isn't a class is called")
        build = CONSTRUCTORS.get(what.name)
        return Inert(what.name, arguments) if build is None else build(*arguments)

    def _instantiate(self, what: Any, arguments: Any) -> None:
        """Take the place of pickle's method of this name, which calls the class."""
        self.append(self._construct(what, tuple(arguments)))

    def _load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._construct(self.stack[-1], arguments)

    def _load_newobj_ex(self) -> None:
        self.stack.pop()
        self._load_reduce()

    def _load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state

    def _load_append(self) -> None:
        value = self.stack.pop()
        if isinstance(self.stack[-1], list):
            self.stack[-1].append(value)

    def _load_appends(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        if isinstance(self.stack[-1], dict):
            self.stack[-1][key] = value

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(zip(items[::2], items[1::2]))

    # Without the codes that would reserve memory of any size before reading.
    dispatch = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in (pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0])
    } | {
        pickle.REDUCE[0]: _load_reduce,
        pickle.NEWOBJ[0]: _load_reduce,
        pickle.NEWOBJ_EX[0]: _load_newobj_ex,
        pickle.BUILD[0]: _load_build,
        pickle.APPEND[0]: _load_append,
        pickle.APPENDS[0]: _load_appends,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
    }


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        tensors: weights and buffers by name, in the file's order.
        arguments: settings of the training program, as far as the file tells them; plain values only.
    """

    tensors: dict[str, np.ndarray]
    arguments: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the weights of a PyTorch checkpoint or a safetensors file, running nothing of it.

    Args:
        path: any file name extension.

    Raises:
        InputError: no such file, or no weights in it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"The checkpoint '{path}' does not exist: check the path.")
    if path.stat().st_size > LARGEST_FILE:
        raise InputError(f"The checkpoint '{path}' is larger than {LARGEST_FILE >> 30} GB: choose another file.")
    try:
        content = _read(path)
        tensors = {
            name: value.array() if isinstance(value, _Tensor) else value for name, value in _weights(content).items()
        }
    except DAMAGE as error:
        raise InputError(f"'{path}' is no PyTorch checkpoint, or a damaged one: choose another ({error}).") from error
    if not tensors:
        raise InputError(f"'{path}' holds no weights by name: save the network's state_dict() and import that file.")
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"'{name}' in '{path}' holds values that are not numbers: choose another checkpoint.")
    return Checkpoint(tensors, _arguments(content))


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
        file.seek(0)
        if start[:2] == b"PK":
            return _read_zip(file)
        if start[8:] == b"{" and path.suffix.lower() == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        return _read_legacy(file)


def _read_zip(file: io.BufferedIOBase) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(names) != 1:
            raise ValueError("the zip file holds no data.pkl")
        folder = names[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        storages: dict[str, _Storage] = {}
        content = _InertUnpickler(io.BytesIO(archive.read(names[0])), storages).load()
        for key, storage in storages.items():
            member = archive.getinfo(f"{folder}data/{key}")
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its tensors are compressed")
            storage.data = archive.read(member)
    return content


def _read_legacy(file: io.BufferedIOBase) -> Any:
    """The format before PyTorch 1.6: pickles one after the other, then the memory of all tensors."""
    storages: dict[str, _Storage] = {}

    def load() -> Any:
        return _InertUnpickler(file, storages).load()

    if load() != LEGACY_MAGIC or load() != LEGACY_PROTOCOL:
        raise ValueError("it does not begin as one")
    if not load().get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    content = load()
    for key in load():
        storage = storages[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise ValueError("a tensor's memory has another size than it says")
        storage.data = file.read(count * (2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize))
    return content


def _weights(content: Any, depth: int = 3) -> dict[str, _Tensor | np.ndarray]:
    """The entry of a checkpoint that holds weights by name, without prefixes that all names share."""
    if not isinstance(content, dict) or not depth:
        return {}
    tensors = (_Tensor, np.ndarray)
    found = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, tensors)}
    if not any("." in name for name in found):
        entries = [_weights(content[name], depth - 1) for name in WEIGHT_ENTRIES if name in content]
        return next(filter(None, entries), {})
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _arguments(content: Any) -> dict[str, Any]:
    """The training program's settings: an argparse.Namespace or a dictionary named ``args``."""
    arguments = content.get("args") if isinstance(content, dict) else None
    if isinstance(arguments, Inert):
        arguments = arguments.state
    if not isinstance(arguments, Mapping):
        return {}
    plain = (str, int, float, bool, type(None))
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(name, str)
        and (isinstance(value, plain) or (isinstance(value, list) and all(isinstance(v, plain) for v in value)))
    }
