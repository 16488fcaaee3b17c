"""Steps on text: a string -> the integers a language model reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.steps import Apply, StepContext, integers, one_of
from edgekit.processing.words import split_word, split_words

__all__ = ["BEGIN", "END", "FIRST_BYTE", "PAD", "text_of", "tokenize_bytes", "tokenize_wordpiece"]

PAD, BEGIN, END = 0, 1, 2
FIRST_BYTE = 3
"""The id of byte 0; that of byte 255 is 258, so that a vocabulary of 259 holds every text there is."""


def tokenize_bytes(*, length: Any, what: str = "ids") -> Apply:
    """A text, or a path of a file of UTF-8 text -> int64 [length]: begin, a token a byte, end, padding.

    The ids are 0 for padding, 1 for the beginning, 2 for the end, and 3 + the byte of the text in UTF-8. A text of
    more than ``length - 2`` bytes is cut at its end and still gets its end token.

    Args:
        length: Tokens in all; at least 3.
        what: ``"ids"``; ``"mask"``, one where there is a token and zero where there is padding; or ``"types"``, the
            segment each token belongs to, which is 0 throughout.
    """
    size, what = _frame(length, what)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        content = text_of(value).encode("utf-8", "surrogatepass")[: size - 2]
        return _framed(np.frombuffer(content, np.uint8).astype(np.int64) + FIRST_BYTE, size, what, (PAD, BEGIN, END))

    return apply


def tokenize_wordpiece(*, vocabulary: Any, length: Any, what: str = "ids", lower: bool = True) -> Apply:
    """A text, or a path of a text file -> int64 [length] as BERT reads it: [CLS], pieces of words, [SEP], [PAD].

    Words are split at spaces and punctuation, and of each the longest piece the vocabulary has is taken again and
    again; what goes on within a word begins with "##". A word it has no pieces for is [UNK] (J. Devlin et al., BERT,
    arXiv 1810.04805; Y. Wu et al., Google's Neural Machine Translation System, arXiv 1609.08144, section 4.1).

    Args:
        vocabulary: The pieces by id, the lines of a model's ``vocab.txt``.
        length: Tokens in all; at least 3. A longer text is cut at its end and still gets its [SEP].
        what: ``"ids"``, ``"mask"`` or ``"types"``, as of `tokenize_bytes`.
        lower: Whether the vocabulary is of lower-case letters without accents.
    """
    size, what = _frame(length, what)
    if not isinstance(vocabulary, list) or not all(isinstance(piece, str) for piece in vocabulary):
        raise ArtifactError("vocabulary must be the list of pieces", hint="the lines of the model's vocab.txt")
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    if missing := [piece for piece in ("[PAD]", "[CLS]", "[SEP]", "[UNK]") if piece not in ids]:
        raise ArtifactError(f"the vocabulary has no {', '.join(missing)}", hint="the lines of the model's vocab.txt")
    special = ids["[PAD]"], ids["[CLS]"], ids["[SEP]"]

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pieces = [ids[piece] for word in split_words(text_of(value), lower=lower) for piece in split_word(word, ids)]
        return _framed(np.array(pieces[: size - 2], np.int64), size, what, special)

    return apply


def _frame(length: Any, what: str) -> tuple[int, str]:
    (size,) = integers("length", length, count=1)
    if size < 3:
        raise ArtifactError(f"length must be at least 3, not {length!r}", hint="begin, a token, end")
    return size, one_of("what", what, ("ids", "mask", "types"))


def _framed(tokens: np.ndarray, size: int, what: str, special: tuple[int, int, int]) -> np.ndarray:
    """[size] of padding, or zeros, with begin, `tokens`, end, or ones, before it."""
    pad, begin, end = special
    used = len(tokens) + 2
    if what != "ids":
        return (np.arange(size) < (used if what == "mask" else 0)).astype(np.int64)
    framed = np.full(size, pad, np.int64)
    framed[0], framed[1 : used - 1], framed[used - 1] = begin, tokens, end
    return framed


def text_of(value: Any) -> str:
    """The text in `value`: a string, or a path of a file. Raises InputError."""
    if isinstance(value, Path):
        try:
            return value.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{value} cannot be read as text: {error}", hint="save it as UTF-8") from error
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, str):
        raise InputError(f"a {type(value).__name__} is not a text", hint="pass a string, or a Path of a text file")
    return value
