"""The pieces of words that BERT's tiny size reads, learnt from texts of which the class is known."""

from __future__ import annotations

import math
import string
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from edgekit.processing.words import split_words

__all__ = ["SPECIAL", "VOCABULARY", "learn_pieces", "read_pieces"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

VOCABULARY = Path(__file__).parent / "weights" / "bert-tiny.vocab.txt"
"""What `learn_pieces` gives for the training texts of the data set ``languages``, one piece a line."""

_LETTERS = range(2, 6)
"""Of a piece that is more than a single letter."""


def learn_pieces(texts: Iterable[tuple[str, str]], size: int) -> list[str]:
    """A vocabulary of `size` pieces for texts and their classes; "##" is before what goes on within a word.

    First what has a meaning of its own, then every letter and mark there is, so that no word of those is unknown, then
    the pieces that tell most: the bits by which a piece narrows down the class, times the words that have it. (BERT's
    own are those that are most frequent: with so few, many would say nothing of the class.) With fewer pieces in the
    texts than asked for, all of them.
    """
    owners: dict[str, Counter[str]] = defaultdict(Counter)
    marks: set[str] = set()
    letters = {*string.ascii_lowercase, *string.digits}
    classes: set[str] = set()
    for text, label in texts:
        classes.add(label)
        for word in split_words(text, lower=True):
            (letters if len(word) > 1 else marks).update(word)
            for piece in _pieces(word):
                owners[piece][label] += 1
    telling = sorted(owners, key=lambda piece: (-_told(owners[piece], len(classes)), piece))
    fixed = [*SPECIAL, *sorted(marks | letters), *(f"##{letter}" for letter in sorted(letters))]
    return [*fixed, *telling[: size - len(fixed)]]


def _pieces(word: str) -> set[str]:
    """All there are in a word, single letters apart."""
    starts = range(len(word))
    return {
        ("##" if start else "") + word[start : start + count]
        for start in starts
        for count in _LETTERS
        if start + count <= len(word)
    }


def _told(counts: Counter[str], num_classes: int) -> float:
    """Bits, rounded so that what tells the same is the same on every machine."""
    total = counts.total()
    left = sum(count * math.log2(total / count) for count in sorted(counts.values()))
    return round(total * math.log2(num_classes) - left, 6)


def read_pieces(path: Path = VOCABULARY) -> list[str]:
    """The pieces of a vocabulary by id."""
    return path.read_text(encoding="utf-8").splitlines()
