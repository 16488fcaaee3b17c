"""``edgekit list``"""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "list",
    cls=Command,
    example="edgekit list targets",
    help="List the targets, runtimes, recipes and models there are, those of installed packages too, or ONNX's "
    "operations with the formats they can be written to.",
)
@click.argument("what", type=click.Choice(["targets", "runtimes", "recipes", "models", "ops"]))
@options.as_json
@options.common
def COMMAND(what: str, as_json: bool) -> None:  # noqa: N802
    from edgekit.cli.output import answer
    from edgekit.report import listing_view

    makers = {"targets": _targets, "runtimes": _runtimes, "recipes": _recipes, "models": _models, "ops": _ops}
    items = makers[what]()
    answer({what: items}, lambda: listing_view.view(what, items), schema="edgekit.list", as_json=as_json)


def _targets() -> list[dict[str, Any]]:
    from edgekit.errors import UnsupportedError
    from edgekit.target import Target

    found = []
    for name in Target.names():
        try:
            found.append(Target.named(name).to_json())
        except UnsupportedError as error:  # `host` on an architecture no target names
            found.append({"name": name, "title": error.message})
    return found


def _runtimes() -> list[dict[str, Any]]:
    from edgekit.diagnosis import parts_of
    from edgekit.registry import RUNTIMES

    items = []
    for part in parts_of("runtime", RUNTIMES):
        formats = list(RUNTIMES.get(part.name).formats) if part.probe.available else []
        items.append({"name": part.name, "formats": formats, **vars(part.probe)})
    return items


def _recipes() -> list[dict[str, Any]]:
    from edgekit.recipe import NAMED

    return [recipe.to_json() for recipe in NAMED.values()]


def _models() -> list[dict[str, Any]]:
    from edgekit.catalog import list_models

    return list_models()


def _ops() -> list[dict[str, Any]]:
    from edgekit.ops import list_ops

    return list_ops()
