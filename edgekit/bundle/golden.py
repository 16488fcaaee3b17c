"""Golden samples: a few inputs and what the source model answered, by which a device shows that it computes right."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.errors import ArtifactError
from edgekit.record import Record
from edgekit.spec import Signature, TensorSpec

__all__ = ["MAX_GOLDEN_BYTES", "Golden"]

MAX_GOLDEN_BYTES = 256 << 20
_KINDS = "biuf"


class Golden(Record, eq=False):
    """Inputs and the source's answers, by names of the signature. What each variant may differ by is in its facts.

    Attributes:
        feeds: For each sample an array for every input.
        outputs: For each sample an array for every output.
    """

    feeds: tuple[dict[str, np.ndarray], ...]
    outputs: tuple[dict[str, np.ndarray], ...]

    def encode(self, path: Path, signature: Signature) -> None:
        """Writes an .npz file: the same bytes for the same arrays."""
        from edgekit.bundle.archive import write_zip

        if len(self.feeds) != len(self.outputs):
            raise ArtifactError(f"{len(self.feeds)} golden feeds but {len(self.outputs)} answers")
        members = [
            (_member(kind, sample, index), _npy(array))
            for kind, specs, samples in _kinds(self, signature)
            for sample, arrays in enumerate(samples)
            for index, array in enumerate(_ordered(arrays, specs, f"golden {kind} {sample}"))
        ]
        write_zip(path, members)
        if (size_bytes := path.stat().st_size) > MAX_GOLDEN_BYTES:
            raise ArtifactError(f"{size_bytes} bytes of golden samples, more than a bundle may hold", hint="use fewer")

    @classmethod
    def decode(cls, raw: bytes, signature: Signature) -> Golden:
        """Reads what `encode` wrote. Raises ArtifactError when it is something else; runs no code of the file."""
        from edgekit.bundle.archive import Archive

        archive = Archive(io.BytesIO(raw), "the bundle's golden samples", max_bytes=MAX_GOLDEN_BYTES)
        per_sample = len(signature.inputs) + len(signature.outputs)
        count, rest = divmod(len(archive.sizes_bytes), max(1, per_sample))
        if rest:
            raise ArtifactError("the bundle's golden samples are not those of its signature")

        def sample(kind: str, specs: Sequence[TensorSpec], number: int) -> dict[str, np.ndarray]:
            members = [_member(kind, number, index) for index in range(len(specs))]
            return {
                spec.name: _array(archive.read(member, MAX_GOLDEN_BYTES), member)
                for spec, member in zip(specs, members, strict=True)
            }

        return cls(
            tuple(sample("input", signature.inputs, i) for i in range(count)),
            tuple(sample("output", signature.outputs, i) for i in range(count)),
        )


def _kinds(
    golden: Golden, signature: Signature
) -> tuple[tuple[str, Sequence[TensorSpec], Sequence[Mapping[str, np.ndarray]]], ...]:
    return ("input", signature.inputs, golden.feeds), ("output", signature.outputs, golden.outputs)


def _member(kind: str, sample: int, index: int) -> str:
    """By position in the signature, as names of tensors may hold what names of files must not."""
    return f"{kind}-{sample:03d}-{index:02d}.npy"


def _ordered(arrays: Mapping[str, np.ndarray], specs: Sequence[TensorSpec], where: str) -> list[np.ndarray]:
    names = [spec.name for spec in specs]
    if sorted(arrays) != sorted(names):
        raise ArtifactError(f"{where} has {sorted(arrays)}, the signature {sorted(names)}")
    return [np.asarray(arrays[name]) for name in names]


def _npy(array: np.ndarray) -> bytes:
    if array.dtype.kind not in _KINDS:
        raise ArtifactError(f"golden samples hold numbers only, not {array.dtype}")
    sink = io.BytesIO()
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    np.lib.format.write_array(sink, little, version=(1, 0), allow_pickle=False)
    return sink.getvalue()


def _array(raw: bytes, member: str) -> np.ndarray:
    source = io.BytesIO(raw)
    try:
        if np.lib.format.read_magic(source) != (1, 0):
            raise ValueError("unknown version")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(source)
        # The header may claim any size; numpy would allocate it before it found the data missing.
        if is_fortran or dtype.kind not in _KINDS or len(raw) - source.tell() != dtype.itemsize * _count(shape):
            raise ValueError("its data do not match its header")
        flat = np.frombuffer(raw, dtype, offset=source.tell())
        return flat.reshape(shape).astype(dtype.newbyteorder("="))
    except (ValueError, TypeError, SyntaxError, EOFError) as error:
        raise ArtifactError(f"the bundle's golden sample {member} is not valid: {error}") from error


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        if size < 0:
            raise ValueError("negative shape")
        count *= size
    return count
