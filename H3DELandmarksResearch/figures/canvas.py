"""One style for all figures, in memory and as files, drawn without a screen.

What a file's name ends with says its form: ``.png``, or ``.svg`` and ``.pdf`` for papers, whose words stay words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from H3DELandmarksLib.core.errors import InputError, MissingDependencyError
from H3DELandmarksLib.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, FAINT, STRONG, SECOND = "#ffffff", "#1f2328", "#8b949e", "#0b62c4", "#d1480f"
BETTER, WORSE, UNDECIDED, GRID = "#1a7f37", "#cf222e", "#6e7781", "#e4e7eb"
# Of several lines in one plot, told apart by people who confuse red and green.
SERIES = (STRONG, SECOND, "#1a7f37", "#8250df", "#7d5c00", "#57606a")
DOTS_PER_INCH = 120
COLORS = 64
FORMS = ("png", "svg", "pdf")
SIGNATURE = "H3DELandmarks"
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_SETTINGS = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": SIGNATURE, "font.size": 8.5}


def new_figure(width: float, height: float, background: str = PAPER) -> Figure:
    """An empty figure.

    Args:
        width: inches.
        height: inches.
        background: color.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "Pictures need the Python package matplotlib: install it with 'pip install matplotlib'."
        ) from error
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=background)
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, grid: str = "both") -> None:
    """Thin left and lower edges, small ticks, a faint grid behind along "x", "y", "both" or "" for none."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=7.5, color=FAINT, labelcolor=INK, length=2.5)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=8, color=INK)
    axes.set_title(axes.get_title(), fontsize=9, color=INK, parse_math=False)
    axes.set_title(axes.get_title("left"), fontsize=9, color=INK, loc="left", parse_math=False)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the form that the name ends with; a file of that name is replaced when it is complete.

    Raises:
        InputError: no figure can be written in this form, or the file cannot be written.
    """
    form = form_of(path)
    with atomic_write(path) as temporary:
        save_as(figure, temporary, form)


def form_of(path: Path) -> str:
    """The form that a figure's name ends with; raises InputError for others."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMS:
        known = ", ".join(f".{name}" for name in FORMS)
        raise InputError(f"'{path}' does not end with the form of a figure: end it with one of {known}.")
    return form


def save_as(figure: Figure, target: Any, form: str) -> None:
    """Write a figure to a path or stream; the same figure gives the same bytes."""
    signed: Mapping[str, str | None] = {"Software": SIGNATURE}
    if form != "png":
        signed = {"Creator": SIGNATURE, **({"Date": None} if form == "svg" else {"CreationDate": None})}
    with _settings():
        figure.savefig(target, format=form, facecolor=figure.get_facecolor(), metadata=signed)


def as_svg(figure: Figure, unique: str, colors: Mapping[str, str] | None = None) -> str:
    """A figure as an SVG element that a page takes in, without a background and with the page's own letters.

    Args:
        figure: to draw.
        unique: no other figure of the page has it.
        colors: what stands in place of a color, such as ``var(--ink)``.
    """
    target = BytesIO()
    with _settings({"svg.hashsalt": unique}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(target.getvalue())
    for child in list(root):
        if child.tag == f"{{{SVG}}}metadata" or child.find(f"{{{SVG}}}style") is not None:  # that of the whole page
            root.remove(child)
    for name in ("width", "height"):
        del root.attrib[name]
    root.set("style", f"max-width: {figure.get_figwidth():g}in; stroke-linejoin: round")
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _for_page(key, value, unique, colors or {}))
    for prefix, space in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, space)
    return ElementTree.tostring(root, encoding="unicode")


def _for_page(key: str, value: str, unique: str, colors: Mapping[str, str]) -> str:
    """An attribute with names that no other figure has, and the colors and letters of the page."""
    if key == "id":
        return f"{unique}-{value}"
    if key == f"{{{XLINK}}}href":
        return value.replace("#", f"#{unique}-", 1) if value.startswith("#") else value
    if key == "clip-path":
        return value.replace("url(#", f"url(#{unique}-")
    if key == "style":
        for color, stands in colors.items():
            value = value.replace(color, stands)
        value = re.sub(r"font: ((?:\w+ )*)([\d.]+px) [^;]*", r"font: \1\2 var(--letters, sans-serif)", value)
        return re.sub(r"font-family: [^;]*", "font-family: inherit", value)
    return value


def _settings(more: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
    import matplotlib

    known = {key: value for key, value in {**_SETTINGS, **(more or {})}.items() if key in matplotlib.rcParams}
    return matplotlib.rc_context(known)  # type: ignore[arg-type]


def as_png(figure: Figure, colors: int = COLORS) -> bytes:
    """A PNG of few colors, for drawings."""
    from PIL import Image

    picture = _picture(figure).quantize(colors, dither=Image.Dither.NONE)
    return _saved(picture, format="PNG", optimize=True)


def as_jpeg(figure: Figure, most_bytes: int) -> bytes:
    """A JPEG for scans, of the best quality that fits, at half size at last."""
    picture = _picture(figure)
    for shown in (picture, picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))):
        for quality in range(88, 50, -6):
            data = _saved(shown, format="JPEG", quality=quality, optimize=True)
            if len(data) <= most_bytes:
                return data
    return _saved(picture.resize((picture.width // 2, picture.height // 2)), format="JPEG", quality=60, optimize=True)


def _picture(figure: Figure):
    from PIL import Image

    raw = BytesIO()
    figure.savefig(raw, format="png", facecolor=figure.get_facecolor())
    raw.seek(0)
    return Image.open(raw).convert("RGB")


def _saved(picture, **options) -> bytes:
    target = BytesIO()
    picture.save(target, **options)
    return target.getvalue()


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names beside the rows of a plot, first at the top; no name is taken for a formula."""
    axes.set_yticks(range(len(names)), [str(name) for name in names], fontsize=7, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
