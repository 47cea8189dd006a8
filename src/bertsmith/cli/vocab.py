"""bertsmith vocab: learn a WordPiece vocabulary."""

from pathlib import Path
from typing import Annotated

from typer import Option

from bertsmith.cli.options import Field, Processes, TextFormat, Texts
from bertsmith.cli.terminal import Bars, facts


def vocab(
    text: Texts,
    size: Annotated[int, Option(help="Tokens in the vocabulary.")],
    out: Annotated[Path, Option("-o", "--out", help="New folder for the tokenizer.")],
    cased: Annotated[bool, Option("--cased", help="Keep case and accents.")] = False,
    behaviour: Annotated[str, Option(help="hf or google: whose tokenizer to match exactly.")] = "hf",
    format: TextFormat = "auto",
    field: Field = "text",
    processes: Processes = 1,
) -> None:
    """Learn a WordPiece vocabulary from text.

    Library call: bertsmith.data.learn_tokenizer
    """
    from bertsmith.data import Corpus, learn_tokenizer
    from bertsmith.folders import publish

    with publish(out) as folder, Bars() as bars:
        learned = learn_tokenizer(
            Corpus(text, format=format, field=field),  # pyright: ignore[reportArgumentType]
            size,
            lower_case=not cased,
            behaviour=behaviour,
            processes=processes,
            progress=bars,
        )
        learned.tokenizer.save(folder)
    statistics = learned.statistics
    facts(
        {
            "folder": out,
            "tokens": f"{len(learned.tokenizer.vocabulary):,} from {learned.distinct_words:,} distinct words",
            "measured on": f"{statistics.words:,} words of {'held-out' if learned.heldout else 'the same'} text",
            "fertility": f"{statistics.fertility:.3f} tokens a word",
            "[UNK]": f"{statistics.unknown_rate:.3%} of words",
        }
    )
