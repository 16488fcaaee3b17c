"""The bundle: one folder or zip file with all a device needs to run a model, whole and verified, or not at all.

    NAME.edge/
      edgekit.json             the manifest: what it is, and the hash of every other file. Replaced last, by a rename.
      model-1f0c….tflite       files under names made of their content, so that two generations never share one
      golden-8be2….npz         a few inputs and the source's answers to them
      model-w8a8.tflite        plain names for people and other programs: links, no part of what is verified

The manifest *is* the bundle: whatever else lies in the folder does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Artifact,
    Manifest,
    StoredFile,
    read_regular,
    stored_file,
)
from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.hashing import sha256_hex
from edgekit.record import Record
from edgekit.spec import Signature

if TYPE_CHECKING:
    from edgekit.bundle.golden import Golden as Golden
    from edgekit.bundle.writing import BundleWriter as BundleWriter

__all__ = ["Artifact", "Bundle", "BundleWriter", "Golden", "StoredFile"]

_LATER = {"BundleWriter": "edgekit.bundle.writing", "Golden": "edgekit.bundle.golden"}
"""What most loads do without."""

_REPLACED = "get the bundle again, or convert the source model again"


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Bundle(Record):
    """An opened bundle: its manifest, read and checked. The files are checked by `verify`.

    Attributes:
        root: The folder the files are in; of a zipped bundle a private copy.
        processing: As written; `edgekit.processing` reads it.
        target: Name of the target it was made for.
        variants: Best first.
        provenance: Source, tools, calibration, seed.
        statistics: Of inputs and outputs when it was made, for judging drift.
        sha256: Of the manifest, which has the hash of every file: the identity of the whole bundle.
    """

    root: Path
    name: str
    signature: Signature
    processing: Mapping[str, Any]
    target: str
    variants: tuple[Artifact, ...]
    provenance: Mapping[str, Any]
    statistics: Mapping[str, Any]
    sha256: str
    golden_file: StoredFile

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Reads ``NAME.edge``, or ``NAME.edge.zip`` by way of a private cache.

        Raises:
            ArtifactError: There is none, it is unfinished, its manifest is not valid, or a file of it is missing,
                truncated or no regular file.
        """
        path = Path(path)
        try:
            if not path.exists():
                raise ArtifactError(f"{path} does not exist", hint="edgekit convert makes one")
            if path.is_dir():
                return cls._open_folder(path.absolute())
            # Not at the top, as all else that opening a folder does without: a device waits for it at every start.
            from edgekit.bundle.unpacking import unpacked

            return cls._open_folder(unpacked(path))
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}", hint=_REPLACED) from error

    @classmethod
    def _open_folder(cls, root: Path) -> Bundle:
        while True:
            bundle = cls._read(root)
            problems = [(file.path, problem) for file in bundle._files() if (problem := file.problem(root))]
            if not problems:
                return bundle
            # A writer may have put a new generation in place since the manifest was read: then that one is read.
            if bundle.is_current():
                raise bundle._damage(problems)

    @classmethod
    def _read(cls, root: Path) -> Bundle:
        if not (root / MANIFEST).exists():
            from edgekit.bundle.generation import is_ours

            unfinished = all(is_ours(entry.name) for entry in root.iterdir())
            said = "an unfinished bundle" if unfinished else "not a bundle"
            raise ArtifactError(f"{root} is {said}: it has no {MANIFEST}", hint="edgekit convert makes one")
        raw = read_regular(root / MANIFEST, MAX_MANIFEST_BYTES)
        manifest = Manifest.decode(raw, root)
        return cls(
            root=root,
            name=manifest.name,
            signature=manifest.signature,
            processing=manifest.processing,
            target=manifest.target,
            variants=manifest.variants,
            provenance=manifest.provenance,
            statistics=manifest.statistics,
            sha256=sha256_hex(raw),
            golden_file=manifest.golden,
        )

    def is_current(self) -> bool:
        """Whether the folder still holds the generation this was read from; if not, open it again."""
        if not (self.root / MANIFEST).exists():
            return False
        raw = read_regular(self.root / MANIFEST, MAX_MANIFEST_BYTES)
        return sha256_hex(raw) == self.sha256

    def _files(self) -> tuple[StoredFile, ...]:
        unique = {file.path: file for variant in self.variants for file in variant.files}
        return (*unique.values(), self.golden_file)

    def _damage(self, problems: Sequence[tuple[str, str]]) -> ArtifactError:
        said = "; ".join(f"{name}: {problem}" for name, problem in problems)
        return ArtifactError(f"the bundle {self.root} is damaged: {said}", hint=_REPLACED)

    def verify(self, variant: Artifact | None = None) -> None:
        """Checks size and SHA-256 of every file, or of one variant's.

        Raises:
            ArtifactError: Names every file that is not as the manifest says.
        """
        problems = []
        for file in self._files() if variant is None else variant.files:
            problem = file.problem(self.root)
            if not problem and stored_file(self.root / file.path).sha256 != file.sha256:
                problem = "its content is not what was written (SHA-256 differs)"
            if problem:
                problems.append((file.path, problem))
        if problems:
            if not self.is_current():
                raise ArtifactError(
                    f"the bundle {self.root} was replaced or removed while it was read", hint="open it again"
                )
            raise self._damage(problems)

    def variant(self, name: str) -> Artifact:
        """The variant called `name`. Raises UnsupportedError listing those there are."""
        for artifact in self.variants:
            if artifact.name == name:
                return artifact
        known = ", ".join(artifact.name for artifact in self.variants)
        raise UnsupportedError(f"the bundle {self.name!r} has no variant {name!r}", hint=f"it has: {known}")

    def golden(self) -> Golden:
        """The golden samples, their hash checked. Raises ArtifactError when they are damaged."""
        import hashlib

        from edgekit.bundle.golden import MAX_GOLDEN_BYTES, Golden

        raw = read_regular(self.root / self.golden_file.path, MAX_GOLDEN_BYTES)
        if hashlib.sha256(raw).hexdigest() != self.golden_file.sha256:
            raise self._damage([(self.golden_file.path, "its content is not what was written (SHA-256 differs)")])
        return Golden.decode(raw, self.signature)
