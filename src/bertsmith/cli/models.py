"""bertsmith models: what is in a model folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument

from bertsmith.cli.options import Json
from bertsmith.cli.terminal import facts, json_line, table, talk

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
    rows = [(m["path"], m["architecture"] or "-", f"{m['parameters']:,}", _task(m)) for m in found]
    table(["model", "class in transformers", "parameters", "task"], rows)


@models.command()
def show(path: Annotated[Path, Argument(help="A model folder.")], json: Json = False) -> None:
    """What a model folder holds, without loading its weights. Library call: bertsmith.checkpoints.describe"""
    from bertsmith.checkpoints import describe

    model = describe(path)
    if json:
        json_line(model)
        return
    tokenizer, weights = model["tokenizer"], model["weights"]
    facts(
        {
            "model": model["path"],
            "format": model["format"],
            "class in transformers": model["architecture"] or "none",
            **{name: f"{value:,}" for name, value in model["sizes"].items()},
            "parameters": f"{model['parameters']:,}",
            "heads": ", ".join(model["heads"]) or "none",
            "task": _task(model),
            "tokenizer": f"{tokenizer['casing']}, {tokenizer['behaviour']} behaviour, {tokenizer['tokens']:,} tokens",
            "embedding": f"{model['pooling']} pooling{', normalized' if model['normalize'] else ''}",
            "weights": f"{weights['bytes']:,} bytes, SHA-256 {weights['sha256'] or 'not given'}",
            "recipe": (model["lineage"].get("recipe") or {}).get("name", "not given"),
        }
    )
    for line in model["missing"]:
        talk.print(line, soft_wrap=True)


def _task(model: Mapping[str, Any]) -> str:
    task = model["task"]
    if task is None:
        return "-"
    labels = ", ".join(task.get("labels") or ())
    return f"{task.get('kind', 'unknown')}{f' ({labels})' if labels else ''}"
