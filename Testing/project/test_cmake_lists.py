"""What CMake packages: an unlisted file works from a checkout and is missing from the installed extension."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "H3DELandmarksLib"
LATER = {"detection/second_look.py"}  # waits for its button in the panel


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


def named_in(path: Path) -> set[str]:
    """Modules of the library that a file imports, also inside functions, or names in a text (`python -m`)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value.partition(":")[0])
    return {file for name in names for file in files_of(name)}


def files_of(module: str) -> set[str]:
    """The file of a module of the library and those of the packages that it is in; empty for everything else."""
    package, _, rest = module.partition(".")
    parts = rest.split(".") if rest else []
    if package != LIBRARY.name:
        return set()
    places = ["/".join(parts[:count]) for count in range(len(parts) + 1)]
    tried = [f"{place}/__init__.py".lstrip("/") for place in places] + [f"{places[-1]}.py"]
    return {name for name in tried if (LIBRARY / name).is_file()}


def test_all_that_is_packaged_is_reached_from_the_panel():
    """What only other commands, studies or tests use belongs to the research package, which Slicer does not get."""
    reached = {"__main__.py"}
    waiting = [LIBRARY / "__main__.py", *(ROOT / "H3DELandmarks").rglob("*.py")]
    while waiting:
        found = named_in(waiting.pop()) - reached
        reached |= found
        waiting += [LIBRARY / name for name in found]
    left = listed("H3DELANDMARKSLIB_SCRIPTS") - reached - LATER
    assert not left, f"move to H3DELandmarksResearch what the panel never reaches: {sorted(left)}"
