"""What CMake packages: an unlisted file works from a checkout and is missing from the installed extension."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "H3DELandmarksLib"


def listed(variable: str) -> set[str]:
    """File names in ``set(variable ...)`` of the library's CMakeLists.txt."""
    text = (LIBRARY / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.search(rf"^set\({variable}\s([^)]*)\)", text, re.MULTILINE)
    assert found, f"H3DELandmarksLib/CMakeLists.txt has no set({variable} ...)"
    return set(found.group(1).split())


def in_tree(scripts: bool) -> set[str]:
    """Files of the library, scripts or everything else."""
    names = {
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*")
        if path.is_file() and path.name != "CMakeLists.txt" and not {"__pycache__"} & set(path.parts)
    }
    visible = {name for name in names if not any(part.startswith(".") for part in name.split("/"))}
    return {name for name in visible if name.endswith(".py") == scripts}


def test_every_file_of_the_library_is_packaged():
    packaged, existing = listed("H3DELANDMARKSLIB_SCRIPTS"), in_tree(scripts=True)
    assert existing, "the library's folder was not found"
    assert not existing - packaged, f"add to H3DELandmarksLib/CMakeLists.txt: {sorted(existing - packaged)}"
    assert not packaged - existing, f"remove from H3DELandmarksLib/CMakeLists.txt: {sorted(packaged - existing)}"


def test_names_that_slicer_compares_are_equal():
    top = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    name = re.search(r"^project\((\w+)\)", top, re.MULTILINE).group(1)
    assert (ROOT / f"{name}.json").is_file(), "the index file must have the project's name"
    assert "add_subdirectory(H3DELandmarksLib)" in top


def test_the_library_has_no_other_files_that_would_have_to_be_packaged():
    assert in_tree(scripts=False) == set()
