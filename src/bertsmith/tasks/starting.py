"""What fine-tuning starts from: pretrained weights under a new head, or the same model without its pretraining."""

from dataclasses import replace

from bertsmith.checkpoints import Checkpoint
from bertsmith.nn import Model, ScalarMix
from bertsmith.tasks.task import Task


def random_twin(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same model, tokenizer and settings with weights as they were before any training.

    Fine-tuned by the same code on the same examples, it shows what the pretraining is worth.
    """
    model = checkpoint.model.config.initialized(seed).eval()
    return replace(checkpoint, model=model, task=None, lineage={"random": {"seed": seed}}, path=None)


def with_new_head(checkpoint: Checkpoint, task: Task, seed: int, *, freeze: bool = False) -> Model:
    """The checkpoint's encoder, and its pooler if the head wants one, under a new head for `task`; the rest stays behind.

    What is new is initialized as a pure function of `seed`. With `freeze` the encoder is not to be trained, and the head reads
    a mix of its layers.
    """
    objective = task.objective()
    config = Model.Config(
        encoder=checkpoint.model.config.encoder,
        pooler=objective.needs_pooler,
        heads={objective.kind: objective.head()},
        mix=ScalarMix.Config() if freeze else None,
    )
    model = config.initialized(seed)
    kept = {
        name: tensor
        for name, tensor in checkpoint.model.state_dict().items()
        if name.startswith("encoder.") or (objective.needs_pooler and name.startswith("pooler."))
    }
    model.load_state_dict({**model.state_dict(), **kept})
    model.encoder.requires_grad_(not freeze)
    return model
