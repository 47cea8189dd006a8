"""What a process does that may be killed at any moment: run by test_durability.py, which says what is `asked`.

Each turn adds nine texts, changes those of the turn before, or takes some out; now and then everything is put in order.
What is about to be done is written down before, and what was acknowledged after.
"""

from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.config import from_dict
from bertsmith.search import Description, Entry, writing

asked: dict[str, Any] = globals()["asked"]


def entries(turn: int, of: int) -> list[Entry]:
    return [Entry(f"{of}-{n}", f"text of turn {turn}") for n in range(9)]


description = from_dict(Description, asked["description"])
with writing(asked["path"], description) as writer, Path(asked["log"]).open("a", encoding="utf-8") as told:

    def say(*words: object) -> None:
        told.write(" ".join(map(str, words)) + "\n")
        told.flush()

    for now in range(asked["turn"], 1000):
        say("begin", now)
        if now % 4 == 2:
            writer.add(entries(now, now - 1), np.full((9, 5), now + 1.0))
        elif now % 4 == 3:
            writer.delete([entry.id for entry in entries(now, now - 1 - now % 2)])
        else:
            writer.add(entries(now, now), np.full((9, 5), now + 1.0))
        say("done", now)
        if now % 5 == 4:
            writer.optimize(approximate_from=1_000_000)
