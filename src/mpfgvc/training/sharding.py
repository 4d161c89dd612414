"""Training with the tensors of a stage spread over the processes (FSDP2), for towers that do not fit.

Of N processes each keeps 1/N of every weight, its gradient and the optimiser's state. The weights of one
unit, a block of a tower, are gathered for its forward and its backward pass and let go again; gradients are
summed and spread after each micro-batch.

What computes a step is a twin of the stage: the same modules over spread tensors. The stage itself is empty
meanwhile. It gets its whole weights back where it is validated, and at the end. So nothing that looks at a
network has to know of sharding, and processes may evaluate different numbers of batches; but each must be
able to hold all weights once, without gradients and optimiser.

A checkpoint holds whole tensors (spread_tensors.py) and is the same file as without sharding: any number of
processes can go on from it, with sharding or without.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lightning_fabric import Fabric
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mpfgvc.devices import sharding_mesh
from mpfgvc.training.spread_tensors import whole
from mpfgvc.training.stages import Stage


class Placement:
    """Where a stage is trained: `module` computes a step, the stage itself or, with sharding, its twin."""

    def __init__(self, stage: Stage, fabric: Fabric):
        self.stage = self.module = stage
        mesh = sharding_mesh(fabric)
        if mesh is not None:
            self.module = _twin(stage)
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


def _twin(stage: Stage) -> Stage:
    """A copy of a stage over the very tensors of the stage."""
    tensors = [*stage.parameters(), *stage.buffers()]
    return copy.deepcopy(stage, {id(tensor): tensor for tensor in tensors})


def _shard(unit: nn.Module, mesh: DeviceMesh) -> None:
    """Spread what is not yet spread in a unit, and let the whole tensors go."""
    tensors = [parameter for parameter in unit.parameters() if not isinstance(parameter, DTensor)]
    fully_shard(unit, mesh=mesh)
    _empty(tensors)


def _empty(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.data = parameter.new_empty(0)
