"""One process of a team, started by torchrun: trains the runs that its argument lists, one after another.

Each is a JSON object with `recipe`, `data`, `out`, and if need be `sharded`, `resume`, `patience`, `until` (the step to stop
after) and `die`: a process's rank or "all", and the step after which it kills itself, or in whose checkpoint it does so after
`writing`; not where torchrun has started it again. With `hangs` it dies only after so many seconds of saying nothing.
"""

import json
import os
import signal
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bertsmith.cli.interruption import Interruption
from bertsmith.config import from_dict
from bertsmith.errors import BertsmithError
from bertsmith.train import Pretraining, Recipe, Team, find_team, leave, state


def train(job: dict[str, Any], team: Team, asked: Interruption) -> None:
    run = Pretraining(
        recipe=from_dict(Recipe, job["recipe"]),
        data=Path(job["data"]),
        out=Path(job["out"]),
        device=team.device,
        log_every=1,
        evaluate_every=4,
        save_every=job.get("save_every", 3),
        heldout_sequences=8,
        tokens_at_once=job.get("tokens_at_once", 50),
    )
    if "writing" in job.get("die", {}):
        write = state.write_rows

        def write_and_die(folder: Path, name: str, *rest: Any) -> None:
            write(folder, name, *rest)
            if f"{job['die']['writing']:08d}" in folder.name:
                die(job, team)

        state.write_rows = write_and_die
    steps = run.run(resume=job.get("resume", True), team=team, stop=asked)
    for report in steps:
        if report.step == job.get("until"):
            steps.close()
        if report.step == job.get("die", {}).get("step"):
            die(job, team)


def die(job: dict[str, Any], team: Team) -> None:
    if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
        return
    if job["die"]["rank"] == "all":
        os.kill(os.getppid(), signal.SIGKILL)
    if job["die"]["rank"] in ("all", team.rank):
        time.sleep(job["die"].get("hangs", 0.0))
        os.kill(os.getpid(), signal.SIGKILL)


def _team(job: dict[str, Any]) -> AbstractContextManager[Team]:
    return find_team(sharded=job.get("sharded", False), patience=job.get("patience", 60.0))


for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
    try:
        with Interruption() as asked, _team(job) as team:
            train(job, team, asked)
    except BertsmithError as error:
        print(f"Error: {error}")
        leave(error.exit_code)
leave(0)
