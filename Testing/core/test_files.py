"""Files and folders appear complete or not at all."""

import pytest

from H3DELandmarksLib.core.files import replaced_when_complete


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
    with replaced_when_complete(target) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith("scan.nii.gz")
        write(temporary, is_folder, "new")
    assert content(target) == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("is_folder", [False, True])
def test_an_interrupted_one_leaves_the_old_one(tmp_path, is_folder):
    target = tmp_path / "scan.nii.gz"
    write(target, is_folder, "old")
    with pytest.raises(KeyboardInterrupt), replaced_when_complete(target) as temporary:
        write(temporary, is_folder, "half")
        raise KeyboardInterrupt
    assert content(target) == "old"
    assert list(tmp_path.iterdir()) == [target]
