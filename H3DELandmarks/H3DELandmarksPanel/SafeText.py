"""Texts of strangers, such as those of a model package, for widgets that take some texts for HTML or Markdown.

Qt opens what HTML and Markdown name: files, and on Windows other computers.
"""

import base64
import html
import re

from H3DELandmarksLib.core.errors import ModelPackageError

# What makes a picture of the brackets behind it, and the name of the picture where it is one of the package.
_PICTURE = re.compile(r"!+(?=\[)(?P<link>(?P<words>\[[^\]\n]*\])\((?P<name>[\w.-]+)\))?")


def plainTip(text):
    """A tool tip that shows a text as it is; None and empty texts stay."""
    return f"<p>{html.escape(text)}</p>" if text and "<" in text else text


def safeCard(package):
    """The Markdown of a model's card without HTML, and with no pictures but the package's own.

    Args:
        package: ModelPackage; its pictures are shown where they have the SHA-256 that the manifest says.
    """

    def shown(found):
        name = found["name"]
        try:
            data = package.read(name) if name in package.picture_files else None
        except ModelPackageError:
            data = None
        if data is None:
            return found["link"] or ""
        kind = "png" if name.endswith(".png") else "jpeg"
        return f"!{found['words']}(data:image/{kind};base64,{base64.b64encode(data).decode()})"

    return _PICTURE.sub(shown, package.model_card().replace("<", "&lt;"))
