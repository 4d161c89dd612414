"""Which kept patches speak for the answer and against the runner-up.

A patch is left out of what reaches the last block, and nothing else is changed; how far the difference of the
two logits falls without it is what it says. All patches are tried in one pass of the last block: the blocks
before it, which are nearly all of the work, run once.

    change of patch j = (l_answer - l_runner_up) - (l_answer - l_runner_up without j)

Above 0 it speaks for the answer. The changes do not add up to the difference: patches say the same things.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mpfgvc.inference.forward import Inference
from mpfgvc.model.image_encoder import EncodedImages, ImageEncoder, Selected
from mpfgvc.model.network import Output
from mpfgvc.terms import Source

TOKENS_AT_ONCE = 1 << 15
"""Tokens that the last block is given at a time; more would only need more memory."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the network says about one image, and what each kept patch has to do with it."""

    output: Output
    """As for a prediction of this image alone."""
    answer: int
    against: int
    """The runner-up."""
    difference: float
    """Logit of the answer minus that of the runner-up."""
    change: Float[Tensor, " kept"]
    """How far the difference falls without each patch, in the order of `output.kept`."""
    heads: Float[Tensor, "heads patches"]
    """Attention of the class token in each head of the second-to-last block; a row sums to at most 1."""


@torch.inference_mode()
def evidence_in(
    inference: Inference, image: Float[Tensor, "3 height width"], name: str, *, source: Source
) -> Evidence:
    """The evidence in a normalised image, called `name`, for what `source` answers; of two classes at least.

    Raises CheckpointError as every prediction does, where a logit is not finite.
    """
    network, compute = inference.network, inference.compute
    encoder = network.image_encoder
    with compute.autocast():
        selected = encoder.select(image[None].to(compute.device))
        embedding = encoder.finish(selected.tokens, selected.rope.at(selected.kept))
        output = network.classify(EncodedImages(embedding, selected.kept, selected.scores))
        inference.check(output, [name])
        without: Tensor = getattr(network.logits(leave_each_out(encoder, selected)), source)
    whole: Tensor = getattr(output, source)[0].float()
    answer, against = whole.topk(2).indices.tolist()
    difference = (whole[answer] - whole[against]).cpu()
    return Evidence(
        output=output,
        answer=answer,
        against=against,
        difference=float(difference),
        change=difference - (without[:, answer] - without[:, against]).float().cpu(),
        heads=_head_attention(encoder, selected).cpu(),
    )


def leave_each_out(encoder: ImageEncoder, selected: Selected) -> Float[Tensor, "kept width"]:
    """V of one image without its first kept patch, without its second, and so on."""
    prefix, count = encoder.tower.prefix_tokens, selected.kept.shape[1]
    others = _all_but_each(count, device=selected.kept.device)
    parts = torch.split(others, max(1, TOKENS_AT_ONCE // (prefix + count)))
    return torch.cat([_without(encoder, selected, part) for part in parts])


def _without(
    encoder: ImageEncoder, selected: Selected, others: Int[Tensor, "variants kept_less_1"]
) -> Float[Tensor, "variants width"]:
    prefix = encoder.tower.prefix_tokens
    tokens, kept = selected.tokens[0], selected.kept[0]
    always = tokens[:prefix].expand(len(others), -1, -1)
    variants = torch.cat([always, tokens[prefix:][others]], dim=1)
    return encoder.finish(variants, selected.rope.at(kept[others]))


def _all_but_each(count: int, *, device: torch.device) -> Int[Tensor, "count count_less_1"]:
    """Row j: 0 .. count - 1 without j."""
    places = torch.arange(count - 1, device=device).expand(count, -1)
    return places + (places >= torch.arange(count, device=device)[:, None])


def _head_attention(encoder: ImageEncoder, selected: Selected) -> Float[Tensor, "heads patches"]:
    block, _ = encoder.tower.last_two_blocks()
    logits = block.scale * (selected.query.float() * selected.keys.float()).sum(dim=-1)
    return logits.softmax(dim=-1)[0, :, encoder.tower.prefix_tokens :]
