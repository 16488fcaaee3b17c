"""The site that `make docs` builds of these pages: Sphinx with MyST for Markdown and the theme Furo."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

import edgekit

project = "edgekit"
author = "the edgekit authors"
version = release = edgekit.__version__
extensions = ["myst_parser"]
root_doc = "README"
exclude_patterns = ["decisions/0000-template.md"]
html_theme = "furo"
html_title = f"edgekit {version}"
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 3

SECTIONS = {
    "Learn": ["tutorial"],
    "How to": ["how-to/*"],
    "Reference": ["reference/*"],
    "Why": ["explanation", "defaults", "decisions/*"],
}
"""Headings of the side bar, and the pages below each: a new page stands there as soon as there is a file."""


def _side_bar(app: Sphinx, page: str, text: list[str]) -> None:
    if page != root_doc:
        return
    for heading, patterns in SECTIONS.items():
        places = "\n".join(patterns)
        text[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {heading}\n\n{places}\n```\n"


def _links_to_code(app: Sphinx, page: str, text: list[str]) -> None:
    """Links that leave docs/ lead to the repository, which the site is not: they become links to its address."""
    folder = (Path(app.srcdir) / page).parent
    for target in sorted(_outside(folder, Path(app.srcdir), text[0])):
        place = (folder / target).resolve().relative_to(Path(app.srcdir).parent.resolve()).as_posix()
        text[0] = text[0].replace(f"]({target}", f"](https://github.com/edgekit/edgekit/blob/main/{place}")


def _outside(folder: Path, root: Path, text: str) -> set[str]:
    targets = {target.split("#")[0] for target in re.findall(r"\]\((\.\./[^)\s]+)\)", text)}
    return {target for target in targets if not (folder / target).resolve().is_relative_to(root.resolve())}


def _front_page(app: Sphinx, error: Exception | None) -> None:
    """Web servers look for index.html."""
    if error is None:
        shutil.copyfile(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    app.connect("build-finished", _front_page)
    app.connect("source-read", _side_bar)
    app.connect("source-read", _links_to_code)
