"""Subcategory-specific vision prompt (SsVP, section 1 of METHOD): which patches matter.

Pure functions without parameters. The score of a patch is the attention that
the class token pays to it, summed over the heads:

    scores = sum over m of softmax(q^m K^m^T / sqrt(d))      q: the class token's query
    kept   = TopK(scores)

Only the class token's row is ever computed; no N x N matrix is stored. No
gradient flows through the choice, it flows through the tokens that were kept.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def class_attention(
    query: Float[Tensor, "batch heads 1 depth"],
    keys: Float[Tensor, "batch heads tokens depth"],
    *,
    scale: float,
) -> Float[Tensor, "batch tokens"]:
    """Attention of one query to all keys after the softmax, summed over the heads.

    Values lie in 0..heads, in float32 (a product summed, as autocast would turn a
    matrix product to bfloat16); a row over all tokens sums to the number of heads.
    """
    logits = scale * (query.float() * keys.float()).sum(dim=-1)
    return logits.softmax(dim=-1).sum(dim=1)


def top_patches(scores: Float[Tensor, "batch patches"], count: int) -> Int[Tensor, "batch kept"]:
    """Indices of the `count` patches with the highest scores, best first."""
    return scores.topk(count, dim=1).indices


def keep_tokens(
    tokens: Float[Tensor, "batch tokens width"],
    kept: Int[Tensor, "batch kept"],
    *,
    prefix: int,
) -> Float[Tensor, "batch prefix_and_kept width"]:
    """The `prefix` first tokens (class token, registers), then the patch tokens at `kept`, in that order."""
    positions = (kept + prefix).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return torch.cat([tokens[:, :prefix], tokens.gather(1, positions)], dim=1)
