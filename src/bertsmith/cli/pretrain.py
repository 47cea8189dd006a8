"""bertsmith pretrain: a recipe and shards to a model."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bertsmith.cli.interruption import Interruption
from bertsmith.cli.panel import Panel
from bertsmith.cli.recipes import Set
from bertsmith.cli.terminal import facts, talk

if TYPE_CHECKING:
    from bertsmith.train import Measured, Pretraining, Team


def pretrain(
    recipe: Annotated[str, Argument(help="Name of a recipe; `bertsmith recipes list` shows them.")],
    data: Annotated[Path, Option(help="Folder of shards, from `bertsmith prepare`.")],
    out: Annotated[Path, Option("-o", "--out", help="Run folder; the model will be in OUT/model.")],
    start: Annotated[Path | None, Option("--from", help="Model folder to continue from.")] = None,
    resume: Annotated[
        bool, Option("--resume", help="Go on with the run in OUT, bit for bit; begin it where there is none.")
    ] = False,
    set: Set = None,
    budget: Annotated[
        str | None, Option(help="How long: a time such as 20m or 1h30m, '5000 steps', '300M tokens'.")
    ] = None,
    device: Annotated[str, Option(help="cpu, or cuda where there is one.")] = "cpu",
    save_every: Annotated[int, Option(help="Steps between checkpoints.")] = 500,
    save_minutes: Annotated[float, Option(help="Minutes between checkpoints, at most.")] = 10.0,
    evaluate_every: Annotated[int, Option(help="Steps between looks at held-out text.")] = 500,
    tokens_at_once: Annotated[
        int | None, Option(help="Tokens in one pass through the model; a step adds up as many as it takes.")
    ] = None,
    workers: Annotated[int, Option(help="Processes that draw batches; 0 for a thread of this one.")] = 0,
    on_bad_shard: Annotated[
        str, Option(help="stop, or skip: leave a damaged shard out of the text, and say so.")
    ] = "stop",
    shard: Annotated[
        bool, Option("--shard", help="Under torchrun: divide the weights too, for models too large for one process.")
    ] = False,
    tensorboard: Annotated[Path | None, Option(help="Folder for event files that TensorBoard reads.")] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Measure this machine for a few seconds, say what would be trained, and stop.")
    ] = False,
) -> None:
    """Pretrain an encoder. Ctrl-C, SIGTERM or SIGUSR1 saves the run; --resume continues it.

    Several processes train one model: torchrun --nproc-per-node 4 -m bertsmith pretrain ...

    Library call: bertsmith.train.Pretraining(...).run()
    """
    with Interruption() as asked:
        from bertsmith.config import override
        from bertsmith.recipes import find
        from bertsmith.train import Pretraining, find_team, leave

        with find_team(device, sharded=shard) as team:
            talk.quiet = team.rank > 0
            run = Pretraining(
                recipe=override(find(recipe), set or []),
                data=data,
                out=out,
                start=start,
                device=team.device,
                save_every=save_every,
                save_minutes=save_minutes,
                evaluate_every=evaluate_every,
                tokens_at_once=tokens_at_once,
                workers=workers,
                on_bad_shard=on_bad_shard,  # pyright: ignore[reportArgumentType]
            )
            measured = None
            if budget and (out / "run.json").is_file():
                run = run.within(budget)  # its length was reckoned when it began
            elif dry_run or budget:
                run.plan(resume=resume)  # what cannot be trained need not be measured
                measured = run.measure(team=team)
                run = run.within(budget, measured=measured) if budget else run
            if dry_run:
                _say_what_would_be(recipe, run, team, measured, resume=resume)
            exit_code = 0 if dry_run else _train(run, team, asked, tensorboard, resume=resume)
        if team.world > 1:
            leave(exit_code)
        if exit_code:
            raise SystemExit(exit_code)


def _say_what_would_be(
    recipe: str, run: "Pretraining", team: "Team", measured: "Measured | None", *, resume: bool
) -> None:
    from bertsmith.recipes import largest_within

    largest = {"largest recipe": largest_within(recipe, run, measured)} if measured else {}
    processes = {"processes": team.world} if team.world > 1 else {}
    planned = run.plan(resume=resume, measured=measured) | processes | largest
    if team.rank == 0:
        facts(planned)


def _train(run: "Pretraining", team: "Team", asked: Interruption, tensorboard: Path | None, *, resume: bool) -> int:
    """Train, and say what came of it; the exit code."""
    from bertsmith.train import Measure
    from bertsmith.train.tensorboard import EventFiles

    for number, stage in enumerate(run.recipe.stages):
        if getattr(stage.schedule, "warmup_steps", 0) >= stage.steps:
            talk.print(f"Note: stage {number} warms up to its last step. See stages.{number}.schedule.warmup_steps.")
    if resume and not (run.out / "run.json").is_file():
        talk.print(f"Note: there is no run in {run.out} to resume, so a new one begins.")
    heldout: dict[str, Measure] = {}
    step = 0
    with ExitStack() as open_while_training:
        show = open_while_training.enter_context(Panel())
        events = None
        if tensorboard is not None and team.rank == 0:
            events = open_while_training.enter_context(EventFiles(run.out, tensorboard))
        for report in run.run(resume=resume, stop=asked, team=team):
            heldout, step = report.heldout or heldout, report.step
            show(report)
            if events and step % run.log_every == 0:
                events.update()
    if (exit_code := team.most(asked.exit_code)) and not (run.out / "model").is_dir():
        where = f"at step {step:,} of {run.recipe.steps:,}" if step else "before another step was made"
        talk.print(f"Stopped {where}. Go on with the same command and --resume.")
        return exit_code
    figures = {
        f"held-out {name}": f"loss {m.loss:.3f}" + ("" if m.accuracy is None else f", accuracy {m.accuracy:.1%}")
        for name, m in heldout.items()
    }
    if team.rank == 0:
        facts({**figures, "model": run.out / "model", "log": run.out / "log.jsonl"})
    return 0
