"""A module that a function of the user's builds, given weights and exported, in the PyTorch child."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from edgekit.converters._torch_examples import axes_of, examples, fit_to_parameters, working_sizes
from edgekit.converters._torch_export import evaluating, save_program
from edgekit.errors import ConversionError, InputError, UnsupportedError
from edgekit.spec import TensorSpec
from edgekit.weights import fit_weights, read_weights

__all__ = ["save_built"]


def save_built(source: str, function: str, weights: str, shapes: Sequence[Mapping[str, Any]], path: str) -> None:
    """Builds a module by a function, or class, of a Python file and writes it as an exported program.

    Args:
        source: The Python file; modules beside it can be imported by it.
        function: The name in it, called without arguments.
        weights: A file `read_weights` reads, or empty to keep what the function gave the module.
        shapes: Of the inputs, as `TensorSpec.to_json` gives them.
        path: The .pt2 file to write.

    Raises:
        InputError: There is no such function, it wants arguments, or the inputs are not those of the module.
        UnsupportedError: What it gives is no module, or the module gives something else than tensors.
        ArtifactError: The weights are not those of the module; all that is missing or different is listed.
        ConversionError: The module fails on inputs of these shapes, or cannot be exported.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)  # without weights it has those of its function's making, and the same each time
    module = _built(Path(source), function)
    if weights:
        _load_weights(module, Path(weights))
    names = list(inspect.signature(module.forward).parameters)
    specs = fit_to_parameters([TensorSpec.from_json(shape) for shape in shapes], names)
    if specs is None:
        raise InputError(f"{function} takes {', '.join(names)}", hint="--input-shape NAME=batch,3,224,224 for each")
    with evaluating(module), torch.no_grad():
        named = {spec.name: spec for spec in specs}

        def arguments(sizes: Mapping[str, int]) -> dict[str, Any]:
            return dict(zip(named, examples(specs, sizes), strict=True))

        sizes = working_sizes(specs, lambda tensors: module(**dict(zip(named, tensors, strict=True))))
        axes = [axes_of(spec) for spec in specs]
        dynamic = {name: dict.fromkeys(own, torch.export.Dim.DYNAMIC) for name, own in zip(named, axes, strict=True)}
        try:
            save_program(module, (), arguments(sizes), dynamic if sizes else None, axes, Path(path))
        except ConversionError as error:
            error.hint = error.hint or ("do numbers in place of words help in --input-shape?" if sizes else "")
            raise


def _built(source: Path, function: str) -> Any:
    import torch

    found = getattr(_imported(source), function, None)
    if not callable(found):
        raise InputError(f"{source.name} has no function or class {function!r}", hint="FILE.py:NAME")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise InputError(
            f"{source.name}:{function} cannot be called without arguments: {error}",
            hint="name a function that takes none and gives the module",
        ) from error
    module = found()
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            f"{source.name}:{function} gives a {type(module).__name__}", hint="it must give a torch.nn.Module"
        )
    return module.cpu()


def _imported(source: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(source.stem, source)
    if spec is None or spec.loader is None:
        raise InputError(f"{source} is no Python file", hint="FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    sys.path.insert(0, str(source.parent))
    spec.loader.exec_module(module)
    return module


def _load_weights(module: Any, path: Path) -> None:
    """Fills the module by name. Of weights that share their numbers one is enough, and counters may be missing."""
    import torch

    given = read_weights(path)
    state = module.state_dict(keep_vars=True)
    shared: dict[int, list[str]] = {}
    for name, tensor in state.items():
        shared.setdefault(id(tensor), []).append(name)
    wanted: list[str] = []
    for names in shared.values():
        present = [name for name in names if any(key == name or key.endswith(f".{name}") for key in given)]
        wanted += present or [name for name in names[:1] if state[name].is_floating_point()]
    like: Any = SimpleNamespace(name=type(module).__name__, params={name: state[name] for name in wanted})
    for name, array in fit_weights(given, like).items():
        with torch.no_grad():
            state[name].copy_(torch.from_numpy(np.asarray(array)))
