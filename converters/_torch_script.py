"""TorchScript in the PyTorch child: what an archive says of its inputs, and its way to the hub by the old exporter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.converters import _torch_hub as hub
from edgekit.converters._torch_child import flattened, keep
from edgekit.converters._torch_examples import axes_of, examples, fit_to_parameters, working_sizes
from edgekit.converters._torch_export import first_line
from edgekit.errors import ArtifactError, ConversionError, InputError, UnsupportedError
from edgekit.graph.naming import distinct
from edgekit.spec import DTYPES, TensorSpec

__all__ = ["open_script"]

_TOLERANCE = 1e-4


def open_script(path: str, stage: str, shapes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Opens a TorchScript archive and puts its hub file under the folder `stage`.

    Args:
        path: The archive.
        stage: The folder.
        shapes: What the user says of the inputs, as `TensorSpec.to_json` gives it. A traced archive has the shapes it
            was traced with; its batch is open where a row's answer does not depend on the others.

    Raises:
        ArtifactError: It is damaged.
        InputError: Neither the archive nor the user says how large the inputs are, or there are no such inputs.
        UnsupportedError: It gives something else than tensors, or has operations without ONNX; all are listed.
        ConversionError: It does not take inputs of these shapes, or PyTorch's exporter failed otherwise.
    """
    import torch

    torch.set_num_threads(1)
    module = _load(path)
    names = _parameters(module)
    said = [TensorSpec.from_json(shape) for shape in shapes]
    notes: list[str] = []
    with torch.no_grad():
        if said:
            specs = fit_to_parameters(said, names)
            if specs is None:
                raise InputError(f"the inputs are {', '.join(names)}", hint=_hint(names))
        else:
            specs, notes = _declared(module, names)
        sizes = working_sizes(specs, lambda tensors: module(*tensors))
        answer = module(*examples(specs, sizes))
        _require_tensors(answer)
        outputs = distinct(hub.output_names(answer), names)
        known = _shapes(specs, sizes, answer, module)
        place = Path(stage, "hub.onnx")
        model = _to_onnx(module, specs, sizes, outputs, place)
    taken = distinct(spec.name for spec in specs)
    promised = hub.write(model, taken, outputs, [axes_of(spec) for spec in specs], place, known)
    return keep(lambda tensors: flattened(module(*tensors)), promised, place, notes)


def _load(path: str) -> Any:
    import torch

    try:
        # The shapes an archive was traced with are there only when they are asked for.
        return torch.jit.load(path, map_location="cpu", _restore_shapes=True).eval()
    except MemoryError:
        raise
    except Exception as error:
        raise ArtifactError(
            f"PyTorch {torch.__version__} cannot load it: {first_line(error)}", hint="is it damaged? write it again"
        ) from error


def _parameters(module: Any) -> list[str]:
    """The tensors that ``forward`` takes; what else it takes must have a default."""
    arguments = module.forward.schema.arguments[1:]
    tensors = [argument.name for argument in arguments if str(argument.type) in ("Tensor", "Optional[Tensor]")]
    others = [a for a in arguments if a.name not in tensors and not a.has_default_value()]
    if others:
        odd = [f"{argument.name}: {argument.type}" for argument in others]
        raise UnsupportedError("inputs that are no tensors", offenders=odd, hint="script a module that takes tensors")
    return tensors


def _hint(names: Sequence[str]) -> str:
    shown = names if len(names) > 1 else [""]
    return " ".join(f"--input-shape {name + '=' if name else ''}batch,3,224,224" for name in shown)


def _declared(module: Any, names: list[str]) -> tuple[list[TensorSpec], list[str]]:
    """The shapes the archive was traced with, its batch open where that is right, and a note where it is not."""
    specs: list[TensorSpec] = []
    for value in list(module.forward.graph.inputs())[1:]:
        kind = value.type()
        sizes, dtype = (kind.sizes(), kind.dtype()) if kind.kind() == "TensorType" else (None, None)
        if sizes is None or None in sizes or dtype is None:
            raise InputError(
                f"the archive does not say how large its inputs are: {', '.join(names)}", hint=_hint(names)
            )
        specs.append(TensorSpec(names[len(specs)], str(dtype).removeprefix("torch."), tuple(sizes)))
    if _rows_are_apart(module, specs):
        return [replace(spec, shape=("batch", *spec.shape[1:])) for spec in specs], []
    return specs, ["all sizes are those it was traced with: its rows depend on one another, or their number is fixed"]


def _rows_are_apart(module: Any, specs: Sequence[TensorSpec]) -> bool:
    """Whether two rows at once are answered as each of them alone."""
    import torch

    if not all(spec.shape for spec in specs) or len({spec.shape[0] for spec in specs}) != 1:
        return False
    both = examples([replace(spec, shape=(2, *spec.shape[1:])) for spec in specs], {})
    try:
        together = flattened(module(*both))
        for row in (0, 1):
            alone = flattened(module(*[tensor[row : row + 1] for tensor in both]))
            for whole, part in zip(together, alone, strict=True):
                spread = float(part.double().max() - part.double().min()) or 1.0
                if not torch.allclose(whole[row : row + 1].double(), part.double(), rtol=0, atol=_TOLERANCE * spread):
                    return False
    except (RuntimeError, IndexError, ValueError):  # what a module says to a number of rows it was not traced for
        return False
    return True


def _require_tensors(answer: Any) -> None:
    import torch

    entries = list(answer) if isinstance(answer, tuple) else [answer]
    odd = sorted({type(entry).__name__ for entry in entries if not isinstance(entry, torch.Tensor)})
    if odd:
        raise UnsupportedError(
            "TorchScript comes to ONNX only with tensors, or one tuple of them, as its answer",
            offenders=[f"it gives a {kind}" for kind in odd],
            hint="torch.export.save(torch.export.export(module, inputs), 'model.pt2') of the module takes any answer",
        )
    if odd := sorted({str(e.dtype) for e in entries if str(e.dtype).removeprefix("torch.") not in DTYPES}):
        raise UnsupportedError("outputs of a type that edgekit does not run", offenders=odd)


def _shapes(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], answer: Any, module: Any
) -> list[list[int | str | None]]:
    """The outputs' sizes: numbers where they stay the same when all open sizes change, names where they follow one."""
    first = [list(tensor.shape) for tensor in flattened(answer)]
    if not sizes:
        return [list(shape) for shape in first]
    other: dict[str, int] = {}

    def call(scale: Callable[[int], int]) -> list[list[int]]:
        other.update({name: scale(size) for name, size in sizes.items()})
        return [list(tensor.shape) for tensor in flattened(module(*examples(specs, other)))]

    try:
        second = call(lambda size: size * 2)
    except RuntimeError:  # as beyond the positions it has learnt
        second = call(lambda size: max(1, size // 2))

    def name(before: int, after: int) -> int | str | None:
        found = (symbol for symbol, size in sizes.items() if (size, other[symbol]) == (before, after))
        return before if before == after else next(found, None)

    return [[name(*pair) for pair in zip(a, b, strict=True)] for a, b in zip(first, second, strict=True)]


def _to_onnx(
    module: Any, specs: Sequence[TensorSpec], sizes: Mapping[str, int], outputs: Sequence[str], place: Path
) -> Any:
    import onnx_ir as ir
    import torch

    tensors = tuple(examples(specs, sizes))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated in favor of one that reads no TorchScript
            torch.onnx.export(
                module,
                tensors,
                str(place),
                dynamo=False,
                opset_version=hub.OPSET,
                input_names=[spec.name for spec in specs],
                output_names=list(outputs),
                dynamic_axes={spec.name: axes_of(spec) for spec in specs if axes_of(spec)},
            )
    except MemoryError:
        raise
    except Exception as error:
        _, missing = torch.onnx.utils.unconvertible_ops(module, tensors, opset_version=hub.OPSET)
        if missing:
            raise UnsupportedError(
                "operations PyTorch has no ONNX for", offenders=sorted(set(missing)), hint="a .pt2 file may have more"
            ) from error
        raise ConversionError(first_line(error), step="torch.onnx.export", vendor_message=str(error)) from error
    model = ir.load(place)
    ir.external_data.load_to_model(model)
    return model
