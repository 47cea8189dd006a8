"""bertsmith vocab: learn a WordPiece vocabulary, or more tokens for the one of a model."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from bertsmith.cli.options import Field, Json, Processes, TextFormat, Texts
from bertsmith.cli.terminal import Bars, facts, json_line, talk

LEARN = "learn"
_SHOWN = 12


class LearnUnlessNamed(TyperGroup):
    """A group whose first command is meant where none is named: `vocab TEXT...` is `vocab learn TEXT...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else [LEARN, *args])


vocab = typer.Typer(
    help="Learn a vocabulary from text (`vocab TEXT...` is `vocab learn TEXT...`), or extend the one of a model.\n\n"
    "Library call: bertsmith.data.learn_tokenizer, bertsmith.checkpoints.extend_model",
    cls=LearnUnlessNamed,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@vocab.command(name=LEARN)
def learn(
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


@vocab.command()
def extend(
    model: Annotated[Path, Argument(help="A model folder or name.")],
    text: Texts,
    add: Annotated[int, Option(help="How many tokens.")],
    out: Annotated[Path, Option("-o", "--out", help="New folder for the model with more tokens.")],
    format: TextFormat = "auto",
    field: Field = "text",
    processes: Processes = 1,
    json: Json = False,
) -> None:
    """Give a model more tokens, learned from text of another domain.

    They take the places of [unused] tokens first. Each starts from the mean of the pieces that spelled it; pretrain the
    new model further on the same text. Library call: bertsmith.checkpoints.extend_model
    """
    from bertsmith.checkpoints import extend_model, load_model, save_model
    from bertsmith.data import Corpus
    from bertsmith.errors import UsageError

    if out.exists():
        raise UsageError(f"{out}: this already exists. Choose another place, or remove it first.")
    with Bars() as bars:
        extended = extend_model(
            load_model(model),
            Corpus(text, format=format, field=field),  # pyright: ignore[reportArgumentType]
            add,
            processes=processes,
            progress=bars,
        )
    save_model(out, extended.checkpoint)
    learned = extended.tokenizer
    before, after, tokens = learned.before, learned.statistics, learned.extension.tokens
    if json:
        json_line(
            {
                "model": str(out),
                "tokens": tokens,
                "vocab_size": len(learned.tokenizer.vocabulary),
                "measured_words": after.words,
                "heldout": learned.heldout,
                "fertility": [before.fertility, after.fertility],
                "unknown_rate": [before.unknown_rate, after.unknown_rate],
            }
        )
        return
    place = extended.checkpoint.lineage["extension"]
    facts(
        {
            "folder": out,
            "new tokens": f"{place['at_unused_places']:,} at [unused] places, {place['appended']:,} appended",
            "such as": " ".join(tokens[:_SHOWN]),
            "tokens": f"{len(learned.tokenizer.vocabulary):,} in all",
            "measured on": f"{after.words:,} words of {'held-out' if learned.heldout else 'the same'} text",
            "fertility": f"{before.fertility:.3f} tokens a word before, {after.fertility:.3f} now",
            "[UNK]": f"{before.unknown_rate:.3%} of words before, {after.unknown_rate:.3%} now",
        }
    )
    talk.print(
        f"Pretrain it further on text with the new tokens: bertsmith prepare TEXT --vocab {out}, then bertsmith pretrain "
        f"RECIPE --from {out}.",
        soft_wrap=True,
    )
