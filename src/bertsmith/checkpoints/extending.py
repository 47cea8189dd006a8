"""More tokens for a model: new rows in its token table, made from the rows of the pieces that spelled them until now."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bertsmith import nn
from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.huggingface_config import MASKED_LM
from bertsmith.checkpoints.weights import FILE_NAME
from bertsmith.data import Corpus, ExtendedTokenizer, extend_tokenizer
from bertsmith.data.corpora import Paths
from bertsmith.errors import CheckpointError
from bertsmith.folders import INTEGRITY, verify
from bertsmith.progress import Progress, silent
from bertsmith.text import Extension


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtendedModel:
    """A model with more tokens than it had, and how its tokenizer fits text now and did before."""

    checkpoint: Checkpoint
    tokenizer: ExtendedTokenizer


def extend_model(
    parent: Checkpoint,
    corpus: Corpus | Paths,
    add: int,
    *,
    heldout: float = 0.02,
    min_frequency: int = 2,
    processes: int = 1,
    progress: Progress = silent,
) -> ExtendedModel:
    """Learn `add` more tokens from a corpus of another domain, and give the model a vector for each.

    Everything else of the model stays: its heads, its task, its pooling. A text without a new token gives the same
    outputs as before, but for the scores of the new tokens themselves. `parent` is not changed. The lineage names it.

    Arguments and errors as those of `bertsmith.data.extend_tokenizer`; `bertsmith.text.extend_vocabulary` says how
    tokens are chosen.

    Raises:
        CheckpointError: the model has another part that depends on the number of tokens.
    """
    learned = extend_tokenizer(
        parent.tokenizer,
        corpus,
        add,
        heldout=heldout,
        min_frequency=min_frequency,
        processes=processes,
        progress=progress,
    )
    sources = (corpus if isinstance(corpus, Corpus) else Corpus(corpus)).sources()
    old, new = len(parent.tokenizer.vocabulary), len(learned.tokenizer.vocabulary)
    lineage = {
        "extended_from": {
            "path": str(parent.path),
            "weights": _weights_hash(parent),
            "tokenizer": parent.tokenizer.sha256,
            "lineage": dict(parent.lineage),
        },
        "extension": {"corpus": sources, "tokens": add, "at_unused_places": add - (new - old), "appended": new - old},
    }
    checkpoint = replace(
        parent,
        model=extend_weights(parent.model, learned.extension),
        tokenizer=learned.tokenizer,
        lineage=lineage,
        path=None,
    )
    return ExtendedModel(checkpoint=checkpoint, tokenizer=learned)


@torch.no_grad()
def extend_weights(model: nn.Model, extension: Extension) -> nn.Model:
    """A copy of `model` with a vector, and a bias of the masked-LM head, for each token of `extension`.

    A new token's vector is the mean of the vectors of the tokens that spelled it (as in AVocaDo, Hong et al. 2021, and
    Fast Vocabulary Transfer, Gee et al. 2022), and its bias the mean of their biases. The masked-LM head's table is tied
    to the vectors, so with both means a new token's score is, in any context, the mean of the scores of its pieces: it is
    never predicted before all of them, and the probabilities of the other tokens keep their order and lose little. A
    vector of noise can take nearly all the probability instead (Hewitt 2021, "Initializing new word embeddings for
    pretrained language models"). The logarithm of the mean probability, the other bias one might choose, follows the most
    frequent piece alone, and would make a rare word as likely as its first syllable.

    Rows beyond the old vocabulary, by which some trainers round the table up, are left out.

    Raises:
        CheckpointError: the model has another part that depends on the number of tokens.
    """
    tokens = len(extension.vocabulary)
    config = replace(model.config, encoder=replace(model.config.encoder, vocab_size=tokens))
    extended = config.build()
    a_row_each = [model.encoder.token_table.weight]
    if MASKED_LM in model.heads:
        a_row_each.append(cast(nn.MaskedLMHead, model.heads[MASKED_LM]).bias)
    for (name, old), new in zip(model.named_parameters(), extended.parameters(), strict=True):
        if any(old is one for one in a_row_each):
            new.copy_(_extended(old, extension))
        elif old.shape == new.shape:
            new.copy_(old)
        else:
            raise CheckpointError(
                f"The vocabulary cannot be extended: {name} depends on the number of tokens, and only the token table and "
                "the masked-LM head's bias can be given more rows."
            )
    return extended.train(model.training)


def _extended(old: Tensor, extension: Extension) -> Tensor:
    """`old` with a row for each token: (old tokens or more, ...) -> (tokens, ...)."""
    rows = old.new_empty(len(extension.vocabulary), *old.shape[1:])
    kept = min(len(old), len(rows))
    rows[:kept] = old[:kept]
    for index, pieces in extension.pieces.items():
        rows[index] = old[list(pieces)].mean(dim=0)
    return rows


def _weights_hash(checkpoint: Checkpoint) -> str | None:
    """SHA-256 of the weights file that a checkpoint was loaded from, if its folder tells."""
    folder = checkpoint.path
    if folder is None or not (folder / INTEGRITY).is_file():
        return None
    return verify(folder, thorough=False).get(FILE_NAME)
