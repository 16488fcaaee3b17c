"""Steps on text: a string -> the integers a language model reads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError, UnavailableError
from edgekit.processing.steps import Apply, StepContext, integers, one_of, truth
from edgekit.processing.words import split_word, split_words

__all__ = ["BEGIN", "END", "FIRST_BYTE", "PAD", "text_of", "tokenize", "tokenize_bytes", "tokenize_wordpiece"]

PAD, BEGIN, END = 0, 1, 2
FIRST_BYTE = 3
"""The id of byte 0; that of byte 255 is 258, so that a vocabulary of 259 holds every text there is."""


_PARTS = ("ids", "mask", "types")


def tokenize_bytes(*, length: Any = None, what: str = "ids") -> Apply:
    """A text, or a path of a file of UTF-8 text -> int64 [length]: begin, a token a byte, end, padding.

    The ids are 0 for padding, 1 for the beginning, 2 for the end, and 3 + the byte of the text in UTF-8. A text of
    more than ``length - 2`` bytes is cut at its end and still gets its end token.

    Args:
        length: Tokens in all, at least 3; those of the input where it is not given, and where that is open too, as
            many as the text has.
        what: ``"ids"``; ``"mask"``, one where there is a token and zero where there is padding; or ``"types"``, the
            segment each token belongs to, which is 0 throughout.
    """
    fixed, what = _frame(length, what)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        content = text_of(value).encode("utf-8", "surrogatepass")
        size = _framed_length(fixed, context, len(content))
        content = content[: size - 2]
        return _framed(np.frombuffer(content, np.uint8).astype(np.int64) + FIRST_BYTE, size, what, (PAD, BEGIN, END))

    return apply


def tokenize_wordpiece(*, vocabulary: Any, length: Any = None, what: str = "ids", lower: Any = True) -> Apply:
    """A text, or a path of a text file -> int64 [length] as BERT reads it: [CLS], pieces of words, [SEP], [PAD].

    Words are split at spaces and punctuation, and of each the longest piece the vocabulary has is taken again and
    again; what goes on within a word begins with "##". A word it has no pieces for is [UNK] (J. Devlin et al., BERT,
    arXiv 1810.04805; Y. Wu et al., Google's Neural Machine Translation System, arXiv 1609.08144, section 4.1).

    Args:
        vocabulary: The pieces by id, the lines of a model's ``vocab.txt``.
        length: As of `tokenize_bytes`. A longer text is cut at its end and still gets its [SEP].
        what: ``"ids"``, ``"mask"`` or ``"types"``, as of `tokenize_bytes`.
        lower: Whether the vocabulary is of lower-case letters without accents.
    """
    fixed, what = _frame(length, what)
    is_lower = truth("lower", lower)
    if not isinstance(vocabulary, list) or not all(isinstance(piece, str) for piece in vocabulary):
        raise ArtifactError("vocabulary must be the list of pieces", hint="the lines of the model's vocab.txt")
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    if missing := [piece for piece in ("[PAD]", "[CLS]", "[SEP]", "[UNK]") if piece not in ids]:
        raise ArtifactError(f"the vocabulary has no {', '.join(missing)}", hint="the lines of the model's vocab.txt")
    special = ids["[PAD]"], ids["[CLS]"], ids["[SEP]"]

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pieces = [ids[piece] for word in split_words(text_of(value), lower=is_lower) for piece in split_word(word, ids)]
        size = _framed_length(fixed, context, len(pieces))
        return _framed(np.array(pieces[: size - 2], np.int64), size, what, special)

    return apply


def tokenize(*, tokenizer: str, length: Any = None, what: str = "ids", pad_id: Any = None) -> Apply:
    """A text, or a path of a text file -> int64 [length], by a tokenizer of the package tokenizers.

    Args:
        tokenizer: The content of a model's ``tokenizer.json``. What it says of padding and cutting is not heeded.
        length: As of `tokenize_bytes`; at least 1. A longer text is cut at its end and
            still gets what the tokenizer puts around it.
        what: As of `tokenize_bytes`.
        pad_id: What is filled up with; where it is not given, what the tokenizer pads with, else its token ``[PAD]`` or
            ``<pad>``, else 0.

    Raises:
        UnavailableError: The package tokenizers is not installed.
    """
    if not isinstance(tokenizer, str):
        raise ArtifactError("tokenizer must be the text of a tokenizer.json", hint='"data": {NAME: {"text": FILE}}')
    reader, own_pad = _reader(tokenizer)
    filler = own_pad if pad_id is None else integers("pad_id", pad_id, count=1, least=0)[0]
    fixed = None if length is None else integers("length", length, count=1, least=1)[0]
    what = one_of("what", what, _PARTS)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        encoded = reader.encode(text_of(value))
        size = _length(fixed, context, len(encoded.ids))
        if len(encoded.ids) > size:
            around = reader.num_special_tokens_to_add(False)
            if size <= around:
                raise InputError(f"{size} tokens leave no room for a text", hint=f"the tokenizer adds {around}")
            plain = reader.encode(text_of(value), add_special_tokens=False)
            plain.truncate(size - around)
            encoded = reader.post_process(plain)
        row = {"ids": encoded.ids, "mask": [1] * len(encoded.ids), "types": encoded.type_ids}[what]
        padded = np.full(size, filler if what == "ids" else 0, np.int64)
        padded[: len(row)] = row
        return padded

    return apply


@lru_cache(maxsize=4)
def _reader(text: str) -> tuple[Any, int]:
    """The tokenizer, and the id it pads with; shared by the steps of all inputs."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UnavailableError(
            "the model's texts are read by the package tokenizers", hint="pip install 'edgekit-ml[text]'"
        ) from None
    try:
        reader = Tokenizer.from_str(text)
    except Exception as error:  # whatever the package makes of a text that is none
        raise ArtifactError(f"tokenizer is not a tokenizer.json: {error}") from error
    padding = reader.padding or {}
    named = [found for name in ("[PAD]", "<pad>") if (found := reader.token_to_id(name)) is not None]
    pad_id = int(padding.get("pad_id", [*named, 0][0]))
    reader.no_padding()
    reader.no_truncation()
    return reader, pad_id


def _frame(length: Any, what: str) -> tuple[int | None, str]:
    size = None if length is None else integers("length", length, count=1)[0]
    if size is not None and size < 3:
        raise ArtifactError(f"length must be at least 3, not {length!r}", hint="begin, a token, end")
    return size, one_of("what", what, _PARTS)


def _length(fixed: int | None, context: StepContext, needed: int) -> int:
    """What is said, else what the input takes, else as many as there are."""
    if fixed is not None:
        return fixed
    own = context.spec.shape[-1] if context.spec is not None and context.spec.shape else None
    return own if isinstance(own, int) else needed


def _framed_length(fixed: int | None, context: StepContext, tokens: int) -> int:
    size = _length(fixed, context, tokens + 2)
    if size < 2:
        raise InputError(f"an input of {size} tokens has no room for a text's begin and end")
    return size


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
