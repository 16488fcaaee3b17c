"""``edgekit predict``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import options
from edgekit.cli.options import Command

if TYPE_CHECKING:
    from edgekit.cli.inputs import Given
    from edgekit.errors import InputError
    from edgekit.runtime import Session

__all__ = ["COMMAND"]


@click.command(
    "predict",
    cls=Command,
    example="edgekit predict emotion.edge face.png",
    help="Answer every INPUT with a bundle or a model file. An INPUT is a picture, sound or text file, or for a model "
    "that reads texts a text, by the processing that travels in the bundle; a .npy or .npz file of raw tensors (.npz "
    "by input name); a folder for every file in it; or - for stdin.",
)
@click.argument("path", type=click.Path())
@click.argument("inputs", type=click.Path(allow_dash=True), nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="DIR",
    help="Write each answer there: a picture with what was found drawn into it, the picture a model makes, arrays as "
    ".npz, all else as .json.",
)
@options.force
@click.option(
    "--runtime", metavar="NAME", help="Insist on a runtime: `edgekit list runtimes`; auto measures once, and remembers."
)
@click.option("--variant", metavar="NAME", help="Insist on a variant of the bundle: `edgekit inspect`.")
@click.option(
    "--objective",
    type=click.Choice(["latency", "throughput", "memory", "startup", "cpu-time"]),
    default="latency",
    show_default=True,
    help="What --runtime auto chooses for.",
)
@options.threads
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str, inputs: tuple[str, ...], output: str | None, force: bool, as_json: bool, **settings: Any
) -> None:
    from edgekit.cli.inputs import gather
    from edgekit.cli.output import answer
    from edgekit.loading import load
    from edgekit.report.drawing import require_free
    from edgekit.report.prediction_view import view

    with load(path, **settings) as session:
        given = gather(inputs, is_text=session.processing is not None and session.processing.kind == "text")
        folder = Path(output) if output else None
        if folder is not None:
            require_free(folder, [one.stem for one in given], force=force)
        entries, failures = _answers(session, given, folder, force)
        used = session.artifact.name if session.artifact else Path(path).name
        record: dict[str, Any] = {"model": path, "variant": used, "runtime": session.runtime, "answers": entries}
    if len(failures) < len(given):
        answer(record, lambda: view(record), schema="edgekit.prediction", as_json=as_json)
    if failures:
        raise _failed(failures, len(given))


def _answers(
    session: Session, given: list[Given], folder: Path | None, force: bool
) -> tuple[list[dict[str, Any]], list[InputError]]:
    """An entry for each input, and what was wrong with those that could not be answered."""
    from edgekit.cli.inputs import answer_one
    from edgekit.errors import InputError
    from edgekit.report.drawing import write_answer

    entries, failures = [], []
    for one in given:
        entry: dict[str, Any] = {"input": one.name}
        try:
            entry["answer"] = answer_one(session, one)
            if folder is not None:
                shown = None if one.is_tensors else one.content
                place = write_answer(folder / one.stem, shown, entry["answer"], session, force=force)
                entry["file"] = str(place)
        except InputError as error:
            failures.append(error)
            entry |= {"answer": None, "error": {"message": error.message, "hint": error.hint}}
        entries.append(entry)
    return entries, failures


def _failed(failures: list[InputError], total: int) -> InputError:
    first = failures[0]
    if total > 1:
        first.message = f"{len(failures)} of {total} inputs could not be answered: {first.message}"
    return first
