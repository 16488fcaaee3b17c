"""Where weights come from: those that ship, a file, a hub, or a seed; and whether they are the network's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError
from edgekit.family import Family
from edgekit.hubs import fetch_weights, find_hub, is_hub
from edgekit.network import Network, starting_weights
from edgekit.weights import fit_weights, read_metadata, read_weights

__all__ = ["Weights", "find_weights", "labels_of", "start_from", "weights_sha256"]


@dataclass(frozen=True)
class Weights:
    """Weights for a network, and what is known of them.

    Attributes:
        arrays: By name.
        origin: Where they are from, in words.
        is_trained: Whether anybody trained them.
        anew: Those that were drawn from the seed because what was given did not fit.
        facts: What they say of themselves: data, metric, score.
        notes: What the user should know.
    """

    arrays: Mapping[str, np.ndarray]
    origin: str
    is_trained: bool
    anew: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def about(self) -> dict[str, Any]:
        """For the file they go into."""
        sha256 = weights_sha256(self.arrays)
        return {**self.facts, "origin": self.origin, "sha256": sha256, "is_trained": self.is_trained}


def weights_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of names, shapes and numbers, whatever file they are in."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], np.float32)
        digest.update(f"{name}\0{list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def find_weights(family: Family, size: str, network: Network, asked: str | Path | None, seed: int) -> Weights:
    """The weights asked for, whole.

    Args:
        family: Knows its own, and the hubs.
        size: Of the family.
        network: What they are for.
        asked: A file or a hub; None for those that ship, or, where none ship, untrained ones of `seed`.
        seed: Of untrained ones.

    Raises:
        ArtifactError: They are not the network's: some are missing or of another shape.
        UnavailableError: A hub cannot be reached.
    """
    if asked is None and size != "tiny":
        return untrained(network, seed)
    given, origin, facts = _read(family, size, asked)
    return Weights(_fitted(family, size, network, given), origin, True, facts=facts)


def start_from(family: Family, size: str, network: Network, asked: str | Path | None, seed: int) -> Weights:
    """What training starts from: as `find_weights`, but what does not fit is drawn anew from `seed` and named.

    Raises:
        ArtifactError: Nothing of it fits.
    """
    drawn = starting_weights(network, seed)
    if asked is None:
        return Weights(drawn, f"starting weights of seed {seed}", False)
    given, origin, facts = _read(family, size, None if asked == "tiny" else asked)
    if is_hub(str(asked)):
        given = _fitted(family, size, family.network(size), given)
    params = network.params
    kept = {name: given[name] for name in params if name in given and np.shape(given[name]) == params[name].shape}
    if not kept:
        raise ArtifactError(f"nothing of {origin} fits {family.name}:{size}", hint="give weights of the same size")
    anew = tuple(name for name in params if name not in kept)
    return Weights({**drawn, **kept}, origin, True, anew, facts)


def untrained(network: Network, seed: int) -> Weights:
    """Weights nobody trained, which is said aloud."""
    note = f"untrained: starting weights of seed {seed}; --weights FILE or HUB gives trained ones"
    return Weights(starting_weights(network, seed), f"starting weights of seed {seed}", False, notes=(note,))


def _read(
    family: Family, size: str, asked: str | Path | None
) -> tuple[Mapping[str, np.ndarray], str, Mapping[str, str]]:
    """Weights as they are found, where they are from, and what they say of themselves."""
    if asked is not None and is_hub(str(asked)):
        hub = find_hub(family, size, str(asked))
        return fetch_weights(hub), f"{hub.kind} {hub.name}", {"license": hub.license}
    path = family.tiny_weights if asked is None else Path(asked)
    given = read_weights(path)
    facts = read_metadata(path) if path.suffix == ".safetensors" else {}
    return given, f"edgekit's {path.stem}" if asked is None else path.name, facts if facts.get("edgekit") else {}


def labels_of(asked: str | Path | None) -> tuple[str, ...]:
    """The classes that weights of ours in a file were trained for; none where that is not said."""
    if asked is None or is_hub(str(asked)) or Path(asked).suffix != ".safetensors":
        return ()
    facts = read_metadata(asked)
    return tuple(map(str, json.loads(facts.get("labels", "[]")))) if facts.get("edgekit") else ()


def _fitted(family: Family, size: str, network: Network, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Under the network's names: as they are, else as a hub names them whose file somebody downloaded."""
    try:
        return fit_weights(given, network)
    except ArtifactError as error:
        adapters = [hub.adapt for hub in family.hubs if hub.size == size and hub.kind != "keras" and hub.adapt]
        for adapt in adapters:
            with suppress(ArtifactError, KeyError, IndexError, ValueError):  # not that hub's file: the next
                return fit_weights(adapt(given), network)
        raise ArtifactError(
            f"{error.message}", hint=f"give weights of {family.name}:{size}; `edgekit list models` shows the sizes"
        ) from error
