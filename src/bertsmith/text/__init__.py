"""Text: vocabularies, BERT's tokenizer, sentences. Nothing here needs torch."""

from bertsmith.text.encoding import Encoding
from bertsmith.text.tokenizer import Tokenizer
from bertsmith.text.vocabulary import SPECIAL_TOKENS, Vocabulary

__all__ = ["SPECIAL_TOKENS", "Encoding", "Tokenizer", "Vocabulary"]
