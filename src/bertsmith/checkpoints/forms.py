"""Which class of models in transformers a model of ours is, if it is one: its names of tensors, and its `config.json`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bertsmith import nn
from bertsmith.checkpoints import huggingface_form, huggingface_names, modernbert
from bertsmith.checkpoints.transforms import Transform
from bertsmith.text import Vocabulary


@dataclass(frozen=True)
class Form:
    """A class of models in transformers.

    `obstacle` says why a model is none, or None. The rest is for models without one: `write_config(config, labels,
    vocabulary)` gives the content of `config.json`, `transforms` the table of tensors, `architecture` the class by name.
    `inputs` are what its classes take of what a tokenizer gives; None is everything. Where `heads_transform`, a head of
    fine-tuning transforms states as masked LM does, and there is no pooler.
    """

    name: str
    obstacle: Callable[[nn.Model.Config], str | None]
    write_config: Callable[[nn.Model.Config, tuple[str, ...] | None, Vocabulary], dict[str, Any]]
    transforms: Callable[[nn.Model.Config], list[Transform]]
    architecture: Callable[[nn.Model.Config], str]
    inputs: tuple[str, ...] | None = None
    heads_transform: bool = False


FORMS = (
    Form(
        "BERT",
        huggingface_form.obstacle,
        lambda config, labels, vocabulary: huggingface_form.write_config(
            config, labels=labels, pad_token_id=vocabulary.pad_id
        ),
        huggingface_names.transforms,
        huggingface_form.architecture,
    ),
    Form(
        "ModernBERT",
        modernbert.obstacle,
        lambda config, labels, vocabulary: modernbert.write_config(config, vocabulary, labels),
        modernbert.transforms,
        modernbert.architecture,
        inputs=("input_ids", "attention_mask"),
        heads_transform=True,
    ),
)


def form_of(config: nn.Model.Config) -> Form | None:
    """The form that a model of this shape has in transformers, or None."""
    return next((form for form in FORMS if form.obstacle(config) is None), None)


def obstacles(config: nn.Model.Config) -> str:
    """Why a model of this shape has no form."""
    return "; ".join(f"it is no {form.name}: {form.obstacle(config)}" for form in FORMS)
