"""bertsmith demo: the whole chain on text that ships with bertsmith."""

from pathlib import Path
from typing import Annotated

from typer import Option

from bertsmith.cli.terminal import Bars, talk


def demo(
    out: Annotated[Path, Option("-o", "--out", help="Folder for everything the demo makes.")] = Path("runs/demo"),
    replace: Annotated[
        bool, Option("--replace/--keep", help="Whether an earlier demo in that folder gives way.")
    ] = True,
) -> None:
    """From raw text to a working BERT and a report page, in minutes, on this machine's CPU.

    Library call: bertsmith.demo.run
    """
    from bertsmith.demo import run
    from bertsmith.demo.summary import lines

    with Bars() as bars:
        result = run(out, replace=replace, progress=bars)
    for line in lines(result):
        talk.print(line, soft_wrap=True)
