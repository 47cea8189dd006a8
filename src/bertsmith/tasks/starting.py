"""What fine-tuning starts from: pretrained weights under a new head, or the same model without its pretraining."""

from dataclasses import replace

from bertsmith.checkpoints import Checkpoint
from bertsmith.checkpoints.forms import form_of
from bertsmith.nn import MaskedLMHead, Model, ScalarMix
from bertsmith.tasks.task import Task


def random_twin(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same model, tokenizer and settings with weights as they were before any training.

    Fine-tuned by the same code on the same examples, it shows what the pretraining is worth.
    """
    model = checkpoint.model.config.initialized(seed).eval()
    return replace(checkpoint, model=model, task=None, lineage={"random": {"seed": seed}}, path=None)


def with_new_head(checkpoint: Checkpoint, task: Task, seed: int, *, freeze: bool = False) -> Model:
    """The checkpoint's encoder under a new head for `task`, with what else the head can use; the rest stays behind.

    What it can use is the pooler, if the head wants one; for a ModernBERT's head, the transform of masked LM. What is new is
    initialized as a pure function of `seed`. With `freeze` the encoder is not to be trained, and the head reads a mix of
    its layers.
    """
    objective, before = task.objective(), checkpoint.model.config
    form = form_of(Model.Config(encoder=before.encoder, pooler=False))
    pooler, head, old_names = objective.needs_pooler, objective.head(), {"pooler.": "pooler."}
    assert head is not None, "a task has a head"
    if form is not None and form.heads_transform:
        masked_lm = before.heads.get("masked_lm")
        activation = masked_lm.activation if isinstance(masked_lm, MaskedLMHead.Config) else "gelu"
        pooler, head = False, replace(head, transform=activation)
        old_names = {
            f"heads.masked_lm.{part}.": f"heads.{objective.kind}.transform.{part}." for part in ("dense", "norm")
        }
    mix = ScalarMix.Config() if freeze else None
    config = Model.Config(encoder=before.encoder, pooler=pooler, heads={objective.kind: head}, mix=mix)
    model = config.initialized(seed)
    weights = model.state_dict()
    for name, tensor in checkpoint.model.state_dict().items():
        for old, new in {"encoder.": "encoder.", **old_names}.items():
            if name.startswith(old) and (renamed := new + name.removeprefix(old)) in weights:
                weights[renamed] = tensor
    model.load_state_dict(weights)
    model.encoder.requires_grad_(not freeze)
    return model
