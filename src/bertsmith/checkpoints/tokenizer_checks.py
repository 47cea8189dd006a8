"""What can be known of a tokenizer whose folder has no list of hashes: where its files disagree, or do not fit its tokens.

Files that hold different vocabularies, tokens that stand twice and special tokens that are missing are errors already when
the tokenizer is read. What is here may be as it was meant, and is only said.
"""

from collections.abc import Iterator
from pathlib import Path

from bertsmith.text import Tokenizer
from bertsmith.text.folder import TOKENIZER_JSON, contradictions
from bertsmith.text.vocabulary import FILE_NAME

# Some uncased vocabularies hold a few tokens that lower-casing does not reach; of cased ones they are a third.
_FEW_CAPITALS = 0.1


def tokenizer_remarks(folder: Path, tokenizer: Tokenizer) -> Iterator[str]:
    """Sentences on `tokenizer`, which was read from `folder`, for `Source.remarks`."""
    yield from contradictions(folder)
    lists = [name for name in (FILE_NAME, TOKENIZER_JSON) if (folder / name).is_file()]
    if len(lists) == 1:
        yield f"only {lists[0]} lists the tokens: lines that changed places cannot be noticed"
    words = [token for token in tokenizer.vocabulary.tokens if not token.startswith("[")]
    capitals = sum(token != token.lower() for token in words)
    if tokenizer.rules.lower_case and capitals > _FEW_CAPITALS * len(words):
        yield (
            f"text is lower-cased, but {capitals:,} tokens have capitals: no text reaches them. If the model is cased, write "
            '{"do_lower_case": false} into tokenizer_config.json'
        )
    if not tokenizer.rules.lower_case and words and not capitals and any(map(str.isalpha, "".join(words))):
        yield (
            "text is not lower-cased, but no token has a capital: words with one become [UNK]. If the model is uncased, write "
            '{"do_lower_case": true} into tokenizer_config.json'
        )
