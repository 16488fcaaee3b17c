"""``edgekit models data``"""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "data",
    cls=Command,
    example="edgekit models data breast-cancer -o breast-cancer",
    help="Write the data set NAME, or the one the family NAME is trained on, as a folder: files, labels, dataset.yaml.",
)
@click.argument("name")
@click.option("-o", "--output", type=click.Path(), required=True, metavar="FOLDER", help="Where to.")
@options.seed
@options.force
@options.as_json
@options.common
def COMMAND(name: str, output: str, seed: int, force: bool, as_json: bool) -> None:  # noqa: N802
    from edgekit.cli.output import answer
    from edgekit.cli.progress import steps
    from edgekit.datasets import write_dataset
    from edgekit.family import find_size, split_name
    from edgekit.report.making_view import view_dataset

    if split_name(name) is not None:
        name = find_size(name)[0].data
    with steps() as say:
        dataset = write_dataset(name, Path(output), seed=seed, force=force, say=say)
        counts = {split: len(dataset.samples(split)) for split in dataset.splits}
    record = {
        **{"name": dataset.name, "folder": output, "task": dataset.task, "labels": list(dataset.labels)},
        **{"samples": counts, "license": dataset.license, "source": dataset.source},
    }
    answer(record, lambda: view_dataset(record), schema="edgekit.dataset-folder", as_json=as_json)
