"""Several processes, on one machine or on many, that train one model.

`torchrun` starts them and says by environment variables which is which; so can any launcher. Numbers and short texts travel
between CPUs by gloo, gradients on GPUs by NCCL. Nothing here is pickled.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Never, cast
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from bertsmith import errors
from bertsmith.errors import BertsmithError, TrainingError, UsageError
from bertsmith.folders import cannot_write, publish
from bertsmith.nn import Block, Model
from bertsmith.train.rows import whole
from bertsmith.train.stage import find_device
from bertsmith.train.team import Team

PATIENCE = 600.0  # seconds that a process waits for another before it takes it for dead


class Lost(TrainingError):
    """Another process of the team has died, or has not been heard of for too long."""


@contextmanager
def find_team(device: str = "cpu", *, sharded: bool = False, patience: float = PATIENCE) -> Iterator[Team]:
    """The team that this process was started in: by RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and
    MASTER_PORT, which torchrun sets. A team of one where RANK is not set.

    `device` "cuda" becomes each process's own. With `sharded`, weights, gradients and moments are divided over the team. An
    error that another process tells of ends this one with its exit code alone. A script of one's own should end by `leave`.

    Raises:
        UsageError: the environment is incomplete, or there is no such device.
        Lost: not all processes came, or later one died or said nothing for `patience` seconds.
    """
    if "RANK" not in os.environ:
        yield Team(device)
        return
    rank, world, local_rank, local_world = (
        _number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    own = f"cuda:{local_rank}" if device == "cuda" else device
    on_gpu = find_device(own).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(own)
    else:
        _share_cores(local_world)
    wait = timedelta(seconds=patience)
    with _losses(patience):
        launcher, _, _ = next(rendezvous("env://", timeout=wait))
        store = PrefixStore(_met(launcher, rank, world, patience), launcher)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=world, timeout=wait
        )
    team = (Sharded if sharded else DataParallel)(own, rank, world, store)
    try:
        with _losses(patience):
            yield team
    except BertsmithError as error:
        if team.first_to_say(error):
            raise
        raise SystemExit(error.exit_code) from None
    # Not after an error: a group that has lost somebody may wait for him once more.
    dist.destroy_process_group()


def leave(exit_code: int) -> Never:
    """End a process that was in a team of several, without the interpreter's own end.

    A thread of gloo may still hold the last tensors it has sent. If it lets go of them while Python shuts down, Python ends
    the thread in the middle of C++, and that ends the process by SIGABRT (seen with torch 2.13 on a busy machine).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise UsageError(f"RANK is set, so this is one of several processes, but {name} is {value!r}. Use torchrun.")
    return int(value)


def _met(store: Store, rank: int, world: int, patience: float) -> str:
    """Wait for all processes of the team; a name for it that no other team has had.

    The launcher's store outlives a restart, with all that the processes of before have put there. So each process asks by a
    name of its own, and goes by the answer to that name only.
    """
    own = f"bertsmith/{uuid4().hex}"
    if rank:
        store.set(f"bertsmith/asks/{rank}", own)
        team = store.get(f"{own}/answer").decode()
        store.set(f"{team}/came/{rank}", "")
        return team
    missing, deadline = set(range(1, world)), time.monotonic() + patience
    while missing:
        for other in missing:
            if store.check([f"bertsmith/asks/{other}"]):
                store.set(f"{store.get(f'bertsmith/asks/{other}').decode()}/answer", own)
        missing = {other for other in missing if not store.check([f"{own}/came/{other}"])}
        if time.monotonic() > deadline:
            raise Lost(f"{len(missing)} of {world} processes did not come within {patience:,.0f} seconds.")
        time.sleep(0.02)
    return own


def _share_cores(processes: int) -> None:
    """Divide this machine's cores, unless OMP_NUM_THREADS does. torchrun sets it to 1 where it was not set."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))


@contextmanager
def _losses(patience: float) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(
            name in str(error) for name in ("gloo", "NCCL", "TCPStore")
        ):
            raise
        raise Lost(
            f"Another process of this run has ended, or has said nothing for {patience:,.0f} seconds. Start all of them again "
            "with --resume: the run goes on at its newest checkpoint."
        ) from error


class DataParallel(Team):
    """Every process holds the whole model and works on its share of each step's examples (torch's DDP)."""

    def __init__(self, device: str, rank: int, world: int, store: Store) -> None:
        super().__init__(device)
        self.rank = rank
        self.world = world
        self._store = store

    def sum(self, values: list[float]) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def most(self, value: int) -> int:
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def agree(self, facts: Mapping[str, str]) -> None:
        for name, value in facts.items():
            said = self._exchange(value if len(value) < 100 else _digest(value))
            for rank, other in enumerate(said):
                if other != said[0]:
                    raise UsageError(
                        f"The processes of this run differ in {name}: process 0 has {said[0]}, process {rank} has {other}. "
                        "All need the same command and the same files, in a folder that every machine sees."
                    )

    def wrap(self, module: nn.Module) -> nn.Module:
        # With `find_unused_parameters`, which a head that a stage does not train needs anyway, DDP keeps the buckets it
        # begins with. Otherwise it sorts them anew after the first step, and a resumed run would add in another order.
        # It warns where nothing is unused, so something always is: four bytes.
        module.register_parameter("unused", nn.Parameter(torch.zeros(1, device=self.device)))
        return DistributedDataParallel(module, find_unused_parameters=True)

    def adds_up(self, module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else cast(DistributedDataParallel, module).no_sync()

    def whole(self, model: Model) -> Model | None:
        return model.to("cpu") if self.rank == 0 else None

    @contextmanager
    def leader_first(self) -> Iterator[bool]:
        with self._together():
            yield self.rank == 0

    @contextmanager
    def publish(self, folder: Path) -> Iterator[Path | None]:
        with self.leader_first() as leads:
            if not leads:
                yield None
                return
            with publish(folder, replace=True) as temporary:
                yield temporary

    def first_to_say(self, error: BertsmithError) -> bool:
        """Whether no process has told of this error yet."""
        try:
            first = self._store.add("said", 1) == 1
            return first if isinstance(error, Lost) else self._store.add(f"said/{_digest(str(error))}", 1) == 1
        except RuntimeError:
            return True  # who kept count is gone

    @contextmanager
    def _together(self) -> Iterator[None]:
        """All processes leave this block together, and with an error if one of them met one."""
        failed = None
        try:
            yield
        except BertsmithError as error:
            failed = error
        said = self._exchange("" if failed is None else f"{type(failed).__name__}:{failed}")
        if failed is not None:
            raise failed
        for kind, _, message in (text.partition(":") for text in said if text):
            raise {"CheckpointError": errors.CheckpointError, "UsageError": UsageError}.get(kind, TrainingError)(
                message
            )

    def _exchange(self, text: str) -> list[str]:
        """What each process says, by rank."""
        own = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8)
        padded = torch.zeros(self.most(len(own)), dtype=torch.uint8)
        padded[: len(own)] = own
        gathered = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(gathered, padded)
        return [bytes(each.tolist()).partition(b"\0")[0].decode() for each in gathered]


class Sharded(DataParallel):
    """Each process holds a part of every parameter, gradient and moment, and borrows the others' block by block.

    torch's FSDP2. An optimizer updates its own part; Muon and NorMuon gather each matrix and all work it out.
    """

    def __init__(self, device: str, rank: int, world: int, store: Store) -> None:
        super().__init__(device, rank, world, store)
        self.pieces = world

    def place(self, model: Model, device: torch.device) -> Model:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(device.type, (self.world,))
        for block in [part for part in model.modules() if isinstance(part, Block)]:
            fully_shard(block, mesh=mesh)
        # What is outside the blocks stays gathered until the backward pass: heads use the token table after the encoder.
        fully_shard(model, mesh=mesh, reshard_after_forward=False)
        return model

    def wrap(self, module: nn.Module) -> nn.Module:
        return module

    def passes(self, own: int) -> int:
        return self.most(own)

    def adds_up(self, module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()  # every pass does: whole gradients would not fit

    def clip(self, model: nn.Module, norm: float) -> float:
        return whole(torch.nn.utils.clip_grad_norm_(model.parameters(), norm)).item()

    def at_rest(self, model: Model) -> None:
        cast(Any, model).reshard()

    def whole(self, model: Model) -> Model | None:
        state = {}
        for name, tensor in model.state_dict().items():
            gathered = whole(tensor)
            if self.rank == 0:
                state[name] = gathered.cpu()
        if self.rank:
            return None
        finished = model.config.build()
        finished.load_state_dict(state)
        return finished

    @contextmanager
    def publish(self, folder: Path) -> Iterator[Path | None]:
        with ExitStack() as published:
            temporary = ""
            with self.leader_first() as leads:
                if leads:
                    temporary = str(published.enter_context(publish(folder, replace=True)))
            temporary = self._exchange(temporary)[0]
            with self._together():
                try:
                    yield Path(temporary)
                except OSError as error:
                    raise cannot_write(folder, error) from error
            with self.leader_first():
                published.close()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
