"""What `edgekit predict` is given: files, folders of them, texts and stdin, as values a session takes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError, InputError

if TYPE_CHECKING:
    from edgekit.runtime import Session

__all__ = ["Given", "answer_one", "gather"]

_STDIN = "-"
_ARRAYS = (b"\x93NUMPY", b"PK\x03\x04")
"""How .npy and .npz files begin."""


@dataclass(frozen=True)
class Given:
    """One input.

    Attributes:
        name: As people call it: the path, the text itself, or ``-``.
        stem: What files of its answer are called, without a suffix.
        content: A path, a text, or the bytes of stdin.
    """

    name: str
    stem: str
    content: Path | str | bytes

    @property
    def is_tensors(self) -> bool:
        """Whether it is a .npy or .npz file, or the bytes of one."""
        if isinstance(self.content, Path):
            return self.content.suffix in (".npy", ".npz")
        return isinstance(self.content, bytes) and self.content.startswith(_ARRAYS)


def gather(words: Sequence[str], *, is_text: bool) -> list[Given]:
    """The inputs that `words` stand for, in their order; each has a stem of its own.

    Args:
        words: Paths of files, or of folders, which stand for every file in them by name; ``-``; and with `is_text`,
            what is no path is a text.
        is_text: Whether the model reads texts.

    Raises:
        InputError: A folder has no files.
    """
    found: list[Given] = []
    taken: set[str] = set()
    for name, content in _contents(words, is_text):
        plain = content.stem if isinstance(content, Path) else "stdin" if isinstance(content, bytes) else "text"
        stem = next(stem for stem in _numbered(plain or "input") if stem not in taken)
        taken.add(stem)
        found.append(Given(name, stem, content))
    return found


def _numbered(plain: str) -> Iterator[str]:
    yield plain
    number = 2
    while True:
        yield f"{plain}-{number}"
        number += 1


def _contents(words: Sequence[str], is_text: bool) -> Iterator[tuple[str, Path | str | bytes]]:
    for word in words:
        path = Path(word)
        if word == _STDIN:
            yield word, sys.stdin.buffer.read()
        elif word and _is_folder(path):  # no word at all would be the folder one is in
            files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
            if not files:
                raise InputError(f"the folder {word} holds no files", hint="files in folders within it are not read")
            yield from ((str(file), file) for file in files)
        elif is_text and not (word and _is_file(path)):
            yield word, word
        else:
            yield word, path


def _is_folder(path: Path) -> bool:
    try:
        return path.suffix not in (".npy", ".npz") and path.is_dir()
    except OSError:  # a text that is longer than a name may be
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def answer_one(session: Session, given: Given) -> Any:
    """What the session makes of one input. Raises EdgekitError that names the input."""
    try:
        return session.predict(_value(session, given))
    except EdgekitError as error:
        name = given.content.name if isinstance(given.content, Path) else given.name[:60]
        if name not in error.message:
            error.message = f"{given.name[:60]}: {error.message}"
        raise


def _value(session: Session, given: Given) -> Any:
    content = given.content
    if given.is_tensors and not isinstance(content, str):
        return _tensors(session, io.BytesIO(content) if isinstance(content, bytes) else content)
    if session.processing is None:
        raise InputError("a model file alone does not say how to read this", hint="give a .npy or .npz file")
    if isinstance(content, bytes) and session.processing.kind == "text":
        try:
            return content.decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"stdin is no text: {error}", hint="encode it as UTF-8") from error
    return content


def _tensors(session: Session, source: Path | io.BytesIO) -> Mapping[str, Any]:
    import numpy as np

    try:
        with source.open("rb") if isinstance(source, Path) else source as file:
            # Never pickled objects: reading those runs code of whoever wrote the file.
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {session.signature.inputs[0].name: loaded}
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise InputError(f"there is no file {source}", hint="check the path") from None
    except Exception as error:  # whatever numpy and zipfile make of a file that is none
        said = source if isinstance(source, Path) else "stdin"
        raise InputError(
            f"{said} cannot be read as tensors: {error}", hint="np.save or np.savez writes them"
        ) from error
