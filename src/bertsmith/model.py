"""A loaded model with everything it can do: what `bertsmith.load` returns."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.data.corpora import Corpus, Paths
from bertsmith.embed import Embedder, EmbedOptions, HiddenStates, Text, TokenVectors
from bertsmith.errors import DataError, UsageError
from bertsmith.progress import Progress, silent
from bertsmith.tasks import (
    Candidate,
    PairScores,
    Prediction,
    Predictor,
    PseudoLikelihoods,
    fill,
    masked_lm_loss,
    pseudo_likelihoods,
    read_minimal_pairs,
    score_minimal_pairs,
)
from bertsmith.tasks.pseudo_likelihood import Variant
from bertsmith.train import Measure


class LoadedModel:
    """An encoder with its tokenizer and heads.

    Every model embeds texts and shows its hidden states; one with a masked-LM head fills masks; a fine-tuned one predicts.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.tokenizer = checkpoint.tokenizer

    @cached_property
    def embedder(self) -> Embedder:
        """The text-to-vector runtime as the model's folder wants it, for streams of texts and counts of what was cut.

        For one with other options: `bertsmith.embed.Embedder(model.checkpoint, EmbedOptions(...))`.
        """
        return Embedder(self.checkpoint)

    @cached_property
    def predictor(self) -> Predictor:
        """The fine-tuned task's runtime, for files of texts and for evaluation."""
        return Predictor(self.checkpoint)

    def embed(self, texts: str | Sequence[Text], options: EmbedOptions | None = None) -> np.ndarray:
        """One vector for each text, float32 (texts, size); for a single string, (size,). A pair of texts is a tuple.

        Without `options` all is as the model's folder says, and what is longer than the model reads is cut.
        """
        embedder = self.embedder if options is None else Embedder(self.checkpoint, options)
        if isinstance(texts, str):
            return embedder.embed([texts]).vectors[0]
        return embedder.embed(texts).vectors

    def token_vectors(self, texts: Sequence[Text], options: EmbedOptions | None = None) -> list[TokenVectors]:
        """For each text or pair, the vectors of its tokens, with their places in characters."""
        return list(Embedder(self.checkpoint, options).token_vectors(texts))

    def word_vectors(self, texts: Sequence[Text], options: EmbedOptions | None = None) -> list[TokenVectors]:
        """For each text or pair, the vectors of its words: of each, the mean of its tokens'."""
        return list(Embedder(self.checkpoint, options).word_vectors(texts))

    def hidden_states(self, text: str) -> HiddenStates:
        """Every layer's state of every word: `.words`, and `.states` float32 (layers + 1, words, hidden_size).

        A text longer than the model's limit is cut, and `.truncated` says by how many tokens.
        """
        return self.embedder.hidden_states(text)

    def fill(self, text: str, *, k: int = 5) -> list[Candidate]:
        """The `k` likeliest tokens for the one `[MASK]` in `text`. For several masks see `fill_all`."""
        filled = self.fill_all(text, k=k)
        if len(filled) > 1:
            raise UsageError(f"There are {len(filled)} masks in {text[:80]!r}: use fill_all, which answers for each.")
        return filled[0]

    def fill_all(self, text: str, *, k: int = 5) -> list[list[Candidate]]:
        """For each `[MASK]` in `text`, from left to right, the `k` likeliest tokens."""
        return fill(self.checkpoint.model, self.tokenizer, text, k=k)

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """The fine-tuned head's answer for each text or pair of texts."""
        return self.predictor.predict(texts)

    def pseudo_likelihood(
        self, texts: Sequence[str], *, variant: Variant = "original", progress: Progress = silent
    ) -> PseudoLikelihoods:
        """How likely the masked-LM head finds each text, as `.log_likelihoods`: Σ log P(token | all the others)."""
        c = self.checkpoint
        return pseudo_likelihoods(c.model, c.tokenizer, texts, variant=variant, progress=progress)

    def evaluate_text(self, text: Corpus | Paths, *, length: int = 128, progress: Progress = silent) -> Measure:
        """The masked-LM head's mean loss in nats on plain text, and its share of right guesses; see `masked_lm_loss`."""
        c = self.checkpoint
        return masked_lm_loss(c.model, c.tokenizer, text, length=length, progress=progress)

    def evaluate_pairs(
        self,
        path: str | Path,
        *,
        limit: int | None = None,
        variant: Variant = "original",
        progress: Progress = silent,
    ) -> PairScores:
        """How often the grammatical one of two sentences is found likelier, for files such as BLiMP's.

        `limit` is the number of pairs to take of each file at most, the same ones each time.

        Raises:
            DataError: a file holds something else, or a sentence that is longer than the model reads.
        """

        def score(texts: Sequence[str]) -> np.ndarray:
            found = self.pseudo_likelihood(texts, variant=variant, progress=progress)
            if found.truncated.any():
                raise DataError(
                    f"{path}: this sentence is too long for the model: {texts[int(found.truncated.argmax())]!r:.80}"
                )
            return found.log_likelihoods

        return score_minimal_pairs(read_minimal_pairs(path), score, limit=limit)

    def __repr__(self) -> str:
        config: Any = self.checkpoint.model.config.encoder
        size = f"{config.num_hidden_layers} layers of {config.hidden_size}"
        return f"<bertsmith model {self.checkpoint.path}: {size}, {config.vocab_size} tokens>"


def load(path: str | Path) -> LoadedModel:
    """Load a model: a folder of bertsmith's own, a run folder, one from Hugging Face or sentence-transformers; or one that
    comes with bertsmith, by its name: `load("small-english")`.

    Raises:
        CheckpointError: the folder is missing, incomplete, damaged or of an unknown kind.
    """
    return LoadedModel(load_model(Path(path)))
