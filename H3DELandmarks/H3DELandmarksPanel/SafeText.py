"""Texts of strangers, such as those of a model package, for widgets that take some texts for HTML or Markdown.

Qt opens what HTML and Markdown name: files, and on Windows other computers.
"""

import html
import re

# What makes a picture of the brackets behind it, and the name of the picture where it is one of the package.
_PICTURE = re.compile(r"!+(?=\[)(?P<link>(?P<words>\[[^\]\n]*\])\((?P<name>[\w.-]+)\))?")


def plainTip(text):
    """A tool tip, or a question, that shows a text as it is; None and empty texts stay."""
    return f"<p>{html.escape(text)}</p>".replace("\n", "<br>") if text and "<" in text else text


def safeCard(package):
    """The Markdown of a ModelPackage's card without HTML, and with no pictures but those that its manifest names."""

    def kept(found):
        return f"!{found['link']}" if found["name"] in package.picture_files else found["link"] or ""

    return _PICTURE.sub(kept, package.model_card().replace("<", "&lt;"))
