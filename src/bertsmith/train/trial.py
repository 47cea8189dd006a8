"""Every stage of a recipe is tried on a handful of text before a run begins: what cannot work must not take hours to say so."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from bertsmith.data import Loader, Shards
from bertsmith.errors import ConfigError, TrainingError
from bertsmith.nn import Model
from bertsmith.objectives import Losses
from bertsmith.train.memory import is_out_of_memory, machine_memory
from bertsmith.train.stage import Recipe

_DOCUMENTS = 16


@contextmanager
def going_together(path: str) -> Iterator[None]:
    """Whatever goes wrong in here is the fault of the configuration at `path`.

    Raises:
        ConfigError: instead of any error that is not on purpose.
        TrainingError: memory runs out.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise TrainingError(f"{path}: it does not fit into memory. Train something smaller.") from error
        said = str(error).strip().partition("\n")[0].rstrip(".")
        raise ConfigError(f"{path}: its parts do not go together ({type(error).__name__}: {said}).") from error


def new_model(recipe: Recipe, vocab_size: int) -> Model:
    """The recipe's model with its starting weights, unless this machine cannot train it.

    Raises:
        ConfigError: its parts do not go together.
        TrainingError: its weights and their gradients alone are more than the memory of this machine.
    """
    wanted = recipe.model(vocab_size)
    with going_together("encoder"):
        with torch.device("meta"):
            needed = 2 * sum(weight.nbytes for weight in wanted.build().parameters())
        there_is = machine_memory(torch.device("cpu"))
        if needed > there_is:
            raise TrainingError(
                f"encoder: its weights and their gradients take {needed / 2**30:,.0f} GiB, and this machine has "
                f"{there_is / 2**30:,.0f}. Train something smaller."
            )
        return wanted.initialized(recipe.seed)


@torch.no_grad()
def try_stages(recipe: Recipe, shards: Shards, model: Model) -> None:
    """One sequence through the model and the objectives of each stage, without a trace.

    Raises:
        ConfigError: parts of a stage do not go together.
        TrainingError: not even one sequence fits into memory.
    """
    few, device = shards.head(_DOCUMENTS), next(model.parameters()).device
    model.eval()
    for number, stage in enumerate(recipe.stages):
        loader = Loader(few, stage.instances, length=stage.length, seed=recipe.seed)
        draws = replace(stage.draws, batch_size=1, initial_batch_size=None)
        with going_together(f"stages.{number}"):
            (batch,) = next(loader.steps(draws)).batches
            Losses(model, stage.objectives)(batch.to(device))
