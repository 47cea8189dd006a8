"""A run as a whole: its report page, from what it wrote and what the doctor says to it."""

from pathlib import Path

from bertsmith.folders import cannot_write
from bertsmith.inspection.run_page import RunStory, render
from bertsmith.train.doctor import Case, diagnose, mask_figures


def report(run: str | Path, out: str | Path | None = None, *, data: str | Path | None = None) -> Path:
    """Write the report page of a run, finished or not, and say where it is: `out`, or `report.html` in the run folder.

    `data` is the folder of shards that it was trained on, for what only their manifest knows.

    Raises:
        DataError: there is no run in that folder.
        MissingExtra: the extra `inspect` is not installed.
        UsageError: the page cannot be written there.
    """
    case = Case.of(run, data)
    several = len(case.history.stages) > 1
    story = RunStory(
        history=case.history,
        references=case.references,
        findings=[finding.as_dict() for finding in diagnose(case)],
        masks=[
            (f"stage {row.stage}: {row.what}" if several else row.what, row.found, row.asked, row.tolerance)
            for row in mask_figures(case.history)
        ],
    )
    path = case.history.path / "report.html" if out is None else Path(out)
    page = render(story)
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise cannot_write(path, error) from error
    return path
