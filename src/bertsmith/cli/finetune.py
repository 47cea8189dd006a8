"""bertsmith finetune: a model and labelled files to a model that does the job."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.options import Label, Model, TextColumns
from bertsmith.cli.terminal import Bars, facts, talk


def finetune(
    task: Annotated[str, Argument(help="classify, pair, regress, multilabel, tag, span or choice.")],
    model: Model,
    train: Annotated[Path, Option(help="Labelled file: csv, tsv, JSON lines, JSON, SQuAD, Parquet, CoNLL, CoNLL-U.")],
    dev: Annotated[Path, Option(help="Labelled file that picks the best epoch.")],
    out: Annotated[Path, Option("-o", "--out", help="Run folder; the model will be in OUT/model.")],
    text: TextColumns = None,
    label: Label = None,
    epochs: Annotated[int, Option(help="Passes over the training examples.")] = 3,
    batch_size: Annotated[int, Option(help="Examples a step.")] = 32,
    learning_rate: Annotated[float | None, Option(help="Its peak. Default: by the model's size.")] = None,
    max_length: Annotated[int | None, Option(help="Tokens an example, at most. Default: the model's limit.")] = None,
    stride: Annotated[
        int | None, Option(help="Tokens from one window of a long text to the next. Default: half one.")
    ] = None,
    seed: Annotated[list[int] | None, Option("--seed", help="Can be repeated: one run for each. Default: 0.")] = None,
    device: Annotated[str, Option(help="cpu, or cuda where there is one.")] = "cpu",
) -> None:
    """Fine-tune a model on labelled texts.

    Library call: bertsmith.tasks.Finetuning(...).run()
    """
    from bertsmith.tasks import Columns, Finetuning

    run = Finetuning(
        task=task,
        model=model,
        train=train,
        dev=dev,
        out=out,
        columns=Columns(texts=tuple(text or ()), label=label),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        stride=stride,
        seeds=tuple(seed or (0,)),
        device=device,
    )
    for line in run.survey.lines():
        talk.print(line, soft_wrap=True)
    result = None
    with Bars() as bars:
        for report in run.run():
            bars("fine-tuning", report.step, report.steps, report.note())
            result = report.result or result
    assert result is not None
    for line in result.lines():
        talk.print(line, soft_wrap=True)
    facts({"model": out / "model", "log": out / "log.jsonl"})
