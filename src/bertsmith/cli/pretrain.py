"""bertsmith pretrain: a recipe and shards to a model."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.recipes import Set
from bertsmith.cli.terminal import Bars, facts, interruptible, talk


def pretrain(
    recipe: Annotated[str, Argument(help="Name of a recipe; `bertsmith recipes list` shows them.")],
    data: Annotated[Path, Option(help="Folder of shards, from `bertsmith prepare`.")],
    out: Annotated[Path, Option("-o", "--out", help="Run folder; the model will be in OUT/model.")],
    start: Annotated[Path | None, Option("--from", help="Model folder to continue from.")] = None,
    resume: Annotated[
        bool, Option("--resume", help="Go on with the run in OUT, bit for bit; begin it where there is none.")
    ] = False,
    set: Set = None,
    device: Annotated[str, Option(help="cpu, or cuda where there is one.")] = "cpu",
    save_every: Annotated[int, Option(help="Steps between checkpoints.")] = 500,
    evaluate_every: Annotated[int, Option(help="Steps between looks at held-out text.")] = 500,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be trained, and stop.")] = False,
) -> None:
    """Pretrain an encoder. Ctrl-C or SIGTERM saves the run; --resume continues it.

    Library call: bertsmith.train.Pretraining(...).run()
    """
    from bertsmith.config import override
    from bertsmith.recipes import find
    from bertsmith.train import Measure, Pretraining

    chosen = override(find(recipe), set or [])
    run = Pretraining(
        recipe=chosen,
        data=data,
        out=out,
        start=start,
        device=device,
        save_every=save_every,
        evaluate_every=evaluate_every,
    )
    if dry_run:
        facts(run.plan(resume=resume))
        return
    for number, stage in enumerate(chosen.stages):
        if getattr(stage.schedule, "warmup_steps", 0) >= stage.steps:
            talk.print(f"Note: stage {number} warms up to its last step. See stages.{number}.schedule.warmup_steps.")
    if resume and not (out / "run.json").is_file():
        talk.print(f"Note: there is no run in {out} to resume, so a new one begins.")
    heldout: dict[str, Measure] = {}
    steps = run.run(resume=resume)
    with Bars() as bars, interruptible() as asked:
        for report in steps:
            heldout = report.heldout or heldout
            bars("pretraining", report.step, report.steps, report.note())
            if asked:
                steps.close()  # saves
                talk.print(
                    f"Stopped at step {report.step:,} of {report.steps:,}. Go on with the same command and --resume."
                )
                raise SystemExit(130 if asked[0] == "SIGINT" else 143)
    figures = {
        f"held-out {name}": f"loss {m.loss:.3f}" + ("" if m.accuracy is None else f", accuracy {m.accuracy:.1%}")
        for name, m in heldout.items()
    }
    facts({**figures, "model": out / "model", "log": out / "log.jsonl"})
