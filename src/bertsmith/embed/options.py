"""How texts become vectors: one value, whose choices are parts."""

from dataclasses import dataclass

from bertsmith.config import Part, require
from bertsmith.embed.lanes import Float32, Lane
from bertsmith.nn import LayerChoice, OutputLayer, Pooling
from bertsmith.text import Cutter, Tokenizer, Window

Text = str | tuple[str, str]
"""A text, or a pair of texts that the model reads as one sequence: [CLS] first [SEP] second [SEP]."""


class LongTexts(Part):
    """What is done with texts that are longer than the model reads."""

    def windows(self, text: Text, tokenizer: Tokenizer, max_length: int) -> tuple[Window, ...]:
        """What the model reads of `text`, each at most `max_length` tokens.

        The vectors of several windows become one: their mean, each weighted by how many tokens it shows of the text.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Cut(LongTexts, kind="cut"):
    """The beginning is read and the rest is cut, as sentence-transformers does; of a pair, the longer text is shortened."""

    def windows(self, text: Text, tokenizer: Tokenizer, max_length: int) -> tuple[Window, ...]:
        first, second = text if isinstance(text, tuple) else (text, None)
        encoding = tokenizer.encode(first, second, special_tokens=True, max_length=max_length)
        return (Window(encoding, 0, len(encoding)),)


@dataclass(frozen=True)
class Windows(LongTexts, kind="windows"):
    """All of it is read, in windows of full length that are spread evenly; see `bertsmith.text.Cutter`."""

    stride: int | None = None

    def windows(self, text: Text, tokenizer: Tokenizer, max_length: int) -> tuple[Window, ...]:
        cutter = Cutter(tokenizer, max_length, self.stride)
        return cutter.pair(*text) if isinstance(text, tuple) else cutter.text(text)


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How texts become vectors. What is None is as the model's own folder says.

    Attributes:
        pooling: how the vectors of a text's tokens become one.
        layers: whose hidden states are pooled.
        normalize: whether vectors are brought to length 1. None leaves token and word vectors as they are.
        dimensions: how many numbers to keep of each vector, from its first; then it is brought to length 1, if at all. It
            is for models trained for that (Kusupati et al. 2022, "Matryoshka Representation Learning", §3).
        long: what is done with texts over the model's length.
        lane: in which numbers they are computed: exactly, or faster. One that this machine cannot go down gives way to
            float32, and `Embedder.lane` says which it is.
    """

    pooling: Pooling | None = None
    layers: LayerChoice = OutputLayer()
    normalize: bool | None = None
    dimensions: int | None = None
    long: LongTexts = Cut()
    lane: Lane = Float32()

    def __post_init__(self) -> None:
        least = self.dimensions is None or self.dimensions > 0
        require(least, "dimensions", f"expected at least 1, got {self.dimensions}")
