"""Subcategory-specific vision prompt (SsVP, the first section of docs/method.md): which patches matter.

Pure functions without parameters. The score of a patch is the attention that
the class token pays to it, summed over the heads:

    scores = sum over m of softmax(q^m K^m^T / sqrt(d))      q: the class token's query
    kept   = TopK(scores)

Only the class token's row is ever computed; no N x N matrix is stored. No
gradient flows through the choice, it flows through the tokens that were kept.

To compare with, beyond the paper: `attention_rollout` and `random_scores`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def class_attention(
    query: Float[Tensor, "batch heads 1 depth"], keys: Float[Tensor, "batch heads tokens depth"], *, scale: float
) -> Float[Tensor, "batch tokens"]:
    """Attention of one query to all keys after the softmax, summed over the heads.

    Values lie in 0..heads, in float32 (a product summed, as autocast would turn a
    matrix product to bfloat16); a row over all tokens sums to the number of heads.
    """
    logits = scale * (query.float() * keys.float()).sum(dim=-1)
    return logits.softmax(dim=-1).sum(dim=1)


def attention_rollout(maps: Sequence[Float[Tensor, "batch tokens tokens"]]) -> Float[Tensor, "batch tokens"]:
    """How much of each input token is in the class token after some blocks (Abnar and Zuidema, 2020).

    `maps` are the attentions of the blocks, first block first: averaged over the heads, a row for each
    query. With the residual branch as half of a block, the class token's row of

        (A_L + I) / 2  ...  (A_2 + I) / 2  (A_1 + I) / 2

    Every factor has rows that sum to 1, and so has the result. Only that row is computed, last block first.
    """
    flow = torch.zeros_like(maps[0][:, :1])
    flow[:, :, 0] = 1
    with torch.autocast(flow.device.type, enabled=False):
        for attention in reversed(maps):
            flow = (flow @ attention + flow) / 2
    return flow[:, 0]


def random_scores(batch: int, patches: int, *, device: torch.device, training: bool) -> Float[Tensor, "batch patches"]:
    """Scores by which any patches may win. 0..1.

    In training they come from torch's global generator, which the loop seeds in every step. Otherwise they
    are the same for every image and every run, so that an evaluation does not depend on its batches.
    """
    if training:
        return torch.rand(batch, patches, device=device)
    scores = torch.rand(patches, generator=torch.Generator().manual_seed(0))
    return scores.to(device).expand(batch, patches)


def top_patches(scores: Float[Tensor, "batch patches"], count: int) -> Int[Tensor, "batch kept"]:
    """Indices of the `count` patches with the highest scores, best first."""
    return scores.topk(count, dim=1).indices


def keep_tokens(
    tokens: Float[Tensor, "batch tokens width"], kept: Int[Tensor, "batch kept"], *, prefix: int
) -> Float[Tensor, "batch prefix_and_kept width"]:
    """The `prefix` first tokens (class token, registers), then the patch tokens at `kept`, in that order."""
    positions = (kept + prefix).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return torch.cat([tokens[:, :prefix], tokens.gather(1, positions)], dim=1)
