"""bertsmith convert: a model in another format."""

from pathlib import Path
from typing import Annotated, cast

from typer import Argument, Option

from bertsmith.cli.options import Json
from bertsmith.cli.terminal import facts, json_line, talk


def convert(
    source: Annotated[
        Path, Argument(help="Model folder of any kind, a TensorFlow prefix, or the name of a shipped model.")
    ],
    target: Annotated[Path, Argument(help="Folder to be made. Nothing is ever written over.")],
    to: Annotated[str, Option("--to", help="hf (transformers), st (sentence-transformers), tf (Google), onnx.")],
    head: Annotated[
        str | None,
        Option(
            help="For onnx: the head whose scores the graph gives, or none for vectors. Default: the fine-tuned one."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Convert a model from any format that is read to another. Library call: bertsmith.checkpoints.convert"""
    from bertsmith.checkpoints import Format
    from bertsmith.checkpoints import convert as convert_model
    from bertsmith.config import to_dict

    done = convert_model(source, target, to=cast(Format, to), head=head)
    if json:
        json_line(to_dict(done) | {"source": str(done.source), "target": str(done.target)})
        return
    facts(
        {
            "from": f"{done.source} ({done.source_format})",
            "to": f"{done.target} ({done.to})",
            **{name: f"{size:,} bytes" for name, size in done.files.items()},
        }
    )
    for line in done.checked:
        talk.print(f"Checked: {line}", soft_wrap=True, markup=False)
    for line in done.left_out:
        talk.print(f"Left out: {line}", soft_wrap=True, markup=False)
    for line in done.remarks:
        talk.print(f"Source: {line}", soft_wrap=True, markup=False)
