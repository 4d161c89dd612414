"""Tensors that are spread over processes (sharding.py), and whole ones: from one to the other.

A spread tensor is a DTensor of which each process holds a part. Every function takes whole tensors as well
and leaves them as they are, so that the training loop reads the same with sharding and without.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

Values = TypeVar("Values")


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


def share_of(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process holds of `like`."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    # Every process has the whole, so nothing is sent. The copy lets go of the rest of it.
    spread = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return spread.clone()


def shares_of_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of an optimiser with whole tensors, as an optimiser of spread weights loads it."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    shares = {
        index: {
            name: share_of(value, weights[index]) if value.shape == weights[index].shape else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": shares}
