"""bertsmith models: what is in a model folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument

from bertsmith.cli.options import Json
from bertsmith.cli.terminal import facts, json_line, table, talk
from bertsmith.shipped import SHIPPED, shipped_models

models = typer.Typer(help="List and show model folders.", no_args_is_help=True, rich_markup_mode=None)


@models.command(name="list")
def list_models(
    folder: Annotated[Path | None, Argument(help="Where to look. Default: runs, if it is there.")] = None,
    json: Json = False,
) -> None:
    """The models that come with bertsmith, by name, and the model folders below a folder.

    Library call: bertsmith.shipped.shipped_models, bertsmith.checkpoints.find_models
    """
    from bertsmith.checkpoints import describe, find_models

    places = {name: describe(path) for name, path in shipped_models().items()}
    if folder is not None or Path("runs").is_dir():
        places |= {str(path): describe(path) for path in find_models(folder or "runs")}
    if json:
        for model in places.values():
            json_line(model)
        return
    for name, what in SHIPPED.items():
        if name not in places:
            talk.print(f"{name} ({what}) comes with bertsmith, but its weights are not in this installation.")
    rows = [(name, m["architecture"] or "-", f"{m['parameters']:,}", _task(m)) for name, m in places.items()]
    table(["model", "class in transformers", "parameters", "task"], rows)


@models.command()
def show(path: Annotated[Path, Argument(help="A model folder or name.")], json: Json = False) -> None:
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
            "pooler": "yes" if model["pooler"] else "no",
            "task": _task(model),
            "tokenizer": f"{tokenizer['casing']}, {tokenizer['behaviour']} behaviour, {tokenizer['tokens']:,} tokens, "
            f"at most {tokenizer['max_length']:,} at a time",
            "embedding": f"{model['pooling']} pooling{', normalized' if model['normalize'] else ''}"
            f"{_prompts(model['sentence'].get('prompts'))}",
            "weights": f"{weights['file']}, {weights['bytes']:,} bytes of {', '.join(weights['dtypes'])}, "
            f"SHA-256 {weights['sha256'] or 'not given'}",
            "lineage": ", ".join(_lineage(model["lineage"])) or "not given",
        }
    )
    for line in model["missing"]:
        talk.print(line, soft_wrap=True)


def _prompts(prompts: Mapping[str, str] | None) -> str:
    return f"; prompts, which are not applied: {', '.join(prompts)}" if prompts else ""


def _lineage(lineage: Mapping[str, Any]) -> Iterator[str]:
    """Where a model comes from, the last step first; `--json` has all of it."""
    for key, value in lineage.items():
        if not isinstance(value, Mapping):
            continue
        name = value.get("name") or value.get("path") or value.get("format")
        if name is not None:
            yield f"{key.replace('_', ' ')} {name}"


def _task(model: Mapping[str, Any]) -> str:
    task = model["task"]
    if task is None:
        return "-"
    labels = ", ".join(task.get("labels") or ())
    return f"{task.get('kind', 'unknown')}{f' ({labels})' if labels else ''}"
