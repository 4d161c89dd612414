"""A view on one block of a timm vision transformer: queries from few tokens, keys and values from all.

timm's own blocks let every token attend to every token. Selection needs less: the keys and one query for
the scores, then the rest of the block only for the kept tokens. `SplitBlock` computes just that from the
block's own modules.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from timm.layers import AttentionRope, apply_rot_embed_cat
from timm.layers.attention import Attention
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class KeysAndValues(NamedTuple):
    """Keys and values of the tokens of a block."""

    keys: Float[Tensor, "batch heads tokens depth"]
    values: Float[Tensor, "batch heads tokens depth"]


class Rope(NamedTuple):
    """Rotary position embeddings of the patches in the last two blocks; None where a tower has none.

    Broadcastable to (batch, heads, patches, 2 x depth).
    """

    block: Tensor | None
    last_block: Tensor | None

    def at(self, kept: Int[Tensor, "batch kept"]) -> "Rope":
        """The embeddings at the kept patches of each image."""
        return Rope(*(None if rope is None else _rope_at(rope, kept) for rope in self))


class SplitBlock:
    """A view on one transformer block in which only some tokens are queries. Owns no parameters."""

    def __init__(self, block: nn.Module, *, is_last: bool, prefix: int):
        self.block = cast("Any", block)
        self.attention = self.block.attn
        self.is_last = is_last
        self.prefix = prefix
        self.scale = float(self.attention.scale)

    def queries(self, tokens: Tensor, rope: Rope | None = None) -> Float[Tensor, "batch heads tokens depth"]:
        """Queries of the tokens; `rope` holds the positions of those behind the prefix, if there are any."""
        queries = self.attention.q_norm(self._project(self.block.norm1(tokens), 0))
        return self._rotate(queries, rope)

    def keys_and_values(self, tokens: Tensor, rope: Rope) -> KeysAndValues:
        """Keys and values of all the tokens, prefix first."""
        normed = self.block.norm1(tokens)
        keys = self.attention.k_norm(self._project(normed, 1))
        return KeysAndValues(self._rotate(keys, rope), self._project(normed, 2))

    def mean_attention(self, tokens: Tensor, rope: Rope) -> Float[Tensor, "batch tokens tokens"]:
        """Attention of every token to every token after the softmax, averaged over the heads, in float32."""
        queries, keys = self.queries(tokens, rope), self.keys_and_values(tokens, rope).keys
        with torch.autocast(tokens.device.type, enabled=False):
            logits = self.scale * queries.float() @ keys.float().transpose(-2, -1)
        return logits.softmax(dim=-1).mean(dim=1)

    def __call__(self, tokens: Tensor, memory: KeysAndValues, rope: Rope | None = None) -> Tensor:
        """Run the block only for `tokens`, which attend to everything in `memory`."""
        block, attention = self.block, self.attention
        queries = self.queries(tokens, rope)
        dropout = attention.attn_drop.p if attention.training else 0.0
        attended = F.scaled_dot_product_attention(
            queries, memory.keys, memory.values, dropout_p=dropout, scale=self.scale
        )
        attended = attention.norm(attended.transpose(1, 2).flatten(2))
        attended = attention.proj_drop(attention.proj(attended))
        tokens = tokens + block.drop_path1(_layer_scale(block, 1, attended))
        tokens = tokens + block.drop_path2(_layer_scale(block, 2, block.mlp(block.norm2(tokens))))
        return tokens

    def _project(self, normed: Tensor, part: int) -> Tensor:
        """Project to queries (part 0), keys (1) or values (2), split into heads."""
        attention = self.attention
        if attention.qkv is None:
            projected = (attention.q_proj, attention.k_proj, attention.v_proj)[part](normed)
        else:
            bias = _fused_bias(attention)
            weight = attention.qkv.weight.chunk(3)[part]
            projected = F.linear(normed, weight, None if bias is None else bias.chunk(3)[part])
        heads: Tensor = projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        return heads

    def _rotate(self, heads: Tensor, rope: Rope | None) -> Tensor:
        """Turn the patches by their rotary position; the prefix has none."""
        positions = None if rope is None else rope.last_block if self.is_last else rope.block
        if positions is None:
            return heads
        prefix, patches = heads[:, :, : self.prefix], heads[:, :, self.prefix :]
        patches = apply_rot_embed_cat(patches, positions, half=getattr(self.attention, "rotate_half", False))
        return torch.cat([prefix, patches.type_as(prefix)], dim=2)


def unsupported(block: nn.Module) -> str | None:
    """Why a block cannot be viewed this way, for an error message; None if it can."""
    if type(block) not in (Block, EvaBlock):
        return f"its blocks are {type(block).__name__}"
    attention: Any = block.attn
    if type(attention) not in (Attention, AttentionRope, EvaAttention):
        return f"its attention is {type(attention).__name__}"
    if getattr(attention, "gate", None) is not None:
        return "its attention is gated"
    if getattr(attention, "num_kv_groups", 1) > 1:
        return "its heads share keys and values"
    return None


def _fused_bias(attention: Any) -> Tensor | None:
    """Bias of a fused query-key-value projection; EVA keeps its three parts apart."""
    if isinstance(attention, EvaAttention):
        parts = (attention.q_bias, attention.k_bias, attention.v_bias)
        return None if attention.q_bias is None else torch.cat(parts)
    bias: Tensor | None = attention.qkv.bias
    return bias


def _layer_scale(block: Any, branch: int, tokens: Tensor) -> Tensor:
    """The learned scale of a residual branch: a module in ViT blocks, a vector or None in EVA blocks."""
    if isinstance(block, EvaBlock):
        gamma: Tensor | None = getattr(block, f"gamma_{branch}")
        return tokens if gamma is None else gamma * tokens
    scaled: Tensor = getattr(block, f"ls{branch}")(tokens)
    return scaled


def _rope_at(rope: Tensor, kept: Int[Tensor, "batch kept"]) -> Tensor:
    """Positions of the kept patches from (patches, 2d) or (heads, patches, 2d), with the batch in front."""
    if rope.dim() == 2:
        return rope[kept].unsqueeze(1)
    return rope[:, kept].transpose(0, 1)
