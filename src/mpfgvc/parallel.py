"""What several processes tell each other; with one process, nothing needs telling."""

import torch
import torch.distributed as distributed
from torch import Tensor


def gather_in_order(values: Tensor, positions: Tensor) -> Tensor:
    """Values of all processes, ordered by their positions; each process may hold another number."""
    parts = [(values, positions)]
    if distributed.is_available() and distributed.is_initialized():
        parts = [(values, positions)] * distributed.get_world_size()
        distributed.all_gather_object(parts, (values, positions))
    order = torch.cat([part[1] for part in parts]).argsort()
    return torch.cat([part[0] for part in parts])[order]
