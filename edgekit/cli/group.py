"""The commands there are, each imported when it is the one that was typed."""

from __future__ import annotations

from importlib import import_module

import click

import edgekit
from edgekit.cli.options import Command, common

__all__ = ["COMMANDS", "GROUP", "command_paths"]

COMMANDS = {
    "convert": ("convert", "Turn a trained model into a bundle of files for a device."),
    "profile": ("profile", "Measure every variant with every engine on this machine."),
    "predict": ("predict", "Answer inputs with a bundle or a model file."),
    "serve": ("serve", "Answer other programs over HTTP and gRPC."),
    "compare": ("compare", "Hold one model against another: answers, layers, latency."),
    "evaluate": ("evaluate", "Measure how good the answers are, on data that says what is true."),
    "report": ("report", "Put all that is known of a bundle on one page."),
    "optimize": ("optimize", "Find by measuring what serves a model best, and ship it."),
    "inspect": ("inspect", "Show what a bundle or a model file is."),
    "verify": ("verify", "Check a bundle's hashes and golden answers on this machine."),
    "list": ("listing", "List targets, runtimes, recipes or models."),
    "models": ("models", "Make and train models of the field's architectures."),
    "doctor": ("doctor", "Tell what is installed, what is missing, and what adds it."),
}
"""Name -> module in this package that holds ``COMMAND``, and the line shown by ``edgekit --help``.

Not `list`: a submodule of that name would replace the builtin in this package.
"""

ALIASES = {"benchmark": "profile"}


def command_paths() -> list[str]:
    """Every command as it is typed after ``edgekit``, those of groups too, and first nothing."""
    from edgekit.cli import models

    return ["", *COMMANDS, *(f"models {name}" for name in models.COMMANDS)]


class _LazyGroup(click.Group):
    """Lists commands from a table, so that ``--help`` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: Command = import_module(f"edgekit.cli.{COMMANDS[name][0]}").COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("Example:\n  edgekit convert emotion_model.hdf5 -o emotion.edge\n\n")
        super().format_help(ctx, formatter)


@click.group(
    cls=_LazyGroup,
    help="From a trained model to the fastest file for a device that is not measurably worse.",
    epilog="`edgekit COMMAND --help` shows an example of each. `benchmark` is another name of `profile`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(edgekit.__version__, prog_name="edgekit")
@common
def GROUP() -> None:  # noqa: N802 - a table of commands, not a function anybody calls
    pass
