"""The image tower with token selection between its last two blocks (SsVP, section 1).

    tokens = blocks 1 .. L-2 (images)
    kept   = TopK(attention of the class token in block L-1)
    V      = norm(block L([class token, kept tokens of block L-1])[class token])

Selection happens *inside* block L-1: its scores need only the keys and one
query, and only kept tokens go on, so the rest of that block runs for those
tokens only, with keys and values of all. In block L only the class token
queries. Both are exact; the tests compare with the whole blocks under an
attention mask. Registers are not patches: they are never candidates and always stay.

Beyond the paper, to compare with: patches chosen by attention rollout over blocks 1 .. L-1, or at random.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.config import Selection
from mpfgvc.errors import ConfigError
from mpfgvc.model.selection import attention_rollout, class_attention, keep_tokens, random_scores, top_patches
from mpfgvc.model.towers.image_tower import ImageTower
from mpfgvc.model.towers.split_block import KeysAndValues, Rope, SplitBlock

CACHED_BYTES = 10 * 2**20
"""Activations of the widest layer that fit in the cache of a CPU, about a third of a common L3 cache."""


class EncodedImages(NamedTuple):
    """What the image encoder returns.

    embedding: class token V after the final norm, (batch, width)
    kept: indices of the kept patches in row-major order of the grid, best first, (batch, kept)
    scores: what the patches were chosen by, (batch, patches): the attention of the class token, summed over
        the heads; with `rollout` its share of each patch, with `random` chance
    """

    embedding: Float[Tensor, "batch width"]
    kept: Int[Tensor, "batch kept"]
    scores: Float[Tensor, "batch patches"]


class Selected(NamedTuple):
    """What leaves the second-to-last block, and what the choice was made from.

    tokens: class token, registers and the kept patches in the order of `kept`
    rope: the positions of all patches; `rope.at(kept)` are those of the tokens
    query, keys: of the class token and of all tokens, in the second-to-last block
    """

    tokens: Float[Tensor, "batch prefix_and_kept width"]
    rope: Rope
    kept: Int[Tensor, "batch kept"]
    scores: Float[Tensor, "batch patches"]
    query: Float[Tensor, "batch heads 1 depth"]
    keys: Float[Tensor, "batch heads tokens depth"]


class ImageEncoder(nn.Module):
    """An image tower of which only the `kept_tokens` best patches by `selection` reach the last block.

    `images_at_once` is how many images a CPU should be given at a time, so that the activations
    of the widest layer stay in its cache; `inference/forward.py` hands them over like that.

    Raises ConfigError if `kept_tokens` is above the number of patches; None keeps all.
    """

    def __init__(self, *, tower: ImageTower, kept_tokens: int | None = None, selection: Selection = "attention"):
        super().__init__()
        kept_tokens = tower.patches if kept_tokens is None else kept_tokens
        if not 1 <= kept_tokens <= tower.patches:
            height, width = tower.image_size
            rule = f"at most {tower.patches} (the patches of a {height} x {width}-pixel image)"
            way_out = f"a quarter of them is {max(1, tower.patches // 4)}, null keeps all"
            raise ConfigError(f"model.kept_tokens must be {rule}, got {kept_tokens}; {way_out}")
        self.tower = tower
        self.kept_tokens = kept_tokens
        self.selection = selection
        tokens, hidden = tower.prefix_tokens + tower.patches, 4 * tower.width  # of the MLP, in float32
        self.images_at_once = max(1, CACHED_BYTES // (4 * tokens * hidden))

    def units(self) -> list[nn.Module]:
        """Modules that run only by their `forward`, so that their weights need not be there all the time.

        Selection uses the parts of the last two blocks, and rollout those of all.
        """
        return [] if self.selection == "rollout" else list(self.tower.transformer.blocks[:-2])

    def forward(self, images: Float[Tensor, "batch 3 image_height image_width"]) -> EncodedImages:
        """Encode normalised images of the tower's input size."""
        selected = self.select(images)
        return EncodedImages(
            self.finish(selected.tokens, selected.rope.at(selected.kept)), selected.kept, selected.scores
        )

    def select(self, images: Float[Tensor, "batch 3 image_height image_width"]) -> Selected:
        """All blocks but the last, with the selection inside the second-to-last one."""
        prefix = self.tower.prefix_tokens
        block, _ = self.tower.last_two_blocks()
        maps: list[Tensor] | None = [] if self.selection == "rollout" else None
        tokens, rope = self.tower.before_last_two_blocks(images, maps=maps)

        memory = block.keys_and_values(tokens, rope)
        query = block.queries(tokens[:, :1])
        with torch.no_grad():
            scores = self._scores(block, query, tokens, memory, rope, maps)[:, prefix:]
            kept = top_patches(scores, self.kept_tokens)

        survivors = keep_tokens(tokens, kept, prefix=prefix)
        survivors = block(survivors, memory, rope.at(kept))
        return Selected(survivors, rope, kept, scores, query, memory.keys)

    def finish(self, tokens: Float[Tensor, "batch prefix_and_kept width"], rope: Rope) -> Float[Tensor, "batch width"]:
        """V from tokens that enter the last block, whose patches have the positions `rope`."""
        _, last_block = self.tower.last_two_blocks()
        class_token = last_block(tokens[:, :1], last_block.keys_and_values(tokens, rope))
        return self.tower.final_norm(class_token[:, 0])

    def _scores(
        self,
        block: SplitBlock,
        query: Tensor,
        tokens: Tensor,
        memory: KeysAndValues,
        rope: Rope,
        maps: list[Tensor] | None,
    ) -> Float[Tensor, "batch tokens"]:
        """A score of every token that enters the second-to-last block; those of the prefix mean nothing."""
        if maps is not None:
            return attention_rollout([*maps, block.mean_attention(tokens, rope)])
        if self.selection == "random":
            batch, count = tokens.shape[:2]
            return random_scores(batch, count, device=tokens.device, training=self.training)
        return class_attention(query, memory.keys, scale=block.scale)
