"""Files that hold a picture or a sound -> what is in them. The bytes are hostile until they are read."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import InputError, UnavailableError

__all__ = ["Audio", "Encoded", "open_picture", "read_wav"]

Encoded: TypeAlias = str | Path | bytes | bytearray | memoryview
"""A path, or the content of a file."""

_DEEP_MODES = ("I", "F")

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN_LENGTH = (0, 0xFFFFFFFF)
"""What a writer that streams leaves in the length of the data chunk."""


@dataclass(frozen=True)
class Audio:
    """Sound with the rate it was taken at.

    Attributes:
        samples: float32 [samples, channels], full scale is -1..1.
        rate_hz: Samples per second.
    """

    samples: np.ndarray
    rate_hz: int


def open_picture(source: Any) -> Any:
    """The Pillow image in `source`, upright and with its pixels read; `source` may be one already.

    Raises InputError when it cannot be decoded, UnavailableError without Pillow.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UnavailableError(
            "reading image files needs Pillow", hint="pip install 'edgekit-ml[image]', or pass arrays"
        ) from None
    name = _name(source, "the image")
    try:
        if isinstance(source, str | Path):
            source = Path(source).read_bytes()  # whole, so that no file stays open when decoding fails
        opened = source if isinstance(source, Image.Image) else Image.open(io.BytesIO(source))
        upright = ImageOps.exif_transpose(opened)
        upright.load()
    except FileNotFoundError:
        raise InputError(f"there is no file {name}") from None
    except Exception as error:  # decoders raise whatever a broken file makes them trip over
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} cannot be read as an image: {said}", hint="is it whole, and an image?") from error
    if upright.mode.startswith(_DEEP_MODES):
        raise InputError(
            f"{name} has pixels of mode {upright.mode}, not of 8 bits",
            hint="scale them to 0..255 yourself and pass an array",
        )
    return upright


def read_wav(source: Encoded) -> Audio:
    """The sound in a RIFF/WAVE file of 8, 16, 24 or 32 bit integers or 32 or 64 bit floats.

    Raises InputError for anything else, and for a file that ends before its data does.
    """
    name = _name(source, "the sound")
    try:
        content = Path(source).read_bytes() if isinstance(source, str | Path) else bytes(source)
        chunks = _riff_chunks(content)
        header, data = chunks[b"fmt "], chunks[b"data"]
        code, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", header)
        if code == _EXTENSIBLE:
            (code,) = struct.unpack_from("<H", header, 24)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", hint="is the path right?") from error
    except (KeyError, ValueError, struct.error) as error:
        said = f"it has no chunk {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{name} cannot be read as a .wav file: {said}", hint="is it whole, and RIFF/WAVE?") from error
    if not (channels and rate_hz) or (code, bits) not in _DECODERS:
        raise InputError(
            f"{name} holds sound of format {code}, {channels} channels of {bits} bits at {rate_hz} Hz",
            hint="save it as 16-bit PCM",
        )
    frames = len(data) // (channels * bits // 8)
    values = _DECODERS[code, bits](np.frombuffer(data, np.uint8, frames * channels * bits // 8))
    return Audio(values.reshape(frames, channels), rate_hz)


def _riff_chunks(content: bytes) -> dict[bytes, bytes]:
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("it does not begin as one")
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(content) and b"data" not in chunks:
        tag, size = struct.unpack_from("<4sI", content, at)
        if tag == b"data" and size in _UNKNOWN_LENGTH:
            size = len(content) - at - 8
        if at + 8 + size > len(content):
            raise ValueError(f"it ends {at + 8 + size - len(content)} bytes early")
        chunks[tag] = content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return chunks


def _signed_24(data: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = data.reshape(-1, 3)
    return (wide.reshape(-1).view("<i4") / float(1 << 31)).astype(np.float32)


_DECODERS: Mapping[tuple[int, int], Callable[[np.ndarray], np.ndarray]] = {
    (_PCM, 8): lambda data: (data.astype(np.float32) - 128) / 128,
    (_PCM, 16): lambda data: data.view("<i2") / np.float32(1 << 15),
    (_PCM, 24): _signed_24,
    (_PCM, 32): lambda data: (data.view("<i4") / float(1 << 31)).astype(np.float32),
    (_FLOAT, 32): lambda data: data.view("<f4").astype(np.float32),
    (_FLOAT, 64): lambda data: data.view("<f8").astype(np.float32),
}


def _name(source: Any, otherwise: str) -> str:
    return str(source) if isinstance(source, str | Path) else otherwise
