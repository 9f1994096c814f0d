"""Files and folders appear complete or not at all."""

import errno
import os
import threading

import pytest

from H3DELandmarksLib.core import files
from H3DELandmarksLib.core.errors import InputError, OutputError
from H3DELandmarksLib.core.files import (
    TakenError,
    append_numbered,
    atomic_move,
    atomic_write,
    numbered_folders,
    remove_forgotten,
    restore_interrupted,
)


def write(path, is_folder: bool, text: str) -> None:
    if is_folder:
        path.mkdir()
        path = path / "content.txt"
    path.write_text(text)


def content(path) -> str:
    return (path / "content.txt" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_the_new_one_takes_the_place_of_the_old_one(tmp_path, is_folder, exists):
    target = tmp_path / "scan.nii.gz"
    if exists:
        write(target, is_folder, "old")
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith("scan.nii.gz")
        write(temporary, is_folder, "new")
    assert content(target) == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("is_folder", [False, True])
def test_an_interrupted_one_leaves_the_old_one(tmp_path, is_folder):
    target = tmp_path / "scan.nii.gz"
    write(target, is_folder, "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as temporary:
        write(temporary, is_folder, "half")
        raise KeyboardInterrupt
    assert content(target) == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_within_a_folder_is_told_by_the_name_that_it_was_to_have(tmp_path):
    with pytest.raises(OutputError) as told, atomic_write(tmp_path / "export") as folder:
        folder.mkdir()
        with atomic_write(folder / "a.txt"):
            raise OSError(errno.ENOSPC, "")
    assert str(told.value) == f"'{tmp_path / 'export' / 'a.txt'}' cannot be written: the disk is full: free some space."


def test_what_cannot_be_written_is_told_in_a_sentence(tmp_path):
    with pytest.raises(OutputError, match="folder") as told, atomic_write(tmp_path / "none" / "a.txt") as temporary:
        temporary.write_text("new")
    assert isinstance(told.value, InputError) and isinstance(told.value, OSError)
    assert told.value.errno == told.value.__cause__.errno and str(told.value).endswith(".")


@pytest.mark.parametrize(
    ("number", "word"),
    [(errno.ENOSPC, "full"), (errno.EDQUOT, "full|quota"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")],
)
def test_the_reason_says_what_to_do(tmp_path, number, word):
    with pytest.raises(OutputError, match=word) as told, atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError(number, "x")
    assert told.value.errno == number and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [236, 240, 255])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_the_longest_names_can_be_written(tmp_path, length, letter):
    target = tmp_path / (letter * ((length - 4) // len(letter.encode())) + ".csv")
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == [target]


def test_a_longer_name_is_told(tmp_path):
    with pytest.raises(OutputError, match="too long"), atomic_write(tmp_path / ("x" * 256)) as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_may_not_be_replaced_stays(tmp_path, is_folder):
    target = tmp_path / "export"
    write(target, is_folder, "old")
    with pytest.raises(TakenError), atomic_write(target, may_replace=lambda old: False) as temporary:
        write(temporary, is_folder, "new")
    assert content(target) == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("is_folder", [False, True])
def test_of_several_that_may_replace_nothing_one_wins(tmp_path, is_folder):
    target = tmp_path / "export"
    started, wins, refused = threading.Barrier(5), [], []

    def run(number):
        try:
            with atomic_write(target, may_replace=lambda old: False) as temporary:
                write(temporary, is_folder, str(number))
                started.wait()
            wins.append(str(number))
        except TakenError:
            refused.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins == [content(target)] and len(refused) == 4
    assert list(tmp_path.iterdir()) == [target]


def test_an_exchange_survives_a_look_in_its_middle(tmp_path, monkeypatch):
    """Who lists the models puts a folder back that has just stepped aside: the exchange is done all the same."""
    target = tmp_path / "model"
    write(target, True, "old")
    looks, replace = [], os.replace

    def looked_at(source, destination):
        replace(source, destination)
        if not looks:
            looks.append(restore_interrupted(tmp_path))

    monkeypatch.setattr(files.os, "replace", looked_at)
    with atomic_write(target) as temporary:
        write(temporary, True, "new")
    assert content(target) == "new" and list(tmp_path.iterdir()) == [target]


def test_several_writers_of_one_file_do_not_meet(tmp_path):
    failed = []

    def run(number):
        try:
            for _ in range(10):
                with atomic_write(tmp_path / "checkpoint", durable=False) as temporary:
                    temporary.write_text(str(number) * 1000)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and len(set((tmp_path / "checkpoint").read_text())) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_refuses_even_to_remove_is_told(tmp_path, monkeypatch):
    """Read-only disks say so of files that were never there."""

    def refuse(self, missing_ok=False):
        raise OSError(errno.EROFS, "x")

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    with pytest.raises(OutputError, match=r"/a\.txt' cannot.*read-only"), atomic_write(tmp_path / "a.txt"):
        raise OSError(errno.EROFS, "x")


class Killed(BaseException):
    """Nothing that code expects."""


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), Killed()])
@pytest.mark.parametrize("call", [1, 2])
def test_an_exchange_of_folders_that_is_interrupted_is_taken_back(tmp_path, monkeypatch, error, call):
    target = tmp_path / "model"
    write(target, True, "old")
    calls, replace = [], os.replace

    def interrupted(source, destination):
        calls.append(source)
        if len(calls) == call:
            raise error
        replace(source, destination)

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises((OutputError, KeyboardInterrupt, Killed)), atomic_write(target) as temporary:
        write(temporary, True, "new")
    assert content(target) == "old"
    assert list(tmp_path.iterdir()) == [target]


def left_by_a_kill(folder, name="model-1.0.0"):
    """What a program leaves that was killed between both renames of an exchange."""
    old, new = folder / f".h3de-0123abcd-{name}.old", folder / f".h3de-0123abcd-{name}"
    write(old, True, "old")
    write(new, True, "new")
    for path in (old, new):
        os.utime(path, (1, 1))
    return old, new


def test_what_a_kill_has_set_aside_is_put_back(tmp_path):
    left_by_a_kill(tmp_path)
    restore_interrupted(tmp_path)
    assert content(tmp_path / "model-1.0.0") == "old"


def test_what_a_kill_has_set_aside_is_never_removed_while_it_is_the_only_copy(tmp_path):
    old, new = left_by_a_kill(tmp_path)
    remove_forgotten([old, new])
    assert content(tmp_path / "model-1.0.0") == "old" and not new.exists() and not old.exists()


def test_what_was_set_aside_goes_where_its_successor_is_there(tmp_path):
    old, new = left_by_a_kill(tmp_path)
    write(tmp_path / "model-1.0.0", True, "newer")
    restore_interrupted(tmp_path)
    assert old.exists()
    remove_forgotten([old, new])
    assert content(tmp_path / "model-1.0.0") == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["model-1.0.0"]


def test_an_exchange_works_after_a_kill(tmp_path):
    left_by_a_kill(tmp_path)
    with atomic_write(tmp_path / "model-1.0.0") as temporary:
        write(temporary, True, "newest")
    assert content(tmp_path / "model-1.0.0") == "newest"


def test_a_place_that_is_taken_is_kept(tmp_path):
    write(tmp_path / "there", True, "old")
    write(tmp_path / "prepared", True, "new")
    assert not atomic_move(tmp_path / "prepared", tmp_path / "there")
    assert content(tmp_path / "there") == "old"
    assert atomic_move(tmp_path / "prepared", tmp_path / "free") and content(tmp_path / "free") == "new"


def test_a_series_goes_on_behind_whatever_another_program_adds_meanwhile(tmp_path):
    series, staging = tmp_path / "series", tmp_path / "staging"
    write_first = iter([True, False])

    def prepare(folder):
        if next(write_first):
            (series / "000001").mkdir()
            ((series / "000001") / "content.txt").write_text("theirs")
        (folder / "content.txt").write_text(f"after {len(numbered_folders(series))}")
        return True

    series.mkdir()
    assert append_numbered(series, staging, prepare) == series / "000002"
    assert [content(path) for path in numbered_folders(series)] == ["theirs", "after 1"]
    assert append_numbered(series, staging, lambda folder: False) is None
    assert len(numbered_folders(series)) == 2
