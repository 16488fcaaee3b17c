"""Exported programs in the PyTorch child: what they take and give, and their way to the hub by the newer exporter."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.converters import _torch_hub as hub
from edgekit.converters._torch_child import flattened, keep
from edgekit.converters._torch_export import SIZES_FILE, first_line
from edgekit.errors import ArtifactError, ConversionError, UnsupportedError
from edgekit.graph.naming import distinct

__all__ = ["open_program"]


def open_program(path: str, stage: str) -> dict[str, Any]:
    """Opens a ``torch.export`` archive and puts its hub file under the folder `stage`.

    Raises:
        ArtifactError: It is damaged.
        UnsupportedError: It was exported in training mode, or has operations without ONNX; all are listed.
        ConversionError: PyTorch's exporter failed otherwise.
    """
    import torch

    torch.set_num_threads(1)
    extra = {SIZES_FILE: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except MemoryError:
        raise
    except Exception as error:
        raise ArtifactError(
            f"PyTorch {torch.__version__} cannot load it: {first_line(error)}",
            hint="is it damaged, of a newer PyTorch, or with classes of a library in what it takes or gives?",
        ) from error
    _refuse_training(program)
    inputs, outputs = _input_names(program), _output_names(program)
    sizes = [{int(axis): name for axis, name in own.items()} for own in json.loads(extra[SIZES_FILE] or "[]")]
    place = Path(stage, "hub.onnx")
    outputs = distinct(outputs, inputs)
    promised = hub.write(_to_onnx(program), inputs, outputs, sizes, place)
    return keep(_answering(program), promised, place, [])


_WHILE_TRAINING = {"aten.dropout.default": (2, "drops values"), "aten.batch_norm.default": (5, "learns as it runs")}
"""Operation -> which of its arguments says that it is training, and what it does then."""


def _refuse_training(program: Any) -> None:
    """Raises UnsupportedError for a program that would change itself or drop values at random as it runs."""
    odd = [f"{name} changes as it runs" for name in program.graph_signature.buffers_to_mutate.values()]
    for node in program.graph.nodes:
        place, does = _WHILE_TRAINING.get(str(node.target), (0, ""))
        if does and len(node.args) > place and node.args[place] is True:
            odd.append(f"{node.name} {does}")
    if odd:
        raise UnsupportedError(
            "a program exported in training mode", offenders=odd, hint="call model.eval() before torch.export.export"
        )


def _user_inputs(program: Any) -> list[Any]:
    from torch.export.graph_signature import InputKind

    return [spec.arg for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]


def _is_tensor(argument: Any) -> bool:
    from torch.export.graph_signature import TensorArgument

    return isinstance(argument, TensorArgument)


def _input_names(program: Any) -> list[str]:
    arguments = _user_inputs(program)
    if odd := [argument.name for argument in arguments if not _is_tensor(argument) and not hasattr(argument, "value")]:
        raise UnsupportedError("inputs that are numbers and no tensors", offenders=odd, hint="export them as constants")
    return distinct(argument.name for argument in arguments if _is_tensor(argument))


def _output_names(program: Any) -> list[str]:
    from torch.export.graph_signature import OutputKind
    from torch.utils import _pytree as pytree

    specs = program.graph_signature.output_specs
    given = [spec.arg for spec in specs if spec.kind == OutputKind.USER_OUTPUT]
    names = hub.output_names(pytree.tree_unflatten(list(range(len(given))), program.call_spec.out_spec))
    constants = [(name, arg.value) for name, arg in zip(names, given, strict=True) if not _is_tensor(arg)]
    if odd := [f"{name} = {value!r}" for name, value in constants if value is not None]:
        raise UnsupportedError("outputs that are no tensors", offenders=odd, hint="leave them out of what it gives")
    return [name for name, argument in zip(names, given, strict=True) if _is_tensor(argument)]


def _answering(program: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:
    from torch.utils import _pytree as pytree

    module, arguments, structure = program.module(), _user_inputs(program), program.call_spec.in_spec

    def answer(tensors: Sequence[Any]) -> Sequence[Any]:
        rest = iter(tensors)
        leaves = [next(rest) if _is_tensor(argument) else argument.value for argument in arguments]
        args, kwargs = pytree.tree_unflatten(leaves, structure)
        return flattened(module(*args, **kwargs))

    return answer


def _to_onnx(program: Any) -> Any:
    import torch

    settings: Mapping[str, Any] = {"dynamo": True, "opset_version": hub.OPSET, "verbose": False}
    try:
        return torch.onnx.export(program, **settings).model
    except MemoryError:
        raise
    except Exception as error:
        if missing := _without_onnx(program, settings):
            raise UnsupportedError("operations PyTorch has no ONNX for", offenders=missing) from error
        lines = [line for line in str(error).splitlines() if line.startswith("<class")]
        raise ConversionError(
            lines[0] if lines else first_line(error), step="torch.onnx.export", vendor_message=str(error)
        ) from error


def _without_onnx(program: Any, settings: Mapping[str, Any]) -> list[str]:
    """Every operation without a translation, out of the report the exporter writes when it is asked for one."""
    import torch

    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            torch.onnx.export(program, **settings, report=True, artifacts_dir=folder)
        except Exception:  # noqa: BLE001 - it failed before; what is wanted is the report it leaves
            text = "".join(report.read_text(encoding="utf-8") for report in sorted(Path(folder).glob("*.md")))
        else:
            return []
    _, _, errors = text.partition("Errors grouped by operator:")
    return sorted(set(re.findall(r"^- `([\w.:]+)`:", errors.partition("\n## ")[0], re.MULTILINE)))
