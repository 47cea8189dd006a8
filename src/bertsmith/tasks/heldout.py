"""A pretrained model's loss on plain text: hidden tokens, always the same ones."""

from pathlib import Path
from tempfile import TemporaryDirectory

from bertsmith.data import Corpus, Loader, Masking, Segments, Shards, prepare
from bertsmith.data.corpora import Paths
from bertsmith.errors import UsageError
from bertsmith.nn import Model
from bertsmith.objectives import MaskedLM
from bertsmith.progress import Progress, silent
from bertsmith.tasks.scoring import for_prediction
from bertsmith.text import Tokenizer
from bertsmith.train import Measure, evaluate
from bertsmith.train.session import HELDOUT_BATCH, HELDOUT_RATE, HELDOUT_SEED


def masked_lm_loss(
    model: Model,
    tokenizer: Tokenizer,
    corpus: Corpus | Paths,
    *,
    length: int = 128,
    progress: Progress = silent,
) -> Measure:
    """Mean loss in nats and share of right guesses, where 15 % of the tokens of a text are hidden by BERT's rules.

    The text is cut into runs of whole sentences; which tokens are hidden depends on the text, the tokenizer and `length`
    alone. So models with one tokenizer compare, and losses of different tokenizers do not.

    Args:
        model: with a masked-LM head.
        tokenizer: the model's.
        corpus: files or folders; a `Corpus` where their format must be told.
        length: tokens a run, at most, special ones included; at most as many as the model reads.
        progress: hears "preparing" in documents.

    Raises:
        UsageError: the model has no masked-LM head, or reads fewer tokens than `length`.
        DataError: the text cannot be used.
    """
    if "masked_lm" not in model.heads:
        raise UsageError(
            "This model has no masked-LM head, so it has no loss on text. Use one that was pretrained for it."
        )
    if length > model.encoder.config.max_length:
        raise UsageError(f"length {length}: this model reads at most {model.encoder.config.max_length} tokens.")
    with TemporaryDirectory() as folder, for_prediction(model):
        prepare(corpus, tokenizer, Path(folder) / "shards", heldout=0, progress=progress)
        shards = Shards.load(Path(folder) / "shards", thorough=False)
        loader = Loader(shards, Segments(), length=length, seed=HELDOUT_SEED)
        measures = evaluate(model, (MaskedLM(),), list(loader.one_epoch(HELDOUT_BATCH, Masking(rate=HELDOUT_RATE))))
    assert measures is not None
    return measures["masked_lm"]
