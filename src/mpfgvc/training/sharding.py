"""Training with the tensors of a stage spread over the processes (FSDP2), for towers that do not fit.

Of N processes each keeps 1/N of every weight, its gradient and the optimiser's state. The weights of one
unit, a block of a tower, are gathered for its forward and its backward pass and let go again; gradients are
summed and spread after each micro-batch.

A twin of the stage computes a step: the same modules over spread tensors. The stage itself is empty
meanwhile, and gets its whole weights back where it is validated, and at the end. So nothing that looks at a
network has to know of sharding; but each process must be able to hold all weights once, without gradients
and optimiser. A checkpoint holds whole tensors and is the same file as without sharding: any number of
processes can go on from it. The functions on tensors take whole ones as well and leave them as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from mpfgvc.distributed import sharding_mesh
from mpfgvc.training.stages import Stage

Values = TypeVar("Values")


class Placement:
    """Where a stage is trained: `module` computes a step, the stage itself or, with sharding, its twin."""

    def __init__(self, stage: Stage, fabric: Fabric):
        self.stage = self.module = stage
        mesh = sharding_mesh(fabric)
        if mesh is not None:
            tensors = [*stage.parameters(), *stage.buffers()]
            self.module = copy.deepcopy(stage, {id(tensor): tensor for tensor in tensors})
            # What is in no unit is gathered for the whole of a step.
            for unit in [*self.module.units(), self.module]:
                _shard(unit, mesh)

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds only its share."""
        return self.module is not self.stage

    def put_back(self) -> None:
        """Give the stage all its weights, as they are now. All processes take part."""
        if self.is_sharded:
            spread = dict(self.module.named_parameters())
            for name, parameter in self.stage.named_parameters():
                parameter.data = whole(spread[name].detach())

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Within the block the stage has all its weights, as they are now. All processes enter it."""
        self.put_back()
        try:
            yield
        finally:
            if self.is_sharded:
                _empty(self.stage.parameters())


def _shard(unit: nn.Module, mesh: DeviceMesh) -> None:
    """Spread what is not yet spread in a unit, and let the whole tensors go."""
    tensors = [parameter for parameter in unit.parameters() if not isinstance(parameter, DTensor)]
    fully_shard(unit, mesh=mesh)
    _empty(tensors)


def _empty(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.data = parameter.new_empty(0)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process. All of them take part."""
    if not isinstance(tensor, DTensor):
        return tensor
    return cast("DTensor", tensor.to(tensor.device_mesh.device_type)).full_tensor()


def gathered(values: Values, *, keep: bool) -> Values:
    """Nested dictionaries of tensors with every spread one whole, one by one, on the CPU.

    All processes take part; those that do not `keep` the tensors get empty ones.
    """

    def gather(spread: DTensor) -> Tensor:
        everything = whole(spread)
        return everything.cpu() if keep else torch.empty(0)

    result: Values = tree_map_only(DTensor, gather, values)
    return result


@torch.no_grad()
def copy_into(targets: dict[str, Tensor] | dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Copy values into the tensors of the same names, in place; of spread ones, this process's share."""
    for name, target in targets.items():
        target.copy_(_share_of(values[name], target))


def shares_of_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of an optimiser with whole tensors, as an optimiser of spread weights loads it."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    shares = {
        index: {
            name: _share_of(value, weights[index]) if value.shape == weights[index].shape else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": shares}


def _share_of(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process holds of `like`."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    # Every process has the whole, so nothing is sent. The copy lets go of the rest of it.
    spread = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return spread.clone()
