"""The command line: one file a verb. Each parses, makes one library call and prints."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from bertsmith.errors import BertsmithError

VERBS = (
    "demo",
    "vocab",
    "prepare",
    "pretrain",
    "finetune",
    "predict",
    "evaluate",
    "doctor",
    "report",
    "fill",
    "embed",
    "adapt",
    "index",
    "search",
    "serve",
    "recipes",
    "models",
    "convert",
)

app = typer.Typer(
    name="bertsmith",
    help="Forge your own BERT: text, vocabulary, pretraining, fine-tuning, vectors, search.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in VERBS:
    command: Callable[..., Any] | typer.Typer = getattr(import_module(f"bertsmith.cli.{verb}"), verb)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=verb)
    else:
        app.command(name=verb)(command)


@app.callback(invoke_without_command=True)
def version(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"bertsmith {installed('bertsmith')}\n")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    try:
        app(arguments)
    except BertsmithError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
