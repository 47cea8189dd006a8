"""bertsmith adapt: a model whose vectors fit one's own texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bertsmith.cli.options import DEFAULT_MODEL, Model
from bertsmith.cli.terminal import Bars, facts, talk

if TYPE_CHECKING:
    from bertsmith.tasks import Adapted

VIEWS = ("crops", "same")


def adapt(
    file: Annotated[Path, Argument(help="Texts without labels: csv, tsv, JSON lines, JSON, Parquet, or one a line.")],
    out: Annotated[Path, Option("-o", "--out", help="Model folder to write.")],
    model: Model = DEFAULT_MODEL,
    pairs: Annotated[
        Path | None, Option(help="Pairs of texts with a number that says how alike they are, to measure with.")
    ] = None,
    views: Annotated[
        str, Option(help="What belongs together: crops (two stretches of a text), or same (the text, under dropout).")
    ] = "crops",
    epochs: Annotated[int, Option(help="Passes over the texts.")] = 1,
    batch_size: Annotated[int, Option(help="Texts a step, each to be told from all the others.")] = 64,
    learning_rate: Annotated[
        float | None, Option(help="Peak of the learning rate. Default: by the model's size.")
    ] = None,
    temperature: Annotated[float, Option(help="What cosines are divided by.")] = 0.05,
    max_length: Annotated[
        int | None, Option(help="Tokens of a text to use, at most. Default: as the model reads.")
    ] = None,
    format: Annotated[str, Option("--format", help="auto, lines, csv, tsv, jsonl, json or parquet.")] = "auto",
    field: Annotated[str | None, Option("--field", help="Column with the text. Default: guessed.")] = None,
    seed: Annotated[int, Option(help="Decides what is held out, the order, and what is drawn.")] = 0,
    device: Annotated[str, Option(help="cpu, or cuda where there is one.")] = "cpu",
) -> None:
    """Train a model's vectors on texts of your own, and say how good they were before and are after.

    Library call: bertsmith.tasks.Adapting(...).run()
    """
    from bertsmith.config import from_dict
    from bertsmith.errors import UsageError, nearest
    from bertsmith.tasks import Adapting, Views

    if views not in VIEWS:
        raise UsageError(f"There are no views {views!r}.{nearest(views, VIEWS)}")
    run = Adapting(
        model=model,
        texts=file,
        out=out,
        pairs=pairs,
        views=from_dict(Views, {"kind": views}),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        temperature=temperature,
        max_length=max_length,
        format=format,  # pyright: ignore[reportArgumentType]
        field=field,
        seed=seed,
        device=device,
    )
    result: Adapted | None = None
    with Bars() as bars:
        for report in run.run():
            loss = report.update.measures["contrastive"].loss
            bars("adapting", report.step, report.steps, f"loss {loss:.3f}")
            result = report.result or result
    assert result is not None
    for line in result.lines():
        talk.print(line, soft_wrap=True)
    facts({"model": out})
