"""Reading checkpoints: all of PyTorch's formats, what the training program put in, and nothing run of a hostile one."""

from __future__ import annotations

import argparse
import copy
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from H3DELandmarksLib.core.errors import InputError, MissingDependencyError
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksResearch.published.checkpoints import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
TENSORS = OrderedDict(
    {
        "a.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
        "a.bias": torch.tensor([1.5, -2.0], dtype=torch.float64),
        "b.transposed": torch.arange(12.0).reshape(3, 4).T,
        "b.part": torch.arange(10.0)[3:8:2],
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


@pytest.mark.parametrize("zip_form", [True, False], ids=["zip", "legacy"])
def test_every_kind_of_tensor_is_read(tmp_path: Path, zip_form: bool) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=zip_form)
    found = read_checkpoint(path).tensors
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert found[name].dtype == to_array(expected).dtype
        assert np.array_equal(found[name], to_array(expected)), name


@pytest.mark.parametrize("zip_form", [True, False], ids=["zip", "legacy"])
def test_the_training_programs_objects_are_looked_at_and_not_made(tmp_path: Path, zip_form: bool) -> None:
    network = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    args = argparse.Namespace(n_class=14, anchors=[0.5, 0.75], gpu="0", best=np.float64(1.25), folder=Path("x"))
    content = {"epoch": 3, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "args": args}
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=zip_form)
    found = read_checkpoint(tmp_path / "model.ckpt")
    assert list(found.tensors) == ["0.weight", "0.bias", *(f"1.{name}" for name in network.module[1].state_dict())]
    assert found.arguments == {"n_class": 14, "anchors": [0.5, 0.75], "gpu": "0"}


def test_a_checkpoint_in_the_form_of_mmcv_is_read(tmp_path: Path) -> None:
    """With an optimizer and the history of the training, which is of a class that is not installed here."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    meta = {"mmcv_version": "1.7.0", "time": "Mon Nov 23", "epoch": 12, "seed": None, "best": np.float64(0.5)}
    content = {"meta": meta, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**content, "message_hub": {"loss": History()}}, tmp_path / "epoch_12.pth")
    found = read_checkpoint(tmp_path / "epoch_12.pth")
    assert np.array_equal(found.tensors["0.weight"], to_array(network[0].weight))
    assert found.arguments == {}


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


class History:
    """A class of a training program."""

    def __init__(self) -> None:
        self.values = np.arange(5)


@pytest.mark.parametrize("zip_form", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["args", "state_dict", "key"])
def test_a_hostile_checkpoint_runs_nothing(tmp_path: Path, zip_form: bool, place: str) -> None:
    traces = tmp_path / "traces"
    shell = Shell(f"touch {traces}")
    state = dict(TENSORS) | ({"z.weight": shell} if place == "state_dict" else {})
    content = {"state_dict": state} | ({"args": shell} if place == "args" else {shell: 1} if place == "key" else {})
    path = tmp_path / "model.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zip_form)
    with pytest.raises(InputError):
        read_checkpoint(path)
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
    with pytest.raises(InputError, match=r"holds no weights|no PyTorch checkpoint"):
        read_checkpoint(path)
    assert not traces.exists()


def test_a_class_with_code_of_its_own_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "training_program.py"
    module.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'traces')!r}).touch()\nclass Settings: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    program = b"\x80\x02}X\x05\x00\x00\x00modelctraining_program\nSettings\n)\x81}bs."
    with pytest.raises(InputError, match="holds no weights"):
        read_checkpoint(zipped(tmp_path / "model.ckpt", program))
    assert not (tmp_path / "traces").exists()


def zipped(path: Path, program: bytes, storages: Mapping[str, bytes] = {}, compression: int = 0) -> Path:
    """A checkpoint that is made by hand."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def tensor_program(elements: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The pickle of one tensor of numbers of four bytes."""

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    identity = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    sizes, steps = (b"(" + b"".join(map(number, values)) + b"t" for values in (shape, strides))
    start = b"\x80\x02}X\x0a\x00\x00\x00a.b.weightctorch._utils\n_rebuild_tensor_v2\n("
    return start + identity + number(elements) + b"tQK\x00" + sizes + steps + b"\x89}tRs."


def long_list(count: int) -> bytes:
    """A list of so many Nones, kept in place 0, and the opening of another list."""
    return b"\x80\x02]q\x00(" + b"N" * count + b"e](h\x00"


GREEDY = {
    "huge buffer": pickle.PROTO + b"\x02" + pickle.BYTEARRAY8 + (2**60).to_bytes(8, "little"),
    "doubled again and again": b"\x80\x02Nq\x00" + b"h\x00h\x00\x86q\x00" * 500 + b".",
    "key that is slow to hash": b"\x80\x02}Nq\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"h\x00Ns.",
    "copied lists": long_list(20000) + b"cbuiltins\nset\nh\x00\x85R" * 20000 + b"e.",
    "copied text": b"\x80\x02](X\x40\x42\x0f\x00" + b"a" * 1000000 + b"q\x00"
    b"c_codecs\nencode\nq\x01" + b"h\x01h\x00\x85R" * 5000 + b"e.",
    "copied states": b"\x80\x02]q\x00}q\x01("
    + b"".join(b"J" + k.to_bytes(4, "little") + b"N" for k in range(9000))
    + b"u("
    + b"cargparse\nNamespace\n)\x81h\x01b" * 9000
    + b"e.",
    "memory of any size": b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
    "bytes of any size": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "dictionaries": b"\x80\x02](" + b"}" * (4 * 2**20 - 10) + b"e.",
    "holds itself": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "takes what is not there": b"\x80\x02tR.",
}

READ_IN_CHILD = """
import resource, sys
from H3DELandmarksResearch.published.checkpoints import read_checkpoint
from H3DELandmarksLib.core.errors import InputError
import torch._dynamo
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = used()
for path in sys.argv[1:]:
    try:
        read_checkpoint(path)
    except InputError as error:
        assert "\\n" not in str(error)
        print(path, round((used() - before) / 1024), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measures memory by POSIX")
def test_a_small_file_takes_neither_memory_nor_time(tmp_path: Path) -> None:
    paths = [zipped(tmp_path / f"{name}.ckpt", program) for name, program in GREEDY.items()]
    paths.append(zipped(tmp_path / "stride 0.pth", tensor_program(1, (30000, 30000), (0, 0)), {"0": bytes(4)}))
    paths.append(zipped(tmp_path / "claim.pth", tensor_program(2**31 - 1, (2**31 - 1,), (1,)), {"0": bytes(4)}))
    (tmp_path / "legacy").mkdir()
    start = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {"little_endian": True}))
    # The survey of the pickle is one for both forms: it looks at the longest one, which takes seconds, in one of them.
    both = {name: program for name, program in GREEDY.items() if name != "dictionaries"}
    for name, program in (*both.items(), ("claim", tensor_program(2**31 - 1, (1,), (1,)))):
        paths.append(tmp_path / "legacy" / f"{name}.pth")
        paths[-1].write_bytes(start + program + pickle.dumps(["0"], 2))
    done = subprocess.run(
        [sys.executable, "-c", READ_IN_CHILD, *paths], cwd=ROOT, capture_output=True, text=True, timeout=180, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    assert max(int(line.rpartition(" ")[2]) for line in lines) < 500, done.stdout


@pytest.mark.parametrize("second", ["archive/DATA.PKL", "archive/Constants.pkl", "ARCHIVE/data.pkl"])
def test_a_second_pickle_is_found_as_pytorch_finds_it(tmp_path: Path, second: str) -> None:
    """PyTorch's reader of zip files takes upper and lower case for the same."""
    path = zipped(tmp_path / "model.pth", tensor_program(1, (1,), (1,)), {"0": bytes(4)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(second, b"\x80\x02Nq\x00.")
    with pytest.raises(InputError, match=r"one data\.pkl"):
        read_checkpoint(path)


def test_a_compressed_pickle_is_refused(tmp_path: Path) -> None:
    program = b"\x80\x02](" + b"N" * 50_000_000 + b"e."
    path = zipped(tmp_path / "model.pth", program, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        read_checkpoint(path)


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    """A directory that names the same bytes many times claims more than the file holds."""
    torch.save({"a.weight": torch.zeros(1000)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth", "a") as archive:
        largest = max(archive.filelist, key=lambda member: member.file_size)
        for number in range(9):
            twin = copy.copy(largest)
            twin.filename = f"{largest.filename.rpartition('/')[0]}/{number + 1}"
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(InputError, match="claim"):
        read_checkpoint(tmp_path / "good.pth")


def test_views_beyond_their_memory_are_refused(tmp_path: Path) -> None:
    good = zipped(tmp_path / "good.pth", tensor_program(6, (6,), (1,)), {"0": bytes(24)})
    assert read_checkpoint(good).tensors["a.b.weight"].shape == (6,)
    for elements, shape in ((6, (96,)), (96, (96,)), (96, (6,))):
        bad = zipped(tmp_path / "bad.pth", tensor_program(elements, shape, (1,)), {"0": bytes(24)})
        with pytest.raises(InputError, match="checkpoint"):
            read_checkpoint(bad)


def test_tensors_that_repeat_their_memory_are_refused(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(1, 3).expand(2, 3)}, tmp_path / "model.pth")
    with pytest.raises(InputError, match="claims more memory"):
        read_checkpoint(tmp_path / "model.pth")
    shared = torch.ones(100_000)
    torch.save({f"a.{number}": shared[:] for number in range(50)}, tmp_path / "model.pth")
    with pytest.raises(InputError, match="claim more memory"):
        read_checkpoint(tmp_path / "model.pth")


def test_other_pickle_protocols_are_refused_with_the_usual_one(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "model.pt", pickle_protocol=4)
    with pytest.raises(InputError, match="protocol than 2"):
        read_checkpoint(tmp_path / "model.pt")


def test_an_old_pytorch_is_missed_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(TENSORS, tmp_path / "model.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(MissingDependencyError, match=r"2\.6"):
        read_checkpoint(tmp_path / "model.pt")


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


@pytest.mark.parametrize("zip_form", [True, False], ids=["zip", "legacy"])
def test_torn_checkpoints_get_one_sentence(tmp_path: Path, zip_form: bool) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=zip_form)
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
