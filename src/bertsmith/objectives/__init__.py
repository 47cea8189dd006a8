"""What a model is trained to do: masked LM, causal LM, next sentence, contrastive vectors, and the fine-tuning objectives."""

from bertsmith.objectives.causal_lm import CausalLM
from bertsmith.objectives.contrastive import Contrastive
from bertsmith.objectives.masked_lm import MaskedLM
from bertsmith.objectives.next_sentence import NextSentence
from bertsmith.objectives.objective import Loss, Losses, Objective, View
from bertsmith.objectives.sequence_label import MultiLabel, MultipleChoice, SequenceLabel, SequenceScore
from bertsmith.objectives.token_label import AnswerSpan, TokenLabel

__all__ = [
    "AnswerSpan",
    "CausalLM",
    "Contrastive",
    "Loss",
    "Losses",
    "MaskedLM",
    "MultiLabel",
    "MultipleChoice",
    "NextSentence",
    "Objective",
    "SequenceLabel",
    "SequenceScore",
    "TokenLabel",
    "View",
]
