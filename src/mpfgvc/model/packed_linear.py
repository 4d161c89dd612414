"""Linear layers whose weights are laid out for oneDNN: the same numbers, faster, for inference on a CPU.

PyTorch multiplies plain weights, which a library has to rearrange in every call;
oneDNN keeps them arranged. `torch.compile` does the same when it freezes a model,
with the same two operations, but needs a compiler and a minute. A packed layer
has no weight to train or to save.
"""

import platform
from collections.abc import Sequence

import torch
from jaxtyping import Float
from timm.layers import Attention
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer in float32 on the CPU, without gradients."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out_width"]:
        """What the layer made of these tokens before it was packed."""
        features: Tensor = torch.ops.mkldnn._linear_pointwise(tokens, self.packed, self.bias, "none", [], "")
        return features


def pack_blocks(blocks: Sequence[nn.Module]) -> None:
    """Pack the linear layers of timm's transformer blocks in place, where this machine gains by it.

    Left as they are: layers whose weights are read by others than themselves, that is the
    queries, keys and values of the last two blocks (split_block.py) and of EVA's attention.
    """
    if not can_pack():
        return
    for index, block in enumerate(blocks):
        whole = index < len(blocks) - 2 and type(block.attn) is Attention
        for name, layer in list(block.named_modules()):
            called = name.startswith("mlp.") or name == "attn.proj" or (whole and name == "attn.qkv")
            if called and isinstance(layer, nn.Linear):
                block.set_submodule(name, PackedLinear(layer))


def can_pack() -> bool:
    """Whether PyTorch has oneDNN here, on the kind of processor that packing was measured on."""
    measured = platform.machine() in ("x86_64", "AMD64")
    return measured and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
