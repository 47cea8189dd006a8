"""Training: recipes and their stages, the loop, optimizers, schedules, runs that can be resumed."""

from bertsmith.train.distributed import find_team, leave
from bertsmith.train.log import Log, read_log
from bertsmith.train.loop import Loop, Measure, NotFinite, OutOfMemory, Step, Stop, evaluate
from bertsmith.train.measuring import Measured
from bertsmith.train.memory import keep_freed_memory
from bertsmith.train.optimizers import AdamW, BertAdamW, Muon, NorMuon, Optimizer
from bertsmith.train.pretraining import Pretraining
from bertsmith.train.references import reference_losses
from bertsmith.train.schedules import Constant, Schedule, WarmupLinear, WarmupStableDecay
from bertsmith.train.session import Report
from bertsmith.train.stage import Recipe, Stage, find_device, precision_dtype
from bertsmith.train.team import Team

__all__ = [
    "AdamW",
    "BertAdamW",
    "Constant",
    "Log",
    "Loop",
    "Measure",
    "Measured",
    "Muon",
    "NorMuon",
    "NotFinite",
    "Optimizer",
    "OutOfMemory",
    "Pretraining",
    "Recipe",
    "Report",
    "Schedule",
    "Stage",
    "Step",
    "Stop",
    "Team",
    "WarmupLinear",
    "WarmupStableDecay",
    "evaluate",
    "find_device",
    "find_team",
    "keep_freed_memory",
    "leave",
    "precision_dtype",
    "read_log",
    "reference_losses",
]
