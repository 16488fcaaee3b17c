"""Texts in twelve languages of Latin script, of messages from the translations of a program; which language is it?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.datasets.files import write_listing
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.packages import PackageFiles, package_files

__all__ = ["LABELS", "RECIPE", "read_catalog"]

_TRANSLATED = ("de", "fr", "es", "it", "pt", "nl", "sv", "da", "pl", "cs", "fi")
LABELS = ("en", *_TRANSLATED)
_SHARES = {"train": 0.78, "calibration": 0.05, "test": 0.17}
_LENGTHS = (12, 120)
"""Letters of a message."""

_LONG_ENOUGH = 60
"""Letters of a text at least; with a last message of the longest there are it has 181."""

_FILES = PackageFiles(
    "django",
    "5.2.8",
    tuple(f"django/*/locale/{language}/LC_MESSAGES/*.po" for language in _TRANSLATED),
    "ce4817eee625e8213d1a465f3622a90bd74b62ae392aa4c1306dcc84e187a435",
)

_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]|\{\w*\}|<[^>]*>|&\w+;")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class _Message:
    """An English message and its translation."""

    english: str
    translated: str


def read_catalog(text: str) -> Iterator[_Message]:
    """The translated messages of a .po file, of plurals the first form; what is obsolete or fuzzy is left out."""
    for entry in re.split(r"\n\s*\n", text):
        lines = entry.splitlines()
        if any(line.startswith("#,") and "fuzzy" in line for line in lines):
            continue
        fields: dict[str, str] = {}
        key = ""
        for line in lines:
            if line.startswith("#"):
                continue
            keyword, _, _ = line.partition('"')
            key = keyword.strip() or key
            fields[key] = fields.get(key, "") + "".join(ast.literal_eval(found) for found in _STRING.findall(line))
        translated = fields.get("msgstr") or fields.get("msgstr[0]")
        if fields.get("msgid") and translated:
            yield _Message(fields["msgid"], translated)


def _plain(text: str) -> str:
    """`text` without placeholders, markup and line ends."""
    return " ".join(_PLACEHOLDER.sub(" ", text).split()).strip(" -:.,()\"'")


def _texts() -> dict[str, dict[str, str]]:
    """English message -> language -> text; a text that more than one language has is left out, as nobody can tell."""
    found: dict[str, dict[str, str]] = {}
    for path, place in package_files(_FILES).items():
        language = path.split("/")[-3]
        for message in read_catalog(place.read_text(encoding="utf-8")):
            if message.english != message.translated:
                texts = {"en": _plain(message.english), language: _plain(message.translated)}
                for name, text in texts.items():
                    if _LENGTHS[0] <= len(text) <= _LENGTHS[1]:
                        found.setdefault(message.english, {})[name] = text
    owners: dict[str, set[str]] = {}
    for texts in found.values():
        for language, text in texts.items():
            owners.setdefault(text.lower(), set()).add(language)
    return {
        english: {language: text for language, text in texts.items() if len(owners[text.lower()]) == 1}
        for english, texts in sorted(found.items())
    }


def _write(folder: Path, seed: int) -> None:
    """Texts of a language, each joined of messages of the same split.

    Messages that have become the same in any language stay together, so that no split has what another has.
    """
    groups = _groups(_texts())
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(groups))
    start = 0.0
    for split, share in _SHARES.items():
        chosen = order[round(start * len(groups)) : round((start + share) * len(groups))]
        start += share
        pairs = sorted({(text, language) for index in chosen for language, text in groups[index]})
        shuffled = [pairs[index] for index in generator.permutation(len(pairs))]
        texts = [(text, name) for name in LABELS for text in _joined(text for text, own in shuffled if own == name)]
        mixed = [texts[index] for index in generator.permutation(len(texts))]
        write_listing(folder / split, ({"text": text, "label": name} for text, name in mixed))


def _joined(messages: Iterable[str]) -> Iterator[str]:
    """One message after the other as the sentences of a text, until it is long enough; what then remains is left out.

    A message alone is often a word or two that more than one language could have.
    """
    text = ""
    for message in messages:
        text = f"{text}. {message}" if text else message
        if len(text) >= _LONG_ENOUGH:
            yield text
            text = ""


def _groups(texts: dict[str, dict[str, str]]) -> list[list[tuple[str, str]]]:
    """Language and text of messages that are connected by a text they share, whatever its case."""
    groups: dict[str, list[str]] = {}
    leader: dict[str, str] = {}
    for english, translations in texts.items():
        keys = {text.lower() for text in translations.values()}
        merged = sorted({leader[key] for key in keys if key in leader})
        members = [english, *(member for old in merged for member in groups.pop(old))]
        groups[english] = members
        for member in members:
            leader.update((text.lower(), english) for text in texts[member].values())
    return [[pair for member in members for pair in texts[member].items()] for members in groups.values()]


RECIPE = DatasetRecipe(
    name="languages",
    title="texts in twelve languages of Latin script",
    task="text classification",
    license="BSD-3-Clause",
    source="Django 5.2.8, its translated messages, without placeholders and markup, joined to texts",
    write=_write,
    labels=LABELS,
    needs=(_FILES,),
    version=2,
)
