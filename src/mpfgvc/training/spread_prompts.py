"""Class prompts spread over processes: each encodes its share, and all get the features of all.

    process r of R encodes the classes r n .. (r + 1) n - 1,  n = ceil(C / R)
    T = all features, put together;  dL/dT of every process goes back to the one that encoded them

So a step with C classes costs each process the memory and time of C / R prompts. It is exact: the gradient
of X^c is the sum over the processes, which DDP divides by R, as it would be if each had encoded them all.
X itself and its optimiser state are still whole in every process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.distributed as distributed
from jaxtyping import Float, Int
from torch import Tensor

from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.processes import Processes

Gather = Callable[[Tensor], Sequence[Tensor]]
"""The tensors of all processes, in the order of their ranks; gradients go back to the process they are of."""


class _Gather(torch.autograd.Function):
    """torch.distributed.nn has the same, but is deprecated in torch 2.13 for names that 2.11 has not."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> tuple[Tensor, ...]:
        found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(found, own.contiguous())
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = torch.stack(gradients)
        distributed.all_reduce(total)
        return total[distributed.get_rank()]


def gather(own: Tensor) -> Sequence[Tensor]:
    """The tensors of all processes, as `Gather` says."""
    return cast("Sequence[Tensor]", _Gather.apply(own))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """This process is `rank` of `processes` that encode the class prompts together.

    Every process must make the same calls in the same order, with the same classes.
    """

    rank: int = 0
    processes: int = 1
    gather: Gather = gather

    @classmethod
    def here(cls) -> Self:
        """Over the processes that torchrun or srun started."""
        processes = Processes.here()
        return cls(rank=processes.rank, processes=processes.world)

    def text_features(
        self, prompts: ClassPrompts, classes: Int[Tensor, " sampled"] | None = None
    ) -> Float[Tensor, "sampled embed"]:
        """T^c of all classes, or of some in their order, as `prompts` itself would give them."""
        if self.processes == 1:
            return self._encoded(prompts, classes)
        if classes is None:
            classes = torch.arange(len(prompts.context), device=prompts.context.device)
        share = -(-len(classes) // self.processes)
        indices = torch.arange(share, device=classes.device) + self.rank * share
        # The last process may have fewer; it encodes the last class again, and nobody reads it.
        own = self._encoded(prompts, classes[indices.clamp(max=len(classes) - 1)])
        return torch.cat(tuple(self.gather(own)))[: len(classes)]

    def of_all(self, values: Tensor) -> Tensor:
        """The values of all processes, one behind the other; each has equally many."""
        return values if self.processes == 1 else torch.cat(tuple(self.gather(values)))

    def of_first(self, values: Tensor) -> Tensor:
        """The values of the first process."""
        return values if self.processes == 1 else self.gather(values)[0]

    @staticmethod
    def _encoded(prompts: ClassPrompts, classes: Int[Tensor, " sampled"] | None) -> Float[Tensor, "sampled embed"]:
        features: Tensor = prompts(classes)
        return features


ALONE = Spread()
"""One process, which encodes all prompts."""
