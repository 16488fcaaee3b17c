"""A PyTorch module made into an exported program in a file, in whatever process the module lives in."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, InputError, UnsupportedError
from edgekit.spec import DTYPES

__all__ = ["SIZES_FILE", "evaluating", "first_line", "save_module", "save_program"]

SIZES_FILE = "edgekit-sizes.json"
"""Member of the archive: for each tensor it takes, the names of its open sizes by axis, which PyTorch forgets."""

_TOLERANCE = 1e-4
"""Largest difference of a program to its module, as a share of the answer's range."""


def save_module(module: Any, path: Path, example_inputs: Any, dynamic_shapes: Any) -> list[str]:
    """Exports a module, which stays as it is, in evaluation mode, and gives what the user should know of it.

    Args:
        module: A ``torch.nn.Module`` on the CPU, or an ``ExportedProgram``, which is written as it is.
        path: The .pt2 file to write.
        example_inputs: A tuple of what it is called with, or a dict of it by name.
        dynamic_shapes: As ``torch.export.export`` takes them; None to keep all sizes but the batch, which is opened
            where PyTorch can.

    Raises:
        InputError: No example inputs, or the module is not on the CPU.
        UnsupportedError: It is TorchScript, or gives something else than tensors.
        ConversionError: It cannot be exported, or the exported program answers otherwise.
    """
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        torch.export.save(module, path)
        return []
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError("a TorchScript module in memory", hint="module.save('model.pt'), and convert that")
    if example_inputs is None:
        raise InputError(
            f"nobody says what {type(module).__name__} is called with",
            hint="convert(module, output, example_inputs=(tensor, ...))",
        )
    if away := sorted({str(tensor.device) for tensor in module.state_dict().values() if tensor.device.type != "cpu"}):
        raise InputError(f"the module is on {', '.join(away)}", hint="give it on the CPU: module.cpu()")
    args, kwargs = _arguments(example_inputs)
    with evaluating(module), torch.no_grad():
        if dynamic_shapes is not None:
            sizes = _declared_sizes(module, args, kwargs, dynamic_shapes)
            save_program(module, args, kwargs, dynamic_shapes, sizes, path)
            return []
        return _save_with_open_batch(module, args, kwargs, path)


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple | list):
        return tuple(example_inputs), {}
    return (example_inputs,), {}


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """The module in evaluation mode, and each part of it as it was afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _save_with_open_batch(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: Path) -> list[str]:
    """With the first size of all inputs open; as the examples have it, and a note, where that cannot be."""
    import torch
    from torch.utils import _pytree as pytree

    def is_tensor(leaf: Any) -> bool:
        return isinstance(leaf, torch.Tensor)

    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if is_tensor(leaf)]
    if len({leaf.shape[:1] for leaf in tensors}) != 1 or not tensors[0].shape:
        save_program(module, args, kwargs, None, [], path)
        return ["all sizes are those of the example inputs, which have no first size in common"]
    # PyTorch takes a size of 1 for one that can never change.
    doubled = pytree.tree_map(
        lambda leaf: torch.cat([leaf, leaf]) if is_tensor(leaf) and leaf.shape[0] == 1 else leaf, (args, kwargs)
    )
    open_batch = pytree.tree_map(
        lambda leaf: {0: torch.export.Dim.DYNAMIC} if is_tensor(leaf) else None, _bound(module, args, kwargs)
    )
    try:
        save_program(module, doubled[0], doubled[1], open_batch, [{0: "batch"} for _ in tensors], path)
    except ConversionError as error:
        save_program(module, args, kwargs, None, [], path)
        return [f"the batch is fixed at {tensors[0].shape[0]}: {error.message[:300]}"]
    return []


def _bound(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names of the parameters of the module's ``forward``."""
    try:
        return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise InputError(
            f"{type(module).__name__} cannot be called so: {error}",
            hint=f"its forward is {inspect.signature(module.forward)}",
        ) from error


def _declared_sizes(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> list[dict[int, str]]:
    """The names in ``torch.export.Dim("name")``; none where inputs are nested."""
    import torch

    bound = _bound(module, args, kwargs)
    declared = dict(zip(bound, shapes, strict=False)) if isinstance(shapes, tuple | list) else dict(shapes)
    tensors = [name for name, value in bound.items() if isinstance(value, torch.Tensor)]
    sizes: list[dict[int, str]] = []
    for axes in map(declared.get, tensors):
        entries = axes.items() if isinstance(axes, Mapping) else enumerate(axes or ())
        named = {axis: getattr(dim, "__name__", "") for axis, dim in entries}
        sizes.append({axis: name for axis, name in named.items() if name.isidentifier()})
    return sizes


def save_program(
    module: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    dynamic_shapes: Any,
    sizes: Sequence[Mapping[int, str]],
    path: Path,
) -> None:
    """Exports a module in evaluation mode and writes the program once it gives the module's own answer.

    Args:
        sizes: What `SIZES_FILE` is to say.

    Raises:
        UnsupportedError: The module gives something else than tensors.
        ConversionError: It fails on its example inputs, cannot be exported, or the program answers otherwise.
    """
    import torch
    from torch.utils import _pytree as pytree

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        # A module may write into what it is given, and exporting leaves marks on it.
        given = (tuple(args), dict(kwargs))
        return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, given)

    try:
        given = fresh()
        expected = module(*given[0], **given[1])
    except Exception as error:
        raise ConversionError(
            f"{type(error).__name__}: {first_line(error)}",
            step="calling the module with its example inputs",
            vendor_message=str(error),
        ) from error
    plain = _plain(expected)
    whole = module if plain is expected else _giving_plain(module)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's own layers, about how they keep their weights
            program = torch.export.export(whole, *fresh(), dynamic_shapes=dynamic_shapes, strict=False)
            given = fresh()
            got = program.module()(*given[0], **given[1])
    except Exception as error:
        raise ConversionError(
            f"{type(error).__name__}: {first_line(error)}", step="torch.export", vendor_message=str(error)
        ) from error
    _check(plain, got)
    torch.export.save(program, path, extra_files={SIZES_FILE: json.dumps([dict(own) for own in sizes])})


def _plain(answer: Any) -> Any:
    """The answer itself where it is of tensors, tuples, lists and dicts; else the same in these.

    What a library makes of its answers, such as a class with attributes, is not known in another process.
    """
    import torch

    kind = type(answer)
    if answer is None or isinstance(answer, torch.Tensor):
        return answer
    if kind in (tuple, list, dict):
        entries = list(answer.values() if kind is dict else answer)
        plain = [_plain(entry) for entry in entries]
        if all(new is old for new, old in zip(plain, entries, strict=True)):
            return answer
        return dict(zip(answer, plain, strict=True)) if kind is dict else kind(plain)
    if hasattr(answer, "_asdict"):
        return _plain(answer._asdict())
    if isinstance(answer, Mapping):
        return {str(name): _plain(value) for name, value in answer.items() if value is not None}
    if dataclasses.is_dataclass(answer):
        fields = ((field.name, getattr(answer, field.name)) for field in dataclasses.fields(answer))
        return {name: _plain(value) for name, value in fields if value is not None}
    raise UnsupportedError(
        f"the module gives a {kind.__name__}", hint="wrap it in a module that gives tensors, in tuples or dicts"
    )


def _giving_plain(module: Any) -> Any:
    """A module that takes what `module` takes, by the same names, and gives its answer made plain."""
    import torch

    class Plain(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return _plain(self.module(*args, **kwargs))

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    taken = [p.replace(kind=p.kind) for p in inspect.signature(module.forward).parameters.values()]
    Plain.forward.__signature__ = inspect.Signature([own, *taken])  # type: ignore[attr-defined]
    return Plain().eval()


def _check(expected: Any, got: Any) -> None:
    import torch
    from torch.utils import _pytree as pytree

    pairs = zip(pytree.tree_leaves(expected), pytree.tree_leaves(got), strict=True)
    for want, have in ((w, h) for w, h in pairs if isinstance(w, torch.Tensor)):
        if str(want.dtype).removeprefix("torch.") not in DTYPES:
            raise UnsupportedError(f"the module gives {want.dtype}")
        want, have = want.double(), have.double()
        spread = float(want.max() - want.min()) if want.numel() else 1.0
        if not torch.allclose(want, have, rtol=0, atol=_TOLERANCE * (spread or 1.0), equal_nan=True):
            raise ConversionError(
                "the exported program answers otherwise than the module",
                step="torch.export",
                hint="is there something random in its forward, or does it keep something between calls?",
            )


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
