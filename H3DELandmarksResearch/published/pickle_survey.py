"""What a pickle names, claims and would take, found from its opcodes before anything in it is built or run."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MAX_BYTES = 128 * 2**20
MAX_PROTOCOL = 2
# What an object takes at least, in bytes, with its place on the unpickler's stack.
OBJECT_BYTES, REFERENCE_BYTES = 64, 16
BYTES_PER_CHARACTER = 4
GROWS = ("APPEND", "APPENDS", "SETITEM", "SETITEMS")
CALLS = ("REDUCE", "NEWOBJ", "BUILD")
GETS = ("BINGET", "LONG_BINGET", "GET")
PUTS = ("BINPUT", "LONG_BINPUT", "PUT")
# Names that Python 3 writes under those of Python 2.
RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
ELEMENT_BYTES = {
    **dict.fromkeys(("Char", "Byte", "Bool"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}


class UnsafePickleError(ValueError):
    """A pickle that is not to be loaded; the message says why and is part of a sentence."""


@dataclass(frozen=True)
class Survey:
    """What a pickle says.

    Attributes:
        names: classes and functions that it names, with their modules.
        storages: bytes that each storage of tensors is said to have, by its key.
    """

    names: set[str] = field(default_factory=set)
    storages: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Item:
    """An object on the stack: its size with all that it holds, as if nothing were shared, and what it is, if plain."""

    size: int
    value: Any = None


def survey(file: BinaryIO) -> Survey:
    """Walk through one pickle, from where the file stands to the pickle's end; nothing in it is looked up or called.

    Sizes are bounds from above: whatever the pickle fetches again or hands to a call counts again with all that it
    holds, so that copies of copies and keys that are slow to hash are refused, too.

    Raises:
        UnsafePickleError: it would take more than `MAX_BYTES`, is of a newer protocol than PyTorch writes, or names
            tensors' memory in another way.
        ValueError: it is damaged.
    """
    found, stack, memo, marks, total = Survey(), [], {}, [], 0
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.proto > MAX_PROTOCOL or (opcode.name == "PROTO" and argument > MAX_PROTOCOL):
            raise UnsafePickleError(f"it is a pickle of another protocol than {MAX_PROTOCOL}, which torch.save writes")
        if opcode.name == "MARK":
            marks.append(len(stack))
        elif opcode.name in PUTS:
            memo[argument] = stack[-1]
        elif opcode.name in GETS:
            stack.append(memo[argument])
            total += stack[-1].size
        elif opcode.stack_before or opcode.stack_after:
            total += _take(opcode, argument, stack, marks, found)
        if total > MAX_BYTES:
            raise UnsafePickleError(f"it would unpack to more than {MAX_BYTES >> 20} MB")
    return found


def _take(opcode: Any, argument: Any, stack: list[_Item], marks: list[int], found: Survey) -> int:
    """Replace what an opcode takes from the stack by what it makes; returns the bytes that this takes."""
    items = _popped(opcode, stack, marks)
    inside = sum(item.size for item in items)
    if opcode.name in GROWS:
        items[0].size = inside + REFERENCE_BYTES * len(items)
        stack.append(items[0])
        return REFERENCE_BYTES * len(items)
    if not opcode.stack_after:
        return 0
    own = OBJECT_BYTES + REFERENCE_BYTES * len(items)
    if isinstance(argument, (str, bytes)):
        own += BYTES_PER_CHARACTER * len(argument)
    made = _Item(own + inside, argument)
    if opcode.name == "GLOBAL":
        module, _, name = argument.partition(" ")
        made.value = f"{RENAMED.get(module, module)}.{name}"
        found.names.add(made.value)
    elif opcode.name.startswith("TUPLE"):
        made.value = [item.value for item in items[:8]]
    elif opcode.name == "BINPERSID":
        _count_storage(items[0].value, found.storages)
    stack.append(made)
    return own + (inside if opcode.name in CALLS else 0)


def _popped(opcode: Any, stack: list[_Item], marks: list[int]) -> list[_Item]:
    """What an opcode takes, the deepest first."""
    names = [part.name for part in opcode.stack_before]
    start = len(stack) - len(names)
    if "mark" in names:
        start = marks.pop() - names.index("mark")
    if start < 0:
        raise ValueError("a pickle takes more than it has made")
    items = stack[start:]
    del stack[start:]
    return items


def _count_storage(identity: Any, storages: dict[str, int]) -> None:
    """Note the size of a storage, from ``("storage", class, key, device, elements, ...)``."""
    if not isinstance(identity, list) or len(identity) < 5 or identity[0] not in ("storage", b"storage"):
        raise UnsafePickleError("its tensors' memory is named in an unknown way")
    _, kind, key, _, count = identity[:5]
    element = ELEMENT_BYTES.get(str(kind).rpartition(".")[2].removesuffix("Storage"))
    if element is None or not isinstance(count, int) or count < 0:
        raise UnsafePickleError(f"tensors of the kind '{kind}' are not known")
    storages[str(key)] = max(storages.get(str(key), 0), count * element)
