"""bertsmith prepare: text to token shards."""

from pathlib import Path
from typing import Annotated

from typer import Option

from bertsmith.cli.options import Field, Processes, TextFormat, Texts
from bertsmith.cli.terminal import Bars, facts, talk


def prepare(
    text: Texts,
    vocab: Annotated[Path, Option(help="Folder with a tokenizer, from `bertsmith vocab` or a model.")],
    out: Annotated[Path, Option("-o", "--out", help="New folder for the shards.")],
    language: Annotated[str, Option(help="Language of the text (ISO 639-1), for splitting sentences.")] = "en",
    heldout: Annotated[float, Option(help="Share of documents kept apart for evaluation.")] = 0.02,
    format: TextFormat = "auto",
    field: Field = "text",
    processes: Processes = 1,
) -> None:
    """Turn text into token shards, once, for any number of runs.

    Library call: bertsmith.data.prepare
    """
    from bertsmith.data import Corpus
    from bertsmith.data import prepare as prepare_shards
    from bertsmith.text import Tokenizer

    corpus = Corpus(text, format=format, field=field)  # pyright: ignore[reportArgumentType]
    with Bars() as bars:
        made = prepare_shards(
            corpus,
            Tokenizer.load(vocab),
            out,
            language=language,
            heldout=heldout,
            processes=processes,
            progress=bars,
        )
    if not made.heldout_documents:
        talk.print("Note: no document is held out, so runs on these shards will have no held-out figures.")
    facts(
        {
            "folder": made.path,
            "training": f"{made.train_documents:,} documents, {made.train_tokens:,} tokens",
            "held out": f"{made.heldout_documents:,} documents, {made.heldout_tokens:,} tokens",
            "sentences": f"{made.counts.sentences:,}",
            "fertility": f"{made.counts.fertility:.3f} tokens a word",
            "[UNK]": f"{made.counts.unknown_rate:.3%} of words",
        }
    )
