"""The command line. What is heavy is imported inside the commands, so that `--help` is quick.

Every file of `commands/` is a command: it is called like its file, and the function `command` in it
is what it does. Words on the terminal are in `say` and `display`, options that several commands
have in `option`.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from typing import Annotated

import typer

from oblivio.cli import commands
from oblivio.cli.say import say

app = typer.Typer(
    help="Make a trained PyTorch model forget some of its training data, and measure honestly how "
    "well it did: beside the same model retrained without that data.",
    epilog="Start with: oblivio run",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False


def main() -> None:
    """Run a command; a user's mistake is one sentence and exit status 2."""
    try:
        app()
    except (ValueError, TypeError, KeyError, OSError) as error:
        if _debug:
            traceback.print_exc()
        say(str(error.args[0]) if isinstance(error, KeyError) else str(error), "red")
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        from oblivio import __version__

        typer.echo(f"oblivio {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    global _debug
    _debug = debug


for _file in pkgutil.iter_modules(commands.__path__):
    app.command(_file.name)(importlib.import_module(f"{commands.__name__}.{_file.name}").command)
