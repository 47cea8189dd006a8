"""Muon: matrices are updated as matrices, in a direction whose singular values are all about 1.

The momentum of a hidden matrix is brought to the nearest (half-)orthogonal matrix by a few Newton-Schulz iterations, so that
rare directions of the gradient count as much as common ones (Jordan et al. 2024, kellerjordan.github.io/posts/muon). NorMuon
then evens out the neurons, the rows of the update, by a running mean of their squares (Li et al. 2025, arXiv 2510.05491).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from bertsmith.nn import Block, Linear
from bertsmith.train.rows import own_rows, whole

# x -> a x + b x³ + c x⁵, five times over: singular values from 0.003 up come to between 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
UPDATE_RMS = 0.2  # of AdamW's updates, about


def hidden_matrices(model: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """The weights of all linear layers in the model's blocks, and how many matrices are stacked in each."""
    linears = [
        part
        for block in model.modules()
        if isinstance(block, Block)
        for part in block.modules()
        if isinstance(part, Linear) and part.weight.requires_grad
    ]
    return list({id(linear.weight): (linear.weight, linear.stacked) for linear in linears}.values())


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the groups that have `stacked`, AdamW for the others; one learning rate serves both.

    For a matrix of m x n: `buffer += (1 - momentum) (g - buffer)`, `O = orthogonal(g + momentum (buffer - g))`,
    `p -= lr · rate_factor · (weight_decay · p + 0.2 √max(m, n) · O)`. That scale gives an update the root mean square of
    AdamW's, 0.2, so AdamW's learning rate and weight decay carry over (Liu et al. 2025, arXiv 2502.16982, §2.2; torch calls
    it `match_rms_adamw`). With `beta2`, each row of O is divided by the root of its running mean square, and the whole is
    scaled to that same root mean square again: NorMuon, algorithm 1.

    Of parameters that are divided over processes (DTensors), each process gathers all and works out all, and changes its own.

    The entries of `stacked` say how many matrices lie below each other in each parameter of the group. All matrices of one
    shape go through the iterations together, in `dtype`.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, dtype: torch.dtype) -> None:
        # "fused" tells torch to load AdamW's step counts to where the parameters are.
        super().__init__(groups, {"lr": 0.0, "fused": True})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            if "stacked" in group:
                self._muon(group)
            else:
                self._adamw(group)

    def _muon(self, group: dict[str, Any]) -> None:
        taken = [(p, n) for p, n in zip(group["params"], group["stacked"], strict=True) if p.grad is not None]
        stacks = []
        for p, stacked in taken:
            buffer = self._state(p, "momentum", p.shape).lerp_(p.grad, 1 - group["momentum"])
            stacks.append(whole(p.grad.lerp(buffer, group["momentum"])).unflatten(0, (stacked, -1)))
        rate = group["lr"] * group["rate_factor"]
        for (p, _), update in zip(taken, orthogonalized(stacks, self.dtype), strict=True):
            matrix = update.shape[1:]
            p.mul_(1 - rate * group["weight_decay"])
            own, first = own_rows(p)
            if group["beta2"] is None:
                update = update.flatten(0, 1)[first : first + len(own)]
                own.add_(update, alpha=-rate * UPDATE_RMS * max(matrix) ** 0.5)
            else:
                squares = self._state(p, "row_square", update.shape[:2])
                even = evened_out(update.float(), squares, group["beta2"])
                own.sub_(rate * UPDATE_RMS * even.flatten(0, 1)[first : first + len(own)])

    def _adamw(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        adamw(
            parameters,
            [p.grad for p in parameters],
            [self._state(p, "exp_avg", p.shape) for p in parameters],
            [self._state(p, "exp_avg_sq", p.shape) for p in parameters],
            [],
            [self._state(p, "step", ()) for p in parameters],
            fused=True,
            amsgrad=False,
            maximize=False,
            **{name: group[name] for name in ("lr", "beta1", "beta2", "eps", "weight_decay")},
        )

    def _state(self, p: Tensor, name: str, shape: Iterable[int]) -> Tensor:
        """A tensor of the state, which begins as zeros; it keeps the names of torch's AdamW."""
        if name not in self.state[p]:
            whole_shape = tuple(shape)
            # Of a divided parameter only what is shaped like it is divided too.
            self.state[p][name] = (
                torch.zeros_like(p) if whole_shape == tuple(p.shape) else torch.zeros(whole_shape, device=p.device)
            )
        return self.state[p][name]


def orthogonalized(stacks: Sequence[Tensor], dtype: torch.dtype) -> Iterator[Tensor]:
    """For each stack of matrices (k, m, n) its stack of U S' Vᵀ, S' near 1, where U S Vᵀ is the matrix; in `dtype`.

    All matrices of one shape, or of its transpose, are one batch.
    """
    wide = [stack.mT if stack.shape[1] > stack.shape[2] else stack for stack in stacks]
    shapes = [stack.shape[1:] for stack in wide]
    batches = {
        shape: newton_schulz(torch.cat([stack for stack in wide if stack.shape[1:] == shape]), dtype)
        for shape in dict.fromkeys(shapes)
    }
    places = dict.fromkeys(batches, 0)
    for given, stack, shape in zip(stacks, wide, shapes, strict=True):
        place = places[shape]
        places[shape] += len(stack)
        part = batches[shape][place : places[shape]]
        yield part.mT if given.shape[1:] != shape else part


def newton_schulz(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """`orthogonalized` for one batch of matrices (k, m, n) with m <= n."""
    a, b, c = COEFFICIENTS
    # The Frobenius norm is at least the largest singular value, which must not be over 1.
    x = (matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def evened_out(update: Tensor, squares: Tensor, beta2: float) -> Tensor:
    """Rows of (k, m, n) divided by the roots of their running mean squares (k, m), which are brought up to date.

    Each of the k matrices comes out with a root mean square of 1.
    """
    squares.lerp_(update.square().mean(-1), 1 - beta2)
    even = update / (squares.sqrt() + 1e-8)[..., None]
    return even / even.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-8)
