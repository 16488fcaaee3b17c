"""The command line. `main` is the one place where errors become an exit code and a line on stderr.

0  done                           4  not possible here
1  the answer is no               5  an optional part is absent
2  wrong usage                    6  a vendor's tool failed
3  a file or an input is wrong   70  a bug of ours, 130 interrupted
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from edgekit.cli.group import GROUP
from edgekit.cli.options import State
from edgekit.errors import ConversionError, EdgekitError, GateFailed

__all__ = ["main", "run"]

_BUG = 70
_INTERRUPTED = 130
_READER_GONE = 141
"""What a shell reports of a filter that the reader of its pipe left: 128 + SIGPIPE."""

_HINTS = {
    3: "check the path; `edgekit COMMAND --help` says what it takes",
    4: "`edgekit list targets` and `edgekit list runtimes` show what there is",
    5: "`edgekit doctor` shows what is missing and what adds it",
    6: "-v shows what the vendor's tool said",
    _BUG: "--debug shows where",
}
"""What to do next about an error that does not say it itself, by exit code."""


def main() -> None:
    """The command ``edgekit``."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and gives its exit code."""
    state = State()
    try:
        code = GROUP.main(list(arguments), prog_name="edgekit", standalone_mode=False, obj=state)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("edgekit: interrupted", err=True)
        return _INTERRUPTED
    except GateFailed as answer:
        click.echo(f"edgekit: {_one_line(str(answer))}", err=True)
        return answer.exit_code
    except EdgekitError as error:
        return _say(error, state)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        return _READER_GONE
    except Exception as error:  # noqa: BLE001 - the last boundary: whatever is left is a bug of ours
        return _admit(error, state)
    return code if isinstance(code, int) else 0


def _say(error: EdgekitError, state: State) -> int:
    if state.debug:
        traceback.print_exc()
    elif state.verbosity and isinstance(error, ConversionError) and error.vendor_message:
        click.echo(error.vendor_message.rstrip(), err=True)
    click.echo(f"edgekit: error: {_one_line(error.message)}", err=True)
    click.echo(f"hint: {_one_line(error.hint or _HINTS[error.exit_code])}", err=True)
    return error.exit_code


def _admit(error: Exception, state: State) -> int:
    if state.debug:
        traceback.print_exc()
    said = _one_line(f"{type(error).__name__}: {error}")
    advice = "" if state.debug else "; --debug shows where"
    click.echo(f"edgekit: this is a bug in edgekit: {said}{advice}", err=True)
    return _BUG


def _one_line(text: str) -> str:
    return " ".join(text.split())
