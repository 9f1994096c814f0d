"""Figures in memory and as small files, drawn without a screen."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from H3DELandmarksLib.core.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, INK, FAINT, STRONG, SECOND = "#ffffff", "#1f2328", "#8b949e", "#0b62c4", "#d1480f"
DOTS_PER_INCH = 120
COLORS = 64


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
