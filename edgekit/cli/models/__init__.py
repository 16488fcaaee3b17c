"""``edgekit models``: a group of its own, whose commands are imported when they are the one that was typed."""

from __future__ import annotations

from importlib import import_module

import click

from edgekit.cli.options import common

__all__ = ["COMMAND", "COMMANDS"]

COMMANDS = {
    "make": "Write a model of a family as a file: .keras, .pt2, .onnx, ...",
    "train": "Train a model of a family, on its own data or yours.",
    "data": "Write a data set as a folder.",
}
"""Name -> the line shown by ``edgekit models --help``; each is the module of that name in this package."""


class _LazyGroup(click.Group):
    example = "edgekit models make feed-forward -o feed-forward.onnx"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edgekit.cli.models.{cmd_name}").COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"Example:\n  {self.example}\n\n")
        super().format_help(ctx, formatter)


@click.group("models", cls=_LazyGroup, help="Make and train the architectures of `edgekit list models`.")
@common
def COMMAND() -> None:  # noqa: N802 - a table of commands, not a function anybody calls
    pass
