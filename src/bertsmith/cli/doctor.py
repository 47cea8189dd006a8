"""bertsmith doctor: what is wrong with a run, or odd."""

import sys
from pathlib import Path
from textwrap import fill
from typing import Annotated

from rich.markup import escape
from typer import Argument, Option

from bertsmith.cli.options import Json
from bertsmith.cli.terminal import json_line, talk


def doctor(
    run: Annotated[Path, Argument(help="Run folder of pretrain or finetune, finished or not.")],
    data: Annotated[Path | None, Option(help="The shards it was trained on, for what only they know.")] = None,
    json: Json = False,
) -> None:
    """Read a run and say in plain words what is wrong or odd. Exit code 1 if something is wrong.

    Library call: bertsmith.train.doctor.examine
    """
    from bertsmith.train.doctor import examine

    findings = examine(run, data)
    for finding in findings:
        if json:
            json_line(finding.as_dict())
            continue
        for head, text in ((finding.severity, finding.seen), ("  why", finding.why), ("  do", finding.advice)):
            written = fill(text, 96, initial_indent=f"{head:<7}", subsequent_indent=" " * 7)
            sys.stdout.write(f"{written}\n")
        sys.stdout.write("\n")
    if not findings:
        talk.print(f"{escape(str(run))}: nothing wrong was found, and nothing odd.", soft_wrap=True)
    if any(finding.severity == "wrong" for finding in findings):
        raise SystemExit(1)
