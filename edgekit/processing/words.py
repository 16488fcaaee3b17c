"""Text -> words -> pieces of words, as BERT's vocabularies were made for."""

from __future__ import annotations

import unicodedata
from collections.abc import Container

__all__ = ["split_word", "split_words"]

_MAX_WORD = 100
"""Letters; a longer word is unknown."""

_IDEOGRAPHS = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)
"""Unicode's blocks of ideographs, each of which is a word of its own; the letters of Korean and Japanese are not."""


def split_words(text: str, *, lower: bool) -> list[str]:
    """The words of a text; each punctuation mark and each ideograph is one. `lower` also takes the accents off."""
    spaced = "".join(_spaced(letter) for letter in text)
    words: list[str] = []
    for word in spaced.split():
        plain = _without_accents(word.lower()) if lower else word
        words += "".join(f" {letter} " if _is_punctuation(letter) else letter for letter in plain).split()
    return words


def split_word(word: str, vocabulary: Container[str]) -> list[str]:
    """The longest pieces of `word` from its beginning on, ``["[UNK]"]`` where the vocabulary does not suffice."""
    if len(word) > _MAX_WORD:
        return ["[UNK]"]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces


def _spaced(letter: str) -> str:
    """A letter as it goes into splitting at spaces: ideographs apart, blanks as a space, control characters not."""
    if letter in "\t\n\r" or unicodedata.category(letter) == "Zs":
        return " "
    if letter in "\0\ufffd" or unicodedata.category(letter).startswith("C"):
        return ""
    return f" {letter} " if any(low <= ord(letter) <= high for low, high in _IDEOGRAPHS) else letter


def _without_accents(word: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", word) if unicodedata.category(letter) != "Mn")


def _is_punctuation(letter: str) -> bool:
    """Unicode's punctuation, and whatever of ASCII is neither letter, digit nor blank."""
    is_ascii_mark = 33 <= ord(letter) <= 126 and not letter.isalnum()
    return is_ascii_mark or unicodedata.category(letter).startswith("P")
