"""What a model is trained to do: masked LM, next sentence, and the fine-tuning objectives."""

from bertsmith.objectives.masked_lm import MaskedLM
from bertsmith.objectives.next_sentence import NextSentence
from bertsmith.objectives.objective import Loss, Losses, Objective, View
from bertsmith.objectives.sequence_label import SequenceLabel, SequenceScore

__all__ = ["Loss", "Losses", "MaskedLM", "NextSentence", "Objective", "SequenceLabel", "SequenceScore", "View"]
