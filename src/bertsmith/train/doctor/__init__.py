"""The doctor: reads a run folder, finished or not, and says in plain words what is wrong with it or odd.

    for finding in examine("runs/mine"):
        print(finding.severity, finding.seen, finding.why, finding.advice)

Every check reads what the run wrote (`bertsmith.history`) and yields findings; it changes nothing. Figures that noise can
explain are no finding: medians over windows, sampling errors, and limits that stand beside each check with their reason.
"""

from pathlib import Path

from bertsmith.train.doctor import course, files, learning
from bertsmith.train.doctor.course import MaskFigure, mask_figures
from bertsmith.train.doctor.finding import SEVERITIES, Case, Check, Finding, Severity

__all__ = ["CHECKS", "SEVERITIES", "Case", "Finding", "MaskFigure", "Severity", "diagnose", "examine", "mask_figures"]


CHECKS: tuple[Check, ...] = (
    files.figures_are_finite,
    files.checkpoints_are_whole,
    files.log_is_whole,
    learning.language_is_learned,
    learning.next_sentences_are_learned,
    learning.splits_agree,
    learning.shards_are_sound,
    course.masks_are_as_asked,
    course.loss_is_smooth,
    course.gradients_are_sound,
    course.schedule_fits,
    learning.tuning_worked,
    files.events_of_note,
    course.speed_is_even,
    learning.text_is_enough,
    course.rows_are_full,
    learning.heldout_text_is_there,
    files.run_is_finished,
    files.clock_runs_on,
)


def examine(run: str | Path, data: str | Path | None = None) -> list[Finding]:
    """What is wrong with a run or odd, the worst first; nothing where all is well.

    `data` is the folder of shards that the run was trained on, for what only their manifest knows;
    where it is not given, the place that run.json names is tried.

    Raises:
        DataError: there is no run in that folder.
        CheckpointError: `data` is not a folder of shards, or not what the run was trained on.
    """
    return diagnose(Case.of(run, data))


def diagnose(case: Case) -> list[Finding]:
    """`examine` for a case that has been read."""
    found = [finding for check in CHECKS for finding in check(case)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
