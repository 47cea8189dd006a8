"""Text: vocabularies and how they are learned, BERT's tokenizer, sentences. Nothing here needs torch."""

from bertsmith.text.counts import count_words
from bertsmith.text.encoding import Encoding
from bertsmith.text.extending import Extension, extend_vocabulary
from bertsmith.text.learner import learn_vocabulary
from bertsmith.text.sentences import split_sentences
from bertsmith.text.statistics import TextStatistics, measure
from bertsmith.text.tokenizer import Tokenizer
from bertsmith.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from bertsmith.text.windows import Cutter, Window

__all__ = [
    "SPECIAL_TOKENS",
    "Cutter",
    "Encoding",
    "Extension",
    "TextStatistics",
    "Tokenizer",
    "Vocabulary",
    "Window",
    "count_words",
    "extend_vocabulary",
    "learn_vocabulary",
    "measure",
    "split_sentences",
]
