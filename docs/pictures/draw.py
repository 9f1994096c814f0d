"""Draws the pictures of docs/architecture.md: ``python docs/pictures/draw.py`` writes flows.svg and rooms.svg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

FONT = "font-family='DejaVu Sans, Verdana, Arial, sans-serif'"
INK, SOFT, LINE, PAPER = "#1f2933", "#52606d", "#7b8794", "#ffffff"
FILLS = {"panel": "#dbeafe", "library": "#e8f5e9", "torch": "#fff3d6", "disk": "#f1f3f5", "research": "#f6e7f8"}


@dataclass(frozen=True)
class Box:
    """A box of a picture.

    Attributes:
        x, y, width, height: pixels, from the upper left corner.
        title: in bold.
        lines: below it, small.
        kind: key of `FILLS`.
    """

    x: float
    y: float
    width: float
    height: float
    title: str
    lines: Sequence[str] = ()
    kind: str = "library"

    def svg(self) -> str:
        """The box with its text in the middle."""
        parts = [
            f"<rect x='{self.x}' y='{self.y}' width='{self.width}' height='{self.height}' rx='7' "
            f"fill='{FILLS[self.kind]}' stroke='{LINE}'/>"
        ]
        middle, step = self.x + self.width / 2, 16
        top = self.y + self.height / 2 + 5 - step * len(self.lines) / 2
        parts.append(text(middle, top, self.title, size=14, weight="bold"))
        parts += [text(middle, top + step * (i + 1), line, size=12, color=SOFT) for i, line in enumerate(self.lines)]
        return "\n".join(parts)


def text(
    x: float, y: float, words: str, size: int = 13, weight: str = "normal", color: str = INK, anchor: str = "middle"
) -> str:
    """One line of text."""
    style = f"{FONT} font-size='{size}' font-weight='{weight}' fill='{color}' text-anchor='{anchor}'"
    return f"<text x='{x}' y='{y}' {style}>{escape(words)}</text>"


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight arrow."""
    return f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{INK}' stroke-width='1.6' marker-end='url(#head)'/>"


def bent_arrow(points: Sequence[tuple[float, float]]) -> str:
    """An arrow along several points."""
    path = " ".join(f"{x},{y}" for x, y in points[:-1])
    (x1, y1), (x2, y2) = points[-2:]
    return f"<polyline points='{path}' fill='none' stroke='{INK}' stroke-width='1.6'/>\n{arrow(x1, y1, x2, y2)}"


def picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """The SVG file."""
    head = (
        "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0,0 L10,5 L0,10 z' fill='{INK}'/></marker></defs>"
    )
    frame = f"<rect width='{width}' height='{height}' fill='{PAPER}'/>"
    size = f"viewBox='0 0 {width} {height}' width='{width}' height='{height}'"
    opening = f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img'>"
    return "\n".join([opening, f"<title>{escape(title)}</title>", head, frame, *parts, "</svg>", ""])


def flow(y: float, name: str, steps: Sequence[tuple[str, Sequence[str], str]], left: float = 140) -> list[str]:
    """One flow: its name, then boxes from left to right."""
    width, gap, height = 166, 26, 74
    parts = [text(14, y + height / 2 + 5, name, size=17, weight="bold", anchor="start")]
    for i, (title, lines, kind) in enumerate(steps):
        x = left + i * (width + gap)
        parts.append(Box(x, y, width, height, title, lines, kind).svg())
        if i:
            parts.append(arrow(x - gap + 2, y + height / 2, x - 2, y + height / 2))
    return parts


def key(x: float, y: float, entries: Sequence[tuple[str, str]]) -> list[str]:
    """What the colors mean."""
    parts = []
    for kind, words in entries:
        parts.append(f"<rect x='{x}' y='{y - 12}' width='22' height='15' rx='3' fill='{FILLS[kind]}' stroke='{LINE}'/>")
        parts.append(text(x + 30, y, words, size=12, color=SOFT, anchor="start"))
        x += 50 + 7.2 * len(words)
    return parts


# What happens in each flow, step by step: name, two lines of words, kind.
FLOWS = (
    (
        "Detect",
        (
            ("Scan", ("file, DICOM series", "or volume in Slicer"), "disk"),
            ("Read", ("io: grid, voxels", "in LPS mm"), "library"),
            ("Search", ("detection: whole field", "of view, coarse"), "torch"),
            ("Refine", ("detection: crops,", "fine voxels"), "torch"),
            ("Calibrate", ("presence, confidence,", "90 % radius"), "library"),
            ("Landmark set", ("found, absent, not", "examined or recognised"), "library"),
            ("Point list", ("scene, or files", ".mrk.json and .csv"), "panel"),
        ),
    ),
    (
        "Correct",
        (
            ("Point list", ("most doubtful", "landmark first"), "panel"),
            ("Clinician", ("accepts, moves, places,", "marks absent"), "panel"),
            ("Review", ("scene: state of every", "landmark, with undo"), "library"),
            ("Case", ("cases: one more revision,", "no patient data"), "disk"),
        ),
    ),
    (
        "Learn",
        (
            ("Cases", ("append-only folder", "on disk"), "disk"),
            ("Check", ("sides, air, shape,", "near copies"), "library"),
            ("Retrain", ("a copy learns; some", "subjects held out"), "torch"),
            ("Candidate", ("a model package", "beside the old one"), "disk"),
            ("Compare", ("both on held-out", "subjects, 95 % interval"), "torch"),
            ("Decide", ("promoted,", "or kept aside"), "panel"),
            ("Versions", ("all kept; one click", "goes back"), "disk"),
        ),
    ),
    (
        "Export",
        (
            ("Reviewed set", ("states, model", "and version"), "library"),
            ("Point lists, tables", (".mrk.json, .csv,", "picture"), "disk"),
            ("Cases", ("folder, zip, MML,", "nnLandmark"), "disk"),
            ("Report", ("one page of a cohort", "or a comparison"), "disk"),
        ),
    ),
    (
        "Serve many",
        (
            ("Scans", ("folders, lists, DICOM", "trees, BIDS data sets"), "disk"),
            ("Known?", ("by content and model:", "finished ones stay"), "library"),
            ("Read", ("while others", "are examined"), "library"),
            ("Detect", ("several at a time, here", "or on a Dask cluster"), "torch"),
            ("Results", ("one sentence for each", "scan that fails"), "disk"),
            ("Table and log", ("one of all scans:", "CSV, Parquet, JSON"), "disk"),
        ),
    ),
)


def flows() -> str:
    """The five flows."""
    parts: list[str] = []
    for i, (name, steps) in enumerate(FLOWS):
        parts += flow(20 + i * 112, name, steps)
    # What is corrected is what is learnt from, and what is promoted is what detects.
    parts.append(bent_arrow([(799, 206), (799, 225), (223, 225), (223, 242)]))
    parts.append(text(510, 220, "corrected cases", size=12, color=SOFT))
    parts.append(bent_arrow([(1458, 281), (1476, 281), (1476, 113), (607, 113), (607, 96)]))
    parts.append(text(1040, 108, "the version in use", size=12, color=SOFT))
    entries = (("panel", "seen in Slicer"), ("library", "library"), ("torch", "needs PyTorch"), ("disk", "on disk"))
    parts += key(140, 585, entries)
    return picture(1496, 600, "The five flows: detect, correct, learn, export, serve many", parts)


def rooms() -> str:
    """The rooms as layers."""
    layers = (
        (("cli", "commands, exit codes", "library"),),
        (("retraining", "plan, candidate, comparison, promotion", "torch"),),
        (
            ("training", "loop, losses", "torch"),
            ("scene", "MRML in and out", "panel"),
            ("cohort", "many scans, Dask", "library"),
        ),
        (("cases", "store, checks, next case", "library"),),
        (("detection", "search, refine, decode", "torch"), ("evaluation", "errors, tests", "library")),
        (("models", "packages, versions", "library"),),
        (("networks", "H3DE-Net, HYATT-Net, HAN", "torch"),),
        (("io", "images, point lists, tables", "library"),),
        (("formats", "every JSON file as a type", "library"),),
        (("core", "geometry, landmarks, files, errors", "library"),),
    )
    left, width, height, gap = 250, 500, 46, 14
    parts = []
    for i, layer in enumerate(layers):
        y, share = 20 + i * (height + gap), (width - 12 * (len(layer) - 1)) / len(layer)
        for j, (name, words, kind) in enumerate(layer):
            parts.append(Box(left + j * (share + 12), y, share, height, name, (words,), kind).svg())
        if i:
            parts.append(arrow(left + width / 2, y - gap, left + width / 2, y - 1))
    bottom = 20 + len(layers) * (height + gap) - gap
    parts.append(Box(20, 20 + 2 * (height + gap), 190, 46, "H3DELandmarks", ("panel in Slicer: Qt",), "panel").svg())
    # The panel imports what it shows without PyTorch, and starts the command line in a process of its own.
    parts.append(bent_arrow([(60, 139), (60, 43), (248, 43)]))
    parts.append(text(68, 84, "starts as a process,", size=12, color=SOFT, anchor="start"))
    parts.append(text(68, 100, "reads lines of JSON", size=12, color=SOFT, anchor="start"))
    parts.append(bent_arrow([(95, 187), (95, 225), (248, 225)]))
    parts.append(text(108, 242, "imports scene, cases", size=12, color=SOFT, anchor="start"))
    parts.append(
        Box(780, 20, 220, 66, "H3DELandmarksResearch", ("installed by pip,", "absent from Slicer"), "research").svg()
    )
    parts.append(bent_arrow([(890, 86), (890, 282), (752, 282)]))
    parts.append(text(898, 180, "imports the", size=12, color=SOFT, anchor="start"))
    parts.append(text(898, 196, "library, never", size=12, color=SOFT, anchor="start"))
    parts.append(text(898, 212, "the reverse", size=12, color=SOFT, anchor="start"))
    entries = (
        ("panel", "knows Slicer"),
        ("library", "plain Python"),
        ("torch", "needs PyTorch"),
        ("research", "research"),
    )
    parts += key(left, bottom + 36, entries)
    return picture(1010, bottom + 52, "Rooms of the library: each imports only what lies below it", parts)


if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    (folder / "flows.svg").write_text(flows(), encoding="utf-8")
    (folder / "rooms.svg").write_text(rooms(), encoding="utf-8")
