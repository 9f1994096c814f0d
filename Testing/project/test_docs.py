"""What README and documentation say: links lead somewhere, commands are such as the program takes, versions agree."""

import argparse
import re
import shlex
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import unquote

import pytest

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cli.main import make_parser
from H3DELandmarksLib.cli.research import ACTIONS, COMMANDS
from H3DELandmarksResearch.cases.schemes import scheme_of_file

ROOT = Path(__file__).resolve().parents[2]
TOP = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "H3DELandmarksResearch/README.md"]
PAGES = [ROOT / name for name in TOP] + sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Inline code, and lines of code that are indented or fenced.
CODE = re.compile(r"`([^`\n]+)`|^(?: {4}|\t)(.*)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"(?:h3delandmarks|python -m H3DELandmarksLib)((?: [^#;&>]*)?)")
STUDY = re.compile(r"python -m (H3DELandmarksResearch[\w.]*|benchmarks[\w.]*)")
CODE_OF_ONE_OPTION = re.compile(r"`(--[a-z][^`\n]*)`")
OTHER_PROGRAMS = {"--help", "--axes-only", "--subset"}  # the latter of studies
PATH = re.compile(
    r"`((?:H3DELandmarks(?:Lib|Research)?|Testing|Resources|requirements|benchmarks|docs|\.github)/[\w./-]*)`"
)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def pieces_of_code(text):
    """Every piece of code of a page; a line that ends with a backslash goes on in the next one."""
    text = re.sub(r"\\\n\s*", " ", text)
    fenced = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return [inline or line for inline, line in CODE.findall(FENCE.sub("", text))] + fenced


def commands(text):
    """The words after the program's name, of every call that a page shows."""
    for code in pieces_of_code(text):
        found = PROGRAM.search(code)
        if found and found[1].strip():
            yield shlex.split(found[1].replace("...", "").replace("[", "").replace("]", "").strip())


def subparsers(parser):
    """The commands of a parser by name; none where it has no commands."""
    choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return choices[0] if choices else {}


def all_options(parser):
    """Options of a parser and its commands."""
    return set(parser._option_string_actions).union(*(all_options(p) for p in subparsers(parser).values()))


def problem_with(words):
    """What the program does not know of a call; None where it knows all."""
    parser, words = make_parser("h3delandmarks"), list(words)
    while words and subparsers(parser):
        if words[0].startswith("-"):
            break
        name = words.pop(0)
        if name.isupper():  # stands for any of them
            return None
        if name not in subparsers(parser):
            return f"there is no command '{name}'"
        parser = subparsers(parser)[name]
    known = set(parser._option_string_actions)
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"{parser.prog} has no option {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not re.match(r"[a-z]+:|#", link)]
    missing = [t for t in targets if not (page.parent / unquote(t.partition("#")[0])).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_known_to_the_program(page):
    calls = list(commands(page.read_text(encoding="utf-8")))
    problems = [f"{' '.join(call)}: {problem_with(call)}" for call in calls if problem_with(call)]
    assert not problems


def test_the_check_of_commands_finds_what_is_wrong():
    assert problem_with(["detect", "scan.nrrd", "--model", "x", "--output", "y"]) is None
    assert "--modle" in problem_with(["detect", "scan.nrrd", "--modle", "x"])
    assert "'find'" in problem_with(["find", "scan.nrrd"])
    assert "'forget'" in problem_with(["models", "forget", "x"])
    shown = "    h3delandmarks models list # all of them\n\n`h3delandmarks detect a \\\n  --picture`"
    assert list(commands(shown)) == [["models", "list"], ["detect", "a", "--picture"]]


def test_the_commands_of_slicers_own_python_are_all_named():
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    named = re.search(r"has what the panel uses: (.*?)\.\s", text, re.DOTALL)[1]
    parser = make_parser("h3delandmarks")
    own = [f"{name} {action}" for name in ACTIONS for action in subparsers(subparsers(parser)[name])]
    own = [words for words in own if words.split()[1] not in ACTIONS[words.split()[0]]]
    own += [name for name in subparsers(parser) if name not in (*COMMANDS, *ACTIONS)]
    assert {code.split(" --")[0] for code in re.findall(r"`(.+?)`", named)} == set(own)


@pytest.mark.parametrize("page", [p for p in PAGES if STUDY.search(p.read_text(encoding="utf-8"))], ids=name_of)
def test_modules_that_are_run_exist(page):
    modules = {module for module in STUDY.findall(page.read_text(encoding="utf-8")) if not module.endswith(".NAME")}
    assert not {module for module in modules if find_spec(module.rstrip(".")) is None}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_of_commands_can_be_run_as_they_stand(page, capsys):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    lines = [line.replace("\\\n", " ") for line in re.findall(r"^ {4}((?:.*\\\n)*.*)$", text, re.MULTILINE)]
    calls = [call for line in lines if "..." not in line and "$" not in line for call in commands(f"    {line}")]
    for call in [call for call in calls if not any(word.isupper() for word in call[:1] + call[1:2])]:
        try:
            make_parser("h3delandmarks").parse_args(call)
        except SystemExit:
            pytest.fail(f"{' '.join(call)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_stand_alone_belong_to_some_command(page):
    alone = {words.split()[0] for words in CODE_OF_ONE_OPTION.findall(page.read_text(encoding="utf-8"))}
    assert not alone - OTHER_PROGRAMS - all_options(make_parser("h3delandmarks"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page):
    named = {path.rstrip("/") for path in PATH.findall(page.read_text(encoding="utf-8"))}
    placeholders = {path for path in named if path.rpartition("/")[2].isupper()}
    assert not {path for path in named - placeholders if not (ROOT / path).exists()}


def test_the_readme_shows_a_detection():
    assert ["detect"] in [call[:1] for call in commands((ROOT / "README.md").read_text(encoding="utf-8"))]


def test_readme_is_one_page():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 90
    assert any(line.startswith("![") for line in lines), "the README shows a picture"
    headings = [line for line in lines if line.startswith("## ")]
    assert headings.index("## Install in Slicer") < headings.index("## Two commands")


def test_targets_that_the_pages_name_are_in_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        t for page in PAGES for t in re.findall(r"(?:^ {4}|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert {"demo", "test", "docs"} <= named
    assert named <= targets


def test_environment_variables_that_the_pages_name_are_read_somewhere():
    library = [*(ROOT / "H3DELandmarksLib").rglob("*.py"), *(ROOT / "H3DELandmarksResearch").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in library)
    named = {v for page in PAGES for v in re.findall(r"\bH3DE_[A-Z]+\b", page.read_text(encoding="utf-8"))}
    assert {"H3DE_MODELS", "H3DE_DATA"} <= named
    assert not {variable for variable in named if f'"{variable}"' not in code}


def test_nobody_is_told_to_install_the_software_from_a_package_index_where_it_is_not():
    code = [
        path
        for name in ("H3DELandmarks", "H3DELandmarksLib", "H3DELandmarksResearch")
        for path in (ROOT / name).rglob("*.py")
    ]
    advice = re.compile(r"pip install[ '\"-]*slicer-h3delandmarks")
    assert not [name_of(path) for path in PAGES + code if advice.search(path.read_text(encoding="utf-8"))]


def test_the_scheme_that_the_page_of_measurements_shows_is_read(tmp_path):
    text = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    (tmp_path / "scheme.json").write_text(re.search(r"^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1], "utf-8")
    measurements = scheme_of_file(tmp_path / "scheme.json").measurements
    assert [each.name for each in measurements.measurements] == ["SNA", "gonial width", "gonion asymmetry"]


def test_every_bundled_model_is_in_readme_and_results():
    models = [path.parent.name for path in (ROOT / "Resources" / "Models").glob("*/manifest.json")]
    assert models
    for page in ("README.md", "docs/index.md", "docs/results.md", "docs/licenses.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert [model for model in models if model not in text] == [], page


def test_versions_agree():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.search(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", text, re.MULTILINE)[1]
    to_come = re.search(r"^## \[Unreleased\]\s+To become (\d+\.\d+\.\d+)\.", text, re.MULTILINE)
    assert __version__ in {released, to_come[1] if to_come else released}


def test_citation_names_software_and_papers():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == "Apache-2.0"
    assert citation["message"] and citation["title"] and citation["authors"]
    assert citation["version"] == __version__
    identifiers = {i["value"] for reference in citation["references"] for i in reference["identifiers"]}
    assert {"arXiv:2502.14221", "arXiv:2412.06499v1", "arXiv:2412.06499v2"} <= identifiers


def test_checks_before_commits_run_the_linter_of_the_tests():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pinned = re.search(r"^ruff==(\S+)$", (ROOT / "requirements/constraints.txt").read_text("utf-8"), re.MULTILINE)[1]
    assert f"rev: v{pinned}" in hooks


def test_reports_warn_of_patient_data():
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) >= 2
    for form in forms:
        assert "Never attach patient data" in form.read_text(encoding="utf-8"), form.name


@pytest.mark.parametrize("name", ["flows", "rooms"])
def test_pictures_of_the_architecture_are_those_that_the_script_draws(name):
    spec = spec_from_file_location("draw_pictures", ROOT / "docs" / "pictures" / "draw.py")
    draw = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(draw)
    assert getattr(draw, name)() == (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")


def test_the_picture_of_the_rooms_shows_every_room():
    picture = (ROOT / "docs" / "pictures" / "rooms.svg").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (ROOT / "H3DELandmarksLib").glob("*/__init__.py")]
    assert rooms
    assert not [room for room in rooms if f">{room}</text>" not in picture]
