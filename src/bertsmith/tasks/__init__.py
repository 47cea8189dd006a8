"""Tasks: what a model is fine-tuned for, from people's own files to predictions. Fine-tuning starts at `finetuning.py`.

task.py             what a task is
classification.py   one label of several, for a text or a pair
multilabel.py       any number of labels for a text
regression.py       a number, for a text or a pair
tagging.py          a tag for each word; schemes.py: what tags say of entities
spans.py            an answer out of a text; squad.py: how good answers are
choice.py           one of several options
prediction.py       what is predicted, and how good that is
reading.py          examples and texts from files; data/records.py: rows of them; data/columns.py: which column holds what
writing.py          predictions as files; mistakes.py: those that are wrong
survey.py           what is in the files, told before training
starting.py         a pretrained model under a new head; its random twin
finetuning.py       training, several seeds, the best epoch
search.py           the paper's grid, and the learning curve
result.py           what came out
predictor.py        predictions and evaluation
metrics.py          accuracy, F1, correlations
adapting.py         vectors for texts of one's own; views.py: what belongs together without labels
filling.py          filling masks, which needs no fine-tuning
heldout.py          a pretrained model's loss on plain text
pseudo_likelihood.py  how likely a pretrained model finds a sentence
minimal_pairs.py    which of two sentences it finds likelier
"""

from bertsmith.data.columns import Columns, Layout
from bertsmith.tasks.adapting import Adapted, Adapting, AdaptReport, Alike
from bertsmith.tasks.choice import Choice
from bertsmith.tasks.classification import Classify, Pair
from bertsmith.tasks.filling import Candidate, encode_masks, fill, fill_encodings
from bertsmith.tasks.finetuning import Finetuning, Report, default_learning_rate
from bertsmith.tasks.heldout import masked_lm_loss
from bertsmith.tasks.minimal_pairs import (
    Accuracy,
    PairScores,
    Paradigm,
    holds_minimal_pairs,
    read_minimal_pairs,
    score_minimal_pairs,
)
from bertsmith.tasks.mistakes import Mistake, find_mistakes
from bertsmith.tasks.multilabel import Multilabel
from bertsmith.tasks.prediction import Entity, Evaluation, LabelScores, Prediction, TaggedWord
from bertsmith.tasks.predictor import Predictor
from bertsmith.tasks.pseudo_likelihood import PseudoLikelihoods, pseudo_likelihoods
from bertsmith.tasks.reading import Labelled, LabelledText, UnlabelledTexts, read_labelled, read_texts
from bertsmith.tasks.regression import Regress
from bertsmith.tasks.result import Finetuned, SeedRun
from bertsmith.tasks.scoring import score
from bertsmith.tasks.search import (
    CurvePoint,
    Grid,
    Trial,
    best_trial,
    curve_lines,
    curve_point,
    learning_curve,
    search,
    twice_the_labels,
)
from bertsmith.tasks.spans import Span
from bertsmith.tasks.starting import random_twin
from bertsmith.tasks.survey import FileSurvey, Survey
from bertsmith.tasks.tagging import Tag
from bertsmith.tasks.task import Answer, Label, Task, Texts, find_task
from bertsmith.tasks.views import Crops, SameText, Views
from bertsmith.tasks.words import Words
from bertsmith.tasks.writing import written
from bertsmith.text.windows import Cutter, Window

__all__ = [
    "Accuracy",
    "AdaptReport",
    "Adapted",
    "Adapting",
    "Alike",
    "Answer",
    "Candidate",
    "Choice",
    "Classify",
    "Columns",
    "Crops",
    "CurvePoint",
    "Cutter",
    "Entity",
    "Evaluation",
    "FileSurvey",
    "Finetuned",
    "Finetuning",
    "Grid",
    "Label",
    "LabelScores",
    "Labelled",
    "LabelledText",
    "Layout",
    "Mistake",
    "Multilabel",
    "Pair",
    "PairScores",
    "Paradigm",
    "Prediction",
    "Predictor",
    "PseudoLikelihoods",
    "Regress",
    "Report",
    "SameText",
    "SeedRun",
    "Span",
    "Survey",
    "Tag",
    "TaggedWord",
    "Task",
    "Texts",
    "Trial",
    "UnlabelledTexts",
    "Views",
    "Window",
    "Words",
    "best_trial",
    "curve_lines",
    "curve_point",
    "default_learning_rate",
    "encode_masks",
    "fill",
    "fill_encodings",
    "find_mistakes",
    "find_task",
    "holds_minimal_pairs",
    "learning_curve",
    "masked_lm_loss",
    "pseudo_likelihoods",
    "random_twin",
    "read_labelled",
    "read_minimal_pairs",
    "read_texts",
    "score",
    "score_minimal_pairs",
    "search",
    "twice_the_labels",
    "written",
]
