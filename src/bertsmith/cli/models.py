"""bertsmith models: what is in a model folder."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from bertsmith.cli.options import Json
from bertsmith.cli.terminal import facts, json_line, table

models = typer.Typer(help="List and show model folders.", no_args_is_help=True, rich_markup_mode=None)


@models.command(name="list")
def list_models(
    folder: Annotated[Path, Argument(help="Where to look.")] = Path("runs"),
    json: Json = False,
) -> None:
    """The model folders below a folder. Library call: bertsmith.checkpoints.find_models"""
    from bertsmith.checkpoints import describe, find_models

    found = [describe(path) for path in find_models(folder)]
    if json:
        for model in found:
            json_line(model)
        return
    table(["model", "kind", "parameters"], [(m["path"], m["kind"], f"{m['parameters']:,}") for m in found])


@models.command()
def show(path: Annotated[Path, Argument(help="A model folder.")], json: Json = False) -> None:
    """What a model folder holds, without loading its weights. Library call: bertsmith.checkpoints.describe"""
    from bertsmith.checkpoints import describe

    described = describe(path)
    if json:
        json_line(described)
    else:
        facts(described)
