"""Writing a bundle: whole, or not at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from edgekit.bundle import Bundle
from edgekit.bundle.archive import starts_with_member, write_zip
from edgekit.bundle.generation import add_friendly_names, content_name, is_ours, replace_generation
from edgekit.bundle.golden import Golden
from edgekit.bundle.manifest import MANIFEST, Artifact, Manifest, StoredFile, stored_file
from edgekit.bundle.plain import plain_json
from edgekit.errors import ArtifactError, InputError
from edgekit.spec import Signature
from edgekit.staging import (
    Stage,
    already_there,
    locked,
    publish,
    real_path,
    require_replaceable,
    require_space,
    sync_file,
    sync_folder,
    writing,
)

__all__ = ["BundleWriter"]


class BundleWriter:
    """Writes a bundle in one step at the end of a ``with`` block, or nothing. Used once.

    Args:
        path: ``NAME.edge`` for a folder, ``NAME.edge.zip`` for one file.
        force: Replace a bundle that is there. What is no bundle is never replaced.
        needs_bytes: An estimate of what all files together take, to be told early that the disk has no space.

    Attributes:
        stage: Within the block, a folder to work in, on the file system of `path`.
        path: Absolute, links resolved.

    Raises:
        InputError: `path` has another ending, or something is there that may not be replaced.
        ArtifactError: The operating system does not let us write there, or there is no space.
    """

    stage: Path

    def __init__(self, path: Path, *, force: bool = False, needs_bytes: int = 0) -> None:
        self.path = real_path(path)
        self.is_zip = self.path.name.endswith(".edge.zip")
        if not self.is_zip and self.path.suffix != ".edge":
            raise InputError(f"{path} is no name for a bundle", hint="end it in .edge or .edge.zip")
        self._force = force
        self._require_replaceable()
        require_space(self.path, needs_bytes)
        self._stage = Stage(self.path)
        self._variants: list[Artifact] = []

    def __enter__(self) -> BundleWriter:
        self._stage.__enter__()
        self.stage = self._stage.work / "work"
        self._out = self._stage.work / "bundle"
        try:
            with writing(self.path):
                self.stage.mkdir()
                self._out.mkdir()
        except BaseException:
            self._stage.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stage.__exit__(kind, value, trace)

    def add(
        self,
        *,
        name: str,
        format: str,
        precision: str,
        files: Sequence[Path],
        input_names: Mapping[str, str] | None = None,
        output_names: Mapping[str, str] | None = None,
        engine_options: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Takes a variant into the bundle: its files under names made of their content.

        Args:
            files: The one an engine opens first; others must share its stem, as an engine finds them by it. Files of
                the stage are moved, others copied.

        Returns:
            The variant, its path valid until the block ends; `commit` gives those that stay.
        """
        if len({file.stem for file in files}) != 1 or len({file.suffix for file in files}) != len(files):
            raise ArtifactError(f"{name}: files of one variant share a stem and differ in suffix, not {files}")
        with writing(self.path):
            stored = self._take(files)
        artifact = Artifact(
            name=name,
            format=format,
            precision=precision,
            path=self._out / stored[0].path,
            files=tuple(stored),
            input_names=input_names or {},
            output_names=output_names or {},
            engine_options=plain_json(engine_options or {}, f"{name}.engine_options"),
            facts=plain_json(facts or {}, f"{name}.facts"),
        )
        self._variants.append(artifact)
        return artifact

    def _take(self, files: Sequence[Path]) -> list[StoredFile]:
        records = [stored_file(file) for file in files]
        digest = records[0].sha256
        if len(records) > 1:
            digest = hashlib.sha256("".join(record.sha256 for record in records).encode()).hexdigest()
        stored: list[StoredFile] = []
        for file, record in zip(files, records, strict=True):
            kept = replace(record, path=content_name(file, digest), role="weights" if stored else "model")
            if real_path(file).is_relative_to(real_path(self.stage)):
                file.replace(self._out / kept.path)
            else:
                shutil.copyfile(file, self._out / kept.path)
            stored.append(kept)
        return stored

    def commit(
        self,
        *,
        name: str,
        signature: Signature,
        processing: Mapping[str, Any],
        target: str,
        golden: Golden,
        statistics: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> Bundle:
        """Puts the bundle in place, whole. Before this nothing is seen of it, and what was there is untouched.

        Raises:
            ArtifactError: What was given fits in no manifest, or the operating system refused.
            InputError: Something has come to be at the path meanwhile.
        """
        with writing(self.path):
            manifest = Manifest(
                name=name,
                target=target,
                signature=signature,
                processing=processing,
                variants=tuple(self._variants),
                golden=self._store_golden(golden, signature),
                statistics=statistics,
                provenance=provenance,
            )
            (self._out / MANIFEST).write_bytes(manifest.encode())
            if self.is_zip:
                self._commit_zip(manifest)
            else:
                self._commit_folder(manifest)
        return Bundle.open(self.path)

    def _store_golden(self, golden: Golden, signature: Signature) -> StoredFile:
        samples = self._stage.work / "golden.npz"
        golden.encode(samples, signature)
        record = stored_file(samples, role="golden")
        kept = replace(record, path=content_name(samples, record.sha256))
        samples.replace(self._out / kept.path)
        return kept

    def _commit_zip(self, manifest: Manifest) -> None:
        names = [MANIFEST, *(file.path for file in manifest.files)]
        write_zip(self._stage.work / self.path.name, [(name, self._out / name) for name in names])
        self._require_replaceable()
        publish(self._stage.work / self.path.name, self.path, force=self._force)

    def _commit_folder(self, manifest: Manifest) -> None:
        for file in sorted(self._out.iterdir()):
            sync_file(file)
        add_friendly_names(self._out, manifest.variants)
        sync_folder(self._out)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._out.rename(self.path)
        except OSError:
            if not self.path.is_dir():
                raise
            with locked(self.path):
                self._require_replaceable()
                replace_generation(self._out, self.path)
        sync_folder(self.path.parent)

    def _require_replaceable(self) -> None:
        if self.is_zip:
            if self.path.is_file() and self.path.stat().st_size and not starts_with_member(self.path, MANIFEST):
                raise InputError(f"{self.path} is no bundle and will not be replaced", hint="give another name")
            require_replaceable(self.path, force=self._force)
        elif self.path.is_dir():
            names = {entry.name for entry in self.path.iterdir()}
            if MANIFEST in names and not self._force:
                raise already_there(self.path)
            if MANIFEST not in names and not all(map(is_ours, names)):
                raise InputError(f"{self.path} is no bundle and will not be replaced", hint="give another name")
        elif self.path.exists():
            raise InputError(f"{self.path} is not a folder", hint="give another name")
