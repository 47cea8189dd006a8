"""One process of a team, started by torchrun: trains the runs that its argument lists, one after another.

Each is a JSON object with `recipe`, `data`, `out`, and if need be `sharded`, `until` (the step to stop after) and `die`: a
process's rank or "all", and the step after which it kills itself, or in whose checkpoint it does so after `writing`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from bertsmith.cli.interruption import Interruption
from bertsmith.config import from_dict
from bertsmith.errors import BertsmithError
from bertsmith.train import Pretraining, Recipe, Team, find_team, state


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
    steps = run.run(resume=True, team=team, stop=asked)
    for report in steps:
        if report.step == job.get("until"):
            steps.close()
        if report.step == job.get("die", {}).get("step"):
            die(job, team)


def die(job: dict[str, Any], team: Team) -> None:
    if job["die"]["rank"] == "all":
        os.kill(os.getppid(), signal.SIGKILL)
    if job["die"]["rank"] in ("all", team.rank):
        os.kill(os.getpid(), signal.SIGKILL)


for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
    try:
        with Interruption() as asked, find_team(sharded=job.get("sharded", False), patience=60.0) as team:
            train(job, team, asked)
    except BertsmithError as error:
        print(f"Error: {error}", flush=True)
        raise SystemExit(error.exit_code) from None
