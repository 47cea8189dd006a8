"""bertsmith fill: the likeliest tokens for a [MASK]."""

from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.options import DEFAULT_MODEL, Json, Model
from bertsmith.cli.terminal import json_line, table


def fill(
    text: Annotated[list[str], Argument(help='Texts with a [MASK], such as "Paris is the [MASK] of France."')],
    model: Model = DEFAULT_MODEL,
    k: Annotated[int, Option("-k", help="Candidates for each mask.")] = 5,
    json: Json = False,
) -> None:
    """Fill in masks.

    Library call: bertsmith.load(MODEL).fill_all(TEXT)
    """
    import bertsmith

    loaded = bertsmith.load(model)
    for line in text:
        filled = loaded.fill_all(line, k=k)
        if json:
            masks = [[{"token": c.token, "probability": c.probability} for c in mask] for mask in filled]
            json_line({"text": line, "masks": masks})
            continue
        for number, mask in enumerate(filled, start=1):
            table(
                [f"{line}  (mask {number})" if len(filled) > 1 else line, ""],
                [(c.token, f"{c.probability:.1%}") for c in mask],
            )
