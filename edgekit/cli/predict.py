"""``edgekit predict``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import options
from edgekit.cli.options import Command

if TYPE_CHECKING:
    from edgekit.runtime import Session

__all__ = ["COMMAND"]


@click.command(
    "predict",
    cls=Command,
    example="edgekit predict emotion.edge face.png",
    help="Answer every INPUT with a bundle or a model file: pictures or sounds by the processing that travels in the "
    "bundle, .npy and .npz files as raw tensors (.npz by input name).",
)
@click.argument("path", type=click.Path())
@click.argument("inputs", type=click.Path(), nargs=-1, required=True, metavar="INPUT...")
@options.runtime
@click.option("--variant", metavar="NAME", help="Insist on a variant of the bundle: `edgekit inspect`.")
@options.threads
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str, inputs: tuple[str, ...], runtime: str | None, variant: str | None, threads: int | None, as_json: bool
) -> None:
    from edgekit.cli.output import answer
    from edgekit.loading import load
    from edgekit.report.prediction_view import view

    with load(path, runtime=runtime, variant=variant, threads=threads) as session:
        answers = [{"input": name, "answer": _predict(session, Path(name))} for name in inputs]
        used = session.artifact.name if session.artifact else Path(path).name
        record: dict[str, Any] = {"model": path, "variant": used, "runtime": session.runtime, "answers": answers}
    answer(record, lambda: view(record), schema="edgekit.prediction", as_json=as_json)


def _predict(session: Session, path: Path) -> Any:
    from edgekit.errors import EdgekitError, InputError

    try:
        if path.suffix in (".npy", ".npz"):
            return session.predict(_tensors(session, path))
        if session.processing is None:
            raise InputError("a model file alone does not say how to read this", hint="give a .npy or .npz file")
        return session.predict(path)
    except EdgekitError as error:
        if path.name not in error.message:
            error.message = f"{path}: {error.message}"
        raise


def _tensors(session: Session, path: Path) -> dict[str, Any]:
    import numpy as np

    from edgekit.errors import InputError

    try:
        with path.open("rb") as file:
            # Never pickled objects: reading those runs code of whoever wrote the file.
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {session.signature.inputs[0].name: loaded}
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint="check the path") from None
    except Exception as error:  # whatever numpy and zipfile make of a file that is none
        raise InputError(
            f"{path} cannot be read as tensors: {error}", hint="np.save or np.savez writes them"
        ) from error
