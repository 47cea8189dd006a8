"""bertsmith finetune: a model and labelled files to a model that does the job."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bertsmith.cli.options import Label, Model, TextColumns, columns
from bertsmith.cli.terminal import Bars, facts, talk

if TYPE_CHECKING:
    from bertsmith.tasks import Finetuned, Finetuning, Trial


def finetune(
    task: Annotated[str, Argument(help="classify, pair, regress, multilabel, tag, span or choice.")],
    model: Model,
    train: Annotated[Path, Option(help="Labelled file: csv, tsv, JSON lines, JSON, SQuAD, Parquet, CoNLL, CoNLL-U.")],
    dev: Annotated[Path, Option(help="Labelled file that picks the best epoch.")],
    out: Annotated[Path, Option("-o", "--out", help="Run folder; the model will be in OUT/model.")],
    text: TextColumns = None,
    label: Label = None,
    epochs: Annotated[
        int | None, Option(help="Passes over the training examples. Default: 3; up to 20 over a small file.")
    ] = None,
    batch_size: Annotated[int, Option(help="Examples a step.")] = 32,
    learning_rate: Annotated[float | None, Option(help="Its peak. Default: by the model's size.")] = None,
    max_length: Annotated[int | None, Option(help="Tokens an example, at most. Default: the model's limit.")] = None,
    stride: Annotated[
        int | None, Option(help="Tokens from one window of a long text to the next. Default: half one.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        Option("--seed", help="Can be repeated: one run for each. Default: 0, 1 and 2 below 10,000 examples, else 0."),
    ] = None,
    freeze: Annotated[
        bool, Option("--freeze", help="Leave the encoder as it is; train a mix of its layers and the head.")
    ] = False,
    patience: Annotated[int | None, Option(help="End a run after so many epochs that are no better on dev.")] = None,
    search: Annotated[
        bool, Option("--search", help="First try the paper's grid of learning rates, epochs and batch sizes.")
    ] = False,
    curve: Annotated[
        bool, Option("--curve", help="Also train on shares of the file, and say what more labels would bring.")
    ] = False,
    device: Annotated[str, Option(help="cpu, or cuda where there is one.")] = "cpu",
) -> None:
    """Fine-tune a model on labelled texts.

    Library call: bertsmith.tasks.Finetuning(...).run()
    """
    from bertsmith.tasks import Finetuning

    run = Finetuning(
        task=task,
        model=model,
        train=train,
        dev=dev,
        out=out,
        columns=columns(text, label),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        stride=stride,
        seeds=tuple(seed) if seed else None,
        freeze=freeze,
        patience=patience,
        device=device,
    )
    for line in run.survey.lines():
        talk.print(line, soft_wrap=True)
    trials: list[Trial] = []
    if search:
        run, trials = searched(run)
    talk.print(run.plan, soft_wrap=True)
    result = None
    with Bars() as bars:
        for report in run.run():
            bars("fine-tuning", report.step, report.steps, report.note())
            result = report.result or result
    assert result is not None
    for line in result.lines():
        talk.print(line, soft_wrap=True)
    if curve:
        show_curve(run, result)
    if trials:
        (out / "search.json").write_text(json.dumps([trial.as_dict() for trial in trials], indent=2), encoding="utf-8")
    facts({"model": out / "model", "log": out / "log.jsonl"})


def searched(run: "Finetuning") -> "tuple[Finetuning, list[Trial]]":
    """The run with the best setting of the grid, and all that was tried."""
    from bertsmith.tasks import best_trial, search

    trials = []
    with Bars() as bars:
        for trial in search(run, progress=bars):
            talk.print(trial.line(), soft_wrap=True)
            trials.append(trial)
    best = best_trial(trials)
    talk.print(f"Best: {best.line()}", soft_wrap=True)
    return best.applied(run), trials


def show_curve(run: "Finetuning", result: "Finetuned") -> None:
    """The learning curve, ending in the run's own result."""
    from bertsmith.tasks import curve_lines, curve_point, learning_curve

    with Bars() as bars:
        points = [*learning_curve(run, progress=bars), curve_point(result)]
    for line in curve_lines(points):
        talk.print(line, soft_wrap=True)
