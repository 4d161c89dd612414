"""Images a second of the image encoder, against timm's own forward and against stored attention maps.

    python benchmarks/image_inference.py

ViT-B/16 (random weights: speed does not depend on them), batch 4, fp32. Ours is the encoder as `Predictor`
runs it: selection, images a few at a time, weights packed for oneDNN.

    timm        the plain tower with its fused attention, all patches through all blocks
    selection   timm fed one image at a time, against ours without packed weights at 448 px, where ours also
                takes one image at a time: what selection gives without the rest
    bf16        ours as a Predictor with precision bf16 runs it, against timm in fp32; where the CPU has bf16
    stored      TransFG's way: every block stores its attention map, the maps are multiplied, and the K
                patches that contribute most to the class token go through the last block

`stored` chooses other patches than ours by definition; with all patches kept both must agree, which is
checked.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from common import vit_base
from mpfgvc.inference.forward import Compute, encode_in_parts
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.model.towers.packed_linear import can_pack
from side_by_side import Comparison, compare_time, report

BATCH = 4
CPU = Compute(device=torch.device("cpu"))
BF16 = Compute(device=torch.device("cpu"), precision="bf16")


def main() -> None:
    report("image_inference", [*_at(224, 24, None, 1.12), *_at(448, 96, 2.4, 1.22)])


def stored_attention(transformer: nn.Module, images: Tensor, kept: int) -> Tensor:
    """The class token of a tower that stores all attention maps and selects patches by their product."""
    net: Any = transformer
    tokens = net.norm_pre(net._pos_embed(net.patch_embed(images)))
    maps = []
    for block in net.blocks[:-1]:
        attended, attention = _with_map(block.attn, block.norm1(tokens))
        tokens = tokens + attended
        tokens = tokens + block.mlp(block.norm2(tokens))
        maps.append(attention)
    flow = maps[0]
    for attention in maps[1:]:
        flow = attention @ flow
    chosen = flow[:, :, 0, 1:].sum(dim=1).topk(kept).indices + 1
    part = tokens.gather(1, chosen.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    last: Tensor = net.norm(net.blocks[-1](torch.cat([tokens[:, :1], part], dim=1)))
    return last[:, 0]


def _with_map(attn: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    batch, count, width = tokens.shape
    parts = attn.qkv(tokens).reshape(batch, count, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
    query, key, value = parts.unbind(0)
    attention = (query * attn.scale @ key.transpose(-2, -1)).softmax(dim=-1)
    return attn.proj((attention @ value).transpose(1, 2).reshape(batch, count, width)), attention


@torch.inference_mode()
def _at(side: int, kept: int, against_stored: float | None, against_timm: float) -> list[Comparison]:
    tower = build_image_tower(vit_base(side)).eval()
    unpacked = ImageEncoder(tower=tower, kept_tokens=kept).eval()
    encoder = copy.deepcopy(unpacked)
    encoder.tower.pack()
    images = torch.randn(BATCH, 3, side, side)
    plain = _in_inference(lambda: tower.transformer.forward_features(images)[:, 0])
    one_by_one = _in_inference(
        lambda: torch.cat([tower.transformer.forward_features(image)[:, 0] for image in images.split(1)])
    )
    stored = _in_inference(lambda: stored_attention(tower.transformer, images, kept))
    ours = _in_inference(lambda: encode_in_parts(encoder, images, CPU).embedding)
    selection = _in_inference(lambda: encode_in_parts(unpacked, images, CPU).embedding)
    torch.testing.assert_close(ours(), selection(), atol=1e-4, rtol=1e-4)
    everything = ImageEncoder(tower=tower, kept_tokens=None).eval()
    for reference in (plain(), stored_attention(tower.transformer, images, tower.patches)):
        torch.testing.assert_close(everything(images).embedding, reference, atol=1e-4, rtol=1e-4)
    what = f"{BATCH} images, ViT-B/16, {side} px, K = {kept}"
    rows = [compare_time(f"{what}: timm", ours=ours, reference=plain, wanted=against_timm, turns=7)]
    if side == 448 and can_pack(torch.bfloat16):
        half = copy.deepcopy(unpacked)
        half.tower.pack(torch.bfloat16)
        fast = _in_inference(lambda: encode_in_parts(half, images, BF16).embedding)
        rows.append(compare_time(f"{what}, bf16: timm in fp32", ours=fast, reference=plain, wanted=2.2))
    if against_stored is not None:
        name = f"{what}: timm, selection only"
        rows.append(compare_time(name, ours=selection, reference=one_by_one, wanted=1, turns=7))
        name = f"{what}: stored attention"
        rows.append(compare_time(name, ours=ours, reference=stored, wanted=against_stored))
    return rows


def _in_inference(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return torch.inference_mode()(work)


if __name__ == "__main__":
    main()
