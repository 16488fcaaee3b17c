"""The verb `inspect`: what a bundle or a model file is, without running it on data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle
from edgekit.errors import ArtifactError
from edgekit.loading import is_bundle, load
from edgekit.named_files import file_of
from edgekit.spec import Signature

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True)
class Inspection:
    """What is known of a bundle or a model file.

    Attributes:
        kind: ``"bundle"``, or the format of a model file.
        variants: For a bundle: name, format, precision, size_bytes and facts of each, best first.
        provenance: Where it came from, and what was tried on the way.
        layers: What each layer is in every integer variant; see `edgekit.quantize.layers.layers_of`.
    """

    path: str
    kind: str
    name: str
    signature: Signature
    target: str = ""
    processing: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[Mapping[str, Any]] = ()

    def required_layers(self) -> Sequence[Mapping[str, Any]]:
        """What each layer is in every integer variant, see `edgekit.quantize.layers.layers_of`.

        Raises:
            ArtifactError: Nothing is written down of them.
        """
        if not self.layers:
            raise ArtifactError(
                f"{self.path} says nothing of its layers", hint="bundles converted to integers through the hub do"
            )
        return self.layers

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "signature": self.signature.to_json(), "variants": [dict(v) for v in self.variants]}


def inspect(path: str | Path) -> Inspection:
    """Reads a bundle's manifest, or opens a model file for its signature.

    Raises:
        ArtifactError: It is missing or damaged.
        UnavailableError: A model file, and no engine that opens it is installed.
    """
    path = file_of(path)
    if not is_bundle(path):
        with load(path) as session:
            return Inspection(str(path), f"{session.runtime} model file", path.stem, session.signature)
    bundle = Bundle.open(path)
    variants = tuple(
        {
            "name": artifact.name,
            "format": artifact.format,
            "precision": artifact.precision,
            "size_bytes": artifact.size_bytes,
            "files": [file.path for file in artifact.files],
            "engine_options": dict(artifact.engine_options),
            **artifact.facts,
        }
        for artifact in bundle.variants
    )
    return Inspection(
        str(path),
        "bundle",
        bundle.name,
        bundle.signature,
        bundle.target,
        bundle.processing,
        variants,
        {key: value for key, value in bundle.provenance.items() if key != "layers"},
        bundle.provenance.get("layers", ()),
    )
