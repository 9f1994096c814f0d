"""The campaign against the readers: some inputs for each, and that it notices what it looks for."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="measures memory by POSIX")
from benchmarks.fuzzing import campaign  # noqa: E402
from benchmarks.fuzzing.readers import READERS, Reader  # noqa: E402
from H3DELandmarksLib.core.errors import InputError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FAST = [name for name in READERS if name not in ("case zip", "child events", "checkpoint", "training checkpoint")]


def test_no_reader_fails_on_some_damaged_files(tmp_path, capfd):
    """In one process here; `make fuzz` gives each a process that may crash."""
    campaign.make_seeds(tmp_path / "seeds")
    for name in FAST:
        for number in range(12):
            answer = campaign._try(tmp_path, name, number)
            assert answer["outcome"] in ("read", "refused"), (name, number, answer["reason"])


def test_every_reader_reads_the_files_that_are_damaged_then(tmp_path):
    campaign.make_seeds(tmp_path / "seeds")
    (tmp_path / "input").mkdir()
    for name, reader in READERS.items():
        if name == "child events":  # needs Slicer's application
            continue
        seeds = sorted((tmp_path / "seeds" / name).iterdir())
        assert seeds, name
        for seed in seeds:
            path = tmp_path / "input" / seed.name
            path.write_bytes(seed.read_bytes())
            reader.read(path)


def test_each_input_follows_from_its_number(tmp_path):
    campaign.make_seeds(tmp_path / "one")
    for name in ("markups", "region", "fcsv", "coco"):
        inputs = [campaign.make_input(tmp_path / "one", name, number) for number in range(5)]
        assert inputs == [campaign.make_input(tmp_path / "one", name, number) for number in range(5)]
        assert len(set(inputs)) > 1


def raising(error):
    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "outcome", "reason"),
    [
        (raising(InputError("no.")), "refused", ""),
        (raising(InputError("two\nlines")), "fault", "line"),
        (raising(KeyError("x")), "fault", "KeyError"),
        (raising(RecursionError()), "fault", "RecursionError"),
        (raising(SystemExit()), "fault", "SystemExit"),
        (lambda path: None, "read", ""),
    ],
)
def test_what_is_no_sentence_is_a_fault(tmp_path, monkeypatch, read, outcome, reason):
    (tmp_path / "seeds" / "odd").mkdir(parents=True)
    (tmp_path / "seeds" / "odd" / "a.txt").write_text("text")
    monkeypatch.setitem(READERS, "odd", Reader(read, [lambda rng, data: data]))
    answer = campaign._try(tmp_path, "odd", 0)
    assert answer["outcome"] == outcome and reason in answer.get("reason", "")


# In a process of its own: the peak of this one's memory may be high already.
GREEDY = """
import sys
from pathlib import Path
sys.path.insert(0, "Testing/helpers")
from benchmarks.fuzzing import campaign
from benchmarks.fuzzing.readers import READERS, Reader
campaign.MAX_BYTES = 20 * 2**20
READERS["odd"] = Reader(lambda path: len(b"x" * 2**28), [lambda rng, data: data])
print(campaign._try(Path(sys.argv[1]), "odd", 0)["reason"])
"""


def test_too_much_time_or_memory_is_a_fault(tmp_path, monkeypatch):
    (tmp_path / "seeds" / "odd").mkdir(parents=True)
    (tmp_path / "seeds" / "odd" / "a.txt").write_text("text")
    done = subprocess.run([sys.executable, "-c", GREEDY, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert "MB" in done.stdout, done.stderr
    monkeypatch.setitem(READERS, "odd", Reader(lambda path: None, [lambda rng, data: data]))
    monkeypatch.setattr(campaign, "MAX_SECONDS", -1.0)
    assert campaign._try(tmp_path, "odd", 0)["outcome"] == "fault"


def test_a_child_that_ends_or_hangs_is_noticed(monkeypatch):
    monkeypatch.setattr(campaign, "HANG_SECONDS", 0.5)
    for code in ("import os; os.abort()", "import time; time.sleep(60)"):
        pipe = subprocess.PIPE
        child = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
        assert campaign._ask(child, "markups", 0) is None
        child.kill()
        child.wait()
