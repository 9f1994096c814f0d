"""Reading checkpoints: all of PyTorch's formats, what the training program put in, and nothing run of a hostile one."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.published.checkpoints import read_checkpoint

TENSORS = OrderedDict(
    {
        "a.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
        "a.bias": torch.tensor([1.5, -2.0], dtype=torch.float64),
        "b.transposed": torch.arange(12.0).reshape(3, 4).T,
        "b.part": torch.arange(10.0)[3:8:2],
        "b.expanded": torch.ones(1, 3).expand(2, 3),
        "b.half": torch.tensor([0.5, 3.0], dtype=torch.float16),
        "b.brain": torch.tensor([0.5, -3.0], dtype=torch.bfloat16),
        "b.num_batches_tracked": torch.tensor(7),
        "b.empty": torch.zeros(0, 3),
        "b.flag": torch.tensor([True, False]),
    }
)


class Shell:
    """An object whose unpickling runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_every_kind_of_tensor_is_read(tmp_path: Path, zipped: bool, protocol: int) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = read_checkpoint(path).tensors
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert found[name].dtype == expected.numpy().dtype
        assert np.array_equal(found[name], expected.numpy()), name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_training_programs_objects_are_looked_at_and_not_made(tmp_path: Path, zipped: bool) -> None:
    network = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    args = argparse.Namespace(n_class=14, anchors=[0.5, 0.75], gpu="0", best=np.float64(1.25), folder=Path("x"))
    content = {"epoch": 3, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "args": args}
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "model.ckpt")
    assert list(found.tensors) == ["0.weight", "0.bias", *(f"1.{name}" for name in network.module[1].state_dict())]
    assert found.arguments == {"n_class": 14, "anchors": [0.5, 0.75], "gpu": "0"}


@pytest.mark.parametrize("entry", ["model", "net", "model_state_dict", None])
def test_weights_are_found_under_any_usual_name(tmp_path: Path, entry: str | None) -> None:
    torch.save(dict(TENSORS) if entry is None else {entry: dict(TENSORS)}, tmp_path / "model.pth")
    assert list(read_checkpoint(tmp_path / "model.pth").tensors) == list(TENSORS)


def test_parameters_are_tensors(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a.weight": torch.nn.Parameter(torch.ones(2))}}, tmp_path / "model.pth")
    assert np.array_equal(read_checkpoint(tmp_path / "model.pth").tensors["a.weight"], [1, 1])


def test_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"module.a.weight": torch.ones(2, 3)}, tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path / "model.safetensors").tensors["a.weight"].shape == (2, 3)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["args", "state_dict", "key"])
def test_a_hostile_checkpoint_runs_nothing(tmp_path: Path, zipped: bool, place: str) -> None:
    traces = tmp_path / "traces"
    shell = Shell(f"touch {traces}")
    state = dict(TENSORS) | ({"z.weight": shell} if place == "state_dict" else {})
    content = {"state_dict": state} | ({"args": shell} if place == "args" else {shell: 1} if place == "key" else {})
    path = tmp_path / "model.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert set(read_checkpoint(path).tensors) == set(TENSORS)
    assert not traces.exists()
    torch.load(path, weights_only=False)
    assert traces.exists(), "the file isn't hostile: the test shows nothing"


HOSTILE = {
    "call by name": b"cos\nsystem\n(S'touch {}'\ntR.",
    "call on the stack": b"(S'touch {}'\nios\nsystem\n.",
    "object": b"(cos\nsystem\nS'touch {}'\no.",
    "evaluation": b"c__builtin__\neval\n(S\"__import__('os').system('touch {}')\"\ntR.",
    "attribute by state": b"ccollections\nOrderedDict\n(tR}S'__class__'\ncos\nsystem\nsb.",
    "registered class": b"\x80\x02\x82\x01(S'touch {}'\ntR.",
    "library": b"cnumpy.testing._private.utils\nrunstring\n(S'import os; os.system(\"touch {}\")'\n}tR.",
}


@pytest.mark.parametrize("program", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_way_of_calling_calls_anything(tmp_path: Path, program: bytes) -> None:
    traces = tmp_path / "traces"
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program.replace(b"{}", str(traces).encode()))
    with pytest.raises(InputError, match=r"holds no weights|is no PyTorch checkpoint"):
        read_checkpoint(path)
    assert not traces.exists()


@pytest.mark.parametrize(
    "program",
    [
        pickle.PROTO + b"\x02" + pickle.BYTEARRAY8 + (2**60).to_bytes(8, "little"),
        pickle.PROTO + b"\x02" + pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\xff" + pickle.STOP,
        pickle.EMPTY_LIST + b"".join(pickle.DUP + pickle.TUPLE2 for _ in range(500)) + pickle.STOP,
        pickle.EMPTY_DICT + pickle.MEMOIZE + b"X\x05\x00\x00\x00model" + pickle.BINGET + b"\x00s" + pickle.STOP,
    ],
    ids=["huge buffer", "far memory", "doubled again and again", "holds itself"],
)
def test_a_small_file_takes_neither_memory_nor_time(tmp_path: Path, program: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(InputError):
        read_checkpoint(tmp_path / "model.ckpt")


def test_views_beyond_their_memory_are_refused(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.arange(6.0)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good, zipfile.ZipFile(tmp_path / "bad.pth", "w") as bad:
        for name in good.namelist():
            # The shape, a tuple of the number 6, is the last such tuple.
            before, shape, after = good.read(name).rpartition(b"K\x06\x85")
            bad.writestr(name, before + shape.replace(b"\x06", b"\x60") + after)
    assert len(read_checkpoint(tmp_path / "good.pth").tensors["a.weight"]) == 6
    with pytest.raises(InputError, match="beyond its memory"):
        read_checkpoint(tmp_path / "bad.pth")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 not a zip file", b"plain text, no checkpoint", b"\x80\x02}q\x00.", bytes(range(256)) * 20],
    ids=["empty", "torn zip", "text", "other pickle", "anything"],
)
def test_other_files_get_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no PyTorch checkpoint") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torn_checkpoints_get_one_sentence(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for length in range(1, len(data) - 1, max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError):
            read_checkpoint(path)


def test_whole_network_objects_are_refused_with_advice(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(InputError, match="state_dict"):
        read_checkpoint(tmp_path / "model.pt")


def test_values_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.tensor([1.0, float("nan")])}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"'a.weight' .* not numbers"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_checkpoint(tmp_path / "none.ckpt")
