"""bertsmith prepare: text to token shards."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from typer import Option

from bertsmith.cli.options import Field, TextFormat, Texts
from bertsmith.cli.terminal import Bars, facts, json_line, talk


def prepare(
    text: Texts,
    vocab: Annotated[Path, Option(help="Folder with a tokenizer, from `bertsmith vocab` or a model.")],
    out: Annotated[Path, Option("-o", "--out", help="New folder for the shards.")],
    language: Annotated[str, Option(help="Language of the text (ISO 639-1), for splitting sentences.")] = "en",
    heldout: Annotated[float, Option(help="Share of documents kept apart for evaluation.")] = 0.02,
    heldout_text: Annotated[
        list[Path] | None, Option(help="File or folder to hold out instead; may be given several times.")
    ] = None,
    duplicates: Annotated[
        str, Option(help="What to leave out: keep (nothing), exact copies, or near ones too (extra `corpus`).")
    ] = "exact",
    leaks: Annotated[
        str, Option(help="Training documents that repeat held-out ones: report them, or drop them.")
    ] = "report",
    format: TextFormat = "auto",
    field: Field = "text",
    processes: Annotated[
        int | None, Option(help="Processes to work with; the result is the same for any number. Default: all cores.")
    ] = None,
    cluster: Annotated[str | None, Option(help="Work on a Ray cluster: ray or ray:ADDRESS (extra `cluster`).")] = None,
    json: Annotated[bool, Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn text into token shards, once, for any number of runs.

    After an interruption or an error the same command goes on from the last finished piece of text.

    Library call: bertsmith.data.prepare
    """
    from bertsmith.data import Corpus
    from bertsmith.data import prepare as prepare_shards
    from bertsmith.data.pools import usable_cores
    from bertsmith.text import Tokenizer

    before = signal.signal(signal.SIGTERM, _stop)  # as Ctrl-C: the workers end with this process
    try:
        with Bars() as bars:
            made = prepare_shards(
                Corpus(text, format=format, field=field),  # pyright: ignore[reportArgumentType]
                Tokenizer.load(vocab),
                out,
                language=language,
                heldout=heldout,
                heldout_text=Corpus(heldout_text, format=format, field=field) if heldout_text else None,  # pyright: ignore[reportArgumentType]
                duplicates=duplicates,  # pyright: ignore[reportArgumentType]
                leaks=leaks,  # pyright: ignore[reportArgumentType]
                processes=usable_cores() if processes is None else processes,
                cluster=cluster,
                progress=bars,
            )
    except KeyboardInterrupt:
        talk.print("Interrupted. What is finished is kept: the same command goes on from there.")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    for notice in made.notices:
        talk.print(f"Note: {notice}", soft_wrap=True, markup=False)
    if not made.heldout_documents:
        talk.print("Note: no document is held out, so runs on these shards will have no held-out figures.")
    if json:
        splits = {
            "train": {"documents": made.train_documents, "tokens": made.train_tokens},
            "heldout": {"documents": made.heldout_documents, "tokens": made.heldout_tokens},
        }
        json_line({"folder": str(made.path), **splits, "statistics": made.statistics, "notices": made.notices})
    else:
        facts(
            {
                "folder": made.path,
                "training": f"{made.train_documents:,} documents, {made.train_tokens:,} tokens",
                "held out": f"{made.heldout_documents:,} documents, {made.heldout_tokens:,} tokens",
                **_report(made.statistics),
            }
        )


def _report(found: dict[str, Any]) -> dict[str, str]:
    """The statistics in a few lines."""
    words = found["words_per_document"]
    lines = {
        "documents": f"{words['50%']:,} words in the middle ({words['5%']:,} to {words['95%']:,} in nine of ten), "
        f"{found['very_short_documents']:,} very short, {found['empty_documents']:,} empty",
        "sentences": f"{found['sentences']:,}, of {found['tokens_per_sentence']:.1f} tokens",
        "fertility": f"{found['fertility']:.3f} tokens a word",
        "[UNK]": f"{found['unknown_rate']:.3%} of words",
        "characters": f"{found['letters']:.1%} letters, {found['digits']:.1%} digits, {found['marks']:.1%} other; "
        f"{found['characters_per_line']:.0f} a line, {found['repeated_lines']:.1%} of lines repeated",
    }
    if found["languages"]:
        shown = list(found["languages"].items())
        more = f", {len(shown) - 5} more" if len(shown) > 5 else ""
        lines["languages"] = ", ".join(f"{code} {n / found['documents']:.1%}" for code, n in shown[:5]) + more
    repeated = found["duplicates"]
    near = f", {repeated['near']:,} near ones" if "near" in repeated else ""
    lines["duplicates"] = f"{repeated['copies']:,} copies{near}; {repeated['left_out']:,} documents left out"
    lines["duplicates"] += "".join(
        f" ({shown['document']} repeats {shown['repeats']})" for shown in repeated["examples"][:1]
    )
    if leaks := found["leaks"]:
        lines["leaks"] = (
            f"of the held-out documents {leaks['copies']:,} stand in training text, {leaks['nearly_copies']:,} nearly, "
            f"{leaks['half_or_more']:,} at least by half; {leaks['passages_in_training']:.2%} of their passages of "
            f"{leaks['passage_words']} words do; {leaks['training_documents_left_out']:,} training documents left out"
        )
    return lines


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
