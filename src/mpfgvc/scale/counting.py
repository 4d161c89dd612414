"""How much memory a piece of work holds at its peak, and its FLOPs, counted operation by operation.

Every storage that an operation makes counts from then until it is freed. With fake tensors (torch's
FakeTensorMode) nothing is computed or allocated, so a step that needs a terabyte can be counted on a laptop.
What kernels allocate inside, and what the allocator holds back, is not seen.

FLOPs are those of torch's flop_counter: matrix products, attention and convolutions, two for each
multiplication; what is computed twice counts twice. Its own mode is not used, as it keeps tensors alive.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FIRST = "start"
"""The phase before any other is entered."""


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what happens inside the block; storages of `known` tensors were there before, and do not count.

    `live` and `peaks` are in bytes, the peaks by phase: `enter` begins one.
    """

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.flops = 0
        self.phase = FIRST
        self.peaks: dict[str, int] = {FIRST: 0}
        self.seen: dict[int, object] = {tensor.untyped_storage()._cdata: None for tensor in known}

    @property
    def peak(self) -> int:
        """The most bytes that were live at once."""
        return max(self.peaks.values())

    def enter(self, phase: str) -> None:
        """From now on the peak belongs to this phase; a phase may be entered again."""
        self.phase = phase
        self.peaks[phase] = max(self.live, self.peaks.get(phase, 0))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and torch.is_inference_mode_enabled():
            with self:  # linear and conv2d come whole
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.seen:
            return
        size = storage.nbytes()
        self.live += size
        self.peaks[self.phase] = max(self.live, self.peaks[self.phase])
        self.seen[key] = weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.live -= size
        self.seen.pop(key, None)


def make_fake(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replace the tensors of a module, which may be on the meta device, by fake ones on the CPU."""
    with mode:
        for part in module.modules():
            for name, weight in part.named_parameters(recurse=False):
                fake = torch.empty(weight.shape, dtype=weight.dtype)
                part.register_parameter(name, nn.Parameter(fake, requires_grad=weight.requires_grad))
            for name, value in part.named_buffers(recurse=False):
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
