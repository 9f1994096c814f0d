"""What `mkdocs build` adds to the pages of docs/: files from elsewhere in the repository, command line and API.

Pages link to files as the repository holds them, so that links work there as on the site. Links to files that the site
does not show lead to the repository's page.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SHOWN = (
    "benchmarks/*.md",
    "benchmarks/*.png",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "H3DELandmarksResearch/published/names.md",
    "Resources/Screenshots/*.png",
    "Resources/Models/*/*.png",
    "Resources/Models/*/*.jpg",
    "Resources/Models/*/model-card.md",
)
COMMANDS_MARK = "<!-- commands -->"
HELP_WIDTH = "100"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page for the API of every room."""
    config.nav.append({"API": [{"Overview": "api/index.md"}, *({room: f"api/{room}.md"} for room in rooms())]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that lie elsewhere, and the pages of the API."""
    in_nav = str(config.nav)
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            hidden = uri.endswith(".md") and uri not in in_nav
            level = InclusionLevel.NOT_IN_NAV if hidden else InclusionLevel.UNDEFINED
            files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=level))
    files.append(File.generated(config, "api/index.md", content=api_overview()))
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=api_page(room)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the site's pages, and put the help texts where they belong."""
    if COMMANDS_MARK in markdown:
        markdown = markdown.replace(COMMANDS_MARK, command_line())
    if page.file.src_uri.startswith("api/"):
        return markdown
    return LINK.sub(lambda found: found[1] + site_link(found[2], page.file.src_uri, config, files) + found[3], markdown)


def site_link(link: str, page: str, config: MkDocsConfig, files: Files) -> str:
    """The link of a page, relative as the repository has it, as the site has it."""
    if re.match(r"[a-z]+:|#|/", link):
        return link
    target, hash_mark, anchor = link.partition("#")
    in_docs = Path(config.docs_dir, page).exists()
    folder = posixpath.dirname(f"docs/{page}" if in_docs else page)
    path = posixpath.normpath(posixpath.join(folder, unquote(target)))
    uri = path.removeprefix("docs/")
    if files.get_file_from_path(uri):
        return posixpath.relpath(uri, posixpath.dirname(page) or ".") + hash_mark + anchor
    if (ROOT / path).exists():
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{config.repo_url}/{kind}/main/{path}{hash_mark}{anchor}"
    return link


def rooms() -> list[str]:
    """The packages of the library, from the top down as the import rules have them; others come last."""
    rules = re.search(r"^layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    order = re.findall(r"\w+", rules[1]) if rules else []
    found = [path.parent.name for path in sorted((ROOT / "H3DELandmarksLib").glob("*/__init__.py"))]
    return sorted(found, key=lambda room: order.index(room) if room in order else len(order))


def modules(room: str) -> list[str]:
    """Dotted names of the public modules of a room, the package itself first."""
    names = [path.stem for path in sorted((ROOT / "H3DELandmarksLib" / room).glob("*.py"))]
    public = [name for name in names if not name.startswith("_")]
    return [f"H3DELandmarksLib.{room}", *(f"H3DELandmarksLib.{room}.{name}" for name in public)]


def api_overview() -> str:
    """The list of rooms."""
    lines = [f"- [`H3DELandmarksLib.{room}`]({room}.md)" for room in rooms()]
    intro = (
        "One page a room of the library, from the docstrings, from the top room down to the one on which all stand "
        "([architecture](../architecture.md)). Millimeters are LPS unless a page says RAS. The version number is below "
        "1.0: names may change between minor versions, and [the changelog](../CHANGELOG.md) says so."
    )
    return "\n".join(["# API", "", intro, "", *lines, ""])


def api_page(room: str) -> str:
    """The page of a room, filled by mkdocstrings."""
    package, *others = modules(room)
    blocks = [f"::: {package}\n    options:\n      members: false", *(f"::: {name}" for name in others)]
    return "\n\n".join([f"# {room}", *blocks]) + "\n"


def command_line() -> str:
    """The help of every command, as argparse prints it."""
    os.environ["COLUMNS"] = HELP_WIDTH  # argparse asks for it
    from H3DELandmarksLib.cli.main import make_parser

    sections = []
    for parser in commands(make_parser("h3delandmarks")):
        level = "##" if parser.prog.count(" ") < 2 else "###"
        sections.append(f"{level} {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(sections)


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from commands(command)
