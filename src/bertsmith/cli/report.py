"""bertsmith report: a run as a page that opens offline."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.terminal import facts


def report(
    run: Annotated[Path, Argument(help="Run folder of pretrain or finetune, finished or not.")],
    out: Annotated[Path | None, Option("-o", "--out", help="Where the page goes. Default: RUN/report.html.")] = None,
    data: Annotated[Path | None, Option(help="The shards it was trained on, for what only they know.")] = None,
    tensorboard: Annotated[
        Path | None, Option(help="Write the log as TensorBoard's event files into this folder, instead of a page.")
    ] = None,
) -> None:
    """Show a run on one page: losses, speed, masks, guesses, and what the doctor says.

    Library call: bertsmith.report
    """
    if tensorboard is not None:
        from bertsmith.history import History
        from bertsmith.train.tensorboard import EventFiles

        History.load(run)  # a folder without a run is refused before one is made
        EventFiles(run, tensorboard).close()
        facts({"events": tensorboard, "see them": f"tensorboard --logdir {tensorboard}"})
        return
    import bertsmith

    facts({"report": bertsmith.report(run, out, data=data)})
