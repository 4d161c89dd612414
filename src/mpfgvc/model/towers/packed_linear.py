"""Linear layers whose weights are laid out for oneDNN: inference on a CPU, faster, the same up to rounding.

PyTorch multiplies plain weights, which a library has to rearrange in every call;
oneDNN keeps them arranged. `torch.compile` does the same when it freezes a model,
with the same two operations, but needs a compiler and a minute.
"""

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Attention, AttentionRope
from torch import Tensor, nn

from mpfgvc.distributed import cpu_multiplies_bf16


class PackedLinear(nn.Module):
    """A linear layer on the CPU, for inference, in one precision: float32, or bfloat16 under autocast.

    Its weight is not a parameter: no optimiser sees it, and it stays on the CPU. State dictionaries, copies
    and pickles hold it as the plain layer's, in float32; in bfloat16 it was rounded. With gradients, or in
    the other precision, the layer computes what the plain one does, slowly.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.bias, self.dtype = linear.bias, dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype))
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    @property
    def weight(self) -> Float[Tensor, "out_width width"]:
        """The plain weight, a copy in float32."""
        weight: Tensor = self.packed.to_dense().float()
        return weight

    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out_width"]:
        """What the plain layer makes of these tokens."""
        wanted = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        if torch.is_grad_enabled() or wanted != self.dtype:
            return F.linear(tokens, self.weight, self.bias)
        features: Tensor = torch.ops.mkldnn._linear_pointwise(
            tokens.to(self.dtype), self.packed, self._bias, "none", [], ""
        )
        return features

    def __reduce__(self) -> tuple[Callable[..., "PackedLinear"], tuple[object, ...]]:
        """The plain weight by value: the memory of a temporary tensor cannot be shared with a new process."""
        return _pack, (self.weight.numpy(), self.bias, self.dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


def _pack(weight: np.ndarray, bias: nn.Parameter | None, dtype: torch.dtype) -> PackedLinear:
    """The packed layer of a plain weight, (out_width, width)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(torch.from_numpy(weight))
    linear.register_parameter("bias", bias)
    return PackedLinear(linear, dtype)


def pack_blocks(blocks: Sequence[nn.Module], dtype: torch.dtype = torch.float32) -> None:
    """Pack the linear layers of timm's transformer blocks in place, where this machine can.

    Left as they are: fused queries, keys and values whose weights are also read outside
    their own layer, that is those of the last two blocks (split_block.py) and of EVA's attention.
    """
    if not can_pack(dtype):
        return
    for index, block in enumerate(blocks):
        fused_too = index < len(blocks) - 2 and type(block.attn) in (Attention, AttentionRope)
        for name, layer in list(block.named_modules()):
            if isinstance(layer, nn.Linear) and (fused_too or name != "attn.qkv"):
                block.set_submodule(name, PackedLinear(layer, dtype))


def can_pack(dtype: torch.dtype = torch.float32) -> bool:
    """Whether PyTorch has oneDNN's two operations here, on x86-64 (measured on AMD only).

    For bfloat16 the CPU must multiply in it: elsewhere oneDNN would convert every weight in every call.
    """
    if dtype == torch.bfloat16 and not cpu_multiplies_bf16():
        return False
    has_both = hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return onednn and has_both and platform.machine() in ("x86_64", "AMD64")
