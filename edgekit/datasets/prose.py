"""English prose about statistics and programming: paragraphs out of a library's own documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from edgekit.datasets.files import write_listing
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.packages import PackageFiles, package_files

__all__ = ["RECIPE", "paragraphs"]

_SHARES = {"train": 0.8, "calibration": 0.05, "test": 0.15}
"""Of the files: what is written in one of them is in one split only."""
_LENGTHS = (60, 512)

_FILES = PackageFiles(
    "scikit-learn",
    "1.9.1",
    ("sklearn/*.py",),
    "3d041d89228a5993f67389282e4adc62abdbd9749318eded3525b588af9fb120",
    without=("sklearn/externals/*", "*/tests/*", "sklearn/_*", "sklearn/conftest.py"),
)

_ROLE = re.compile(r":[\w:]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]*?)\s*<[^`>]*>`_+")
_PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,.;:'()\-/\"]*[.]")
_CITES = re.compile(
    r"--|[( ](?:19|20)\d\d\)?[.,]|\bet al\b|\bpp\.|\bvol\.|\bISBN\b|\bdoi\b|\b[Vv]ersion (added|changed)"
)


def paragraphs(code: str) -> Iterator[str]:
    """The paragraphs of plain sentences in the docstrings of a Python file, each on one line."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for lines in _runs(ast.get_docstring(node) or ""):
                text = _plain(lines)
                if _LENGTHS[0] <= len(text) <= _LENGTHS[1] and _PLAIN.fullmatch(text) and not _CITES.search(text):
                    yield text


def _runs(docstring: str) -> Iterator[list[str]]:
    """Lines that follow each other at the same depth; the name of a parameter and its description are two such."""
    for _, run in groupby(docstring.splitlines(), key=lambda line: (bool(line.strip()), _depth(line))):
        yield list(run)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(lines: list[str]) -> str:
    """The lines without markup, as one."""
    text = _LINK.sub(r"\1", _ROLE.sub(r"\1", " ".join(" ".join(lines).split())))
    return text.replace("`", "").replace("*", "")


def _write(folder: Path, seed: int) -> None:
    files = package_files(_FILES)
    paths = list(files)
    order = np.random.default_rng(seed).permutation(len(paths))
    start, seen = 0.0, set()
    for split, share in _SHARES.items():
        chosen = order[round(start * len(paths)) : round((start + share) * len(paths))]
        start += share
        records = []
        for index in sorted(chosen):
            for text in paragraphs(files[paths[index]].read_text(encoding="utf-8")):
                if text not in seen:  # the same parameter is described in many places
                    seen.add(text)
                    records.append({"text": text})
        write_listing(folder / split, records)


RECIPE = DatasetRecipe(
    name="prose",
    title="paragraphs of English about statistics and programming",
    task="language modeling",
    license="BSD-3-Clause",
    source="scikit-learn 1.9.1, plain paragraphs of its docstrings",
    write=_write,
    needs=(_FILES,),
)
