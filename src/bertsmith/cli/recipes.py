"""bertsmith recipes: what can be pretrained."""

import json as json_format
import sys
from typing import Annotated

import typer
from typer import Argument, Option

from bertsmith.cli.terminal import table

recipes = typer.Typer(help="List, show and compare recipes.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, Argument(help="Name of a recipe, such as bert:tiny.")]
Set = Annotated[list[str] | None, Option("--set", help="Change one value: path=value. Can be repeated.")]


@recipes.command(name="list")
def list_recipes() -> None:
    """Every recipe, with a line on each. Library call: bertsmith.recipes.names"""
    from bertsmith.recipes import names

    table(["recipe", ""], names().items())


@recipes.command()
def show(name: Name, set: Set = None) -> None:
    """One recipe in full, as JSON. Library call: bertsmith.recipes.find"""
    from bertsmith.config import override, to_dict
    from bertsmith.recipes import find

    sys.stdout.write(json_format.dumps(to_dict(override(find(name), set or [])), indent=2) + "\n")


@recipes.command()
def diff(one: Name, other: Name) -> None:
    """What differs between two recipes, path by path. Library call: bertsmith.config.differences"""
    from bertsmith.config import differences
    from bertsmith.recipes import find

    table(["path", one, other], differences(find(one), find(other)))
