"""A training step of stage 1: its time beside towers run the plain way, its memory beside the image tower's.

    python benchmarks/stage1_step.py

ViT-B/16 at 224 px (random weights: speed does not depend on them), batch 8, K = 24, C = 200 classes, J =
4, CLIP's ViT-B-16 text tower, AdamW, fp32. With `model.prompt_chunk: 50` the text tower's activations are
computed twice, 50 prompts at a time, instead of kept: the setting for little memory, in both rows.

    time      against the same losses from towers run the plain way: prompts at 77 tokens, and a tower
              that stores every attention map and selects by them (TransFG's way)
    memory    against timm's own forward and backward with a linear head: without text tower and prompts
"""

import torch
import torch.nn.functional as F
from torch import nn

from common import CLIP_TEXT, untrained_network, vit_base
from image_inference import stored_attention
from mpfgvc.config import ModelConfig, Stage1Config
from mpfgvc.model.losses import Objective
from mpfgvc.training.loop import build_optimizer
from mpfgvc.training.stages import Stage1
from side_by_side import compare_memory, compare_time, report
from text_branch import padded

CLASSES, BATCH, KEPT, CHUNK = 200, 8, 24, 50


def main() -> None:
    config = ModelConfig(
        image_tower=vit_base(), text_tower=CLIP_TEXT, supercategory="bird", kept_tokens=KEPT, prompt_chunk=CHUNK
    )
    network = untrained_network(config, CLASSES)
    stage = Stage1(network, Stage1Config(batch_size=BATCH), Objective()).train()
    optimizer = build_optimizer(stage.parameter_groups(), stage.settings)
    images, labels = torch.randn(BATCH, 3, 224, 224), torch.randint(CLASSES, (BATCH,))
    transformer = network.image_encoder.tower.transformer
    head = nn.Linear(network.image_encoder.tower.width, CLASSES)

    def ours() -> None:
        stage(images, labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def plain() -> None:
        token = stored_attention(transformer, images, KEPT)
        text_logits = network.text_logits(token, padded(network.text, network.text.tower))
        loss = F.cross_entropy(network.classifier(token), labels) + F.cross_entropy(text_logits, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def image_tower() -> None:
        F.cross_entropy(head(transformer.forward_features(images)[:, 0]), labels).backward()
        network.zero_grad()

    def ours_without_optimizer() -> None:
        stage(images, labels).loss.backward()
        network.zero_grad()

    what = f"stage 1 step, ViT-B/16, 224 px, batch {BATCH}, C = {CLASSES}"
    memory = {"ours": ours_without_optimizer, "reference": image_tower}
    report(
        "stage1_step",
        [
            compare_memory(f"{what}: peak memory, timm", **memory, wanted=1 / 1.05, turns=3),
            compare_time(f"{what}: time, plain towers", ours=ours, reference=plain, wanted=3, turns=3),
        ],
    )


if __name__ == "__main__":
    main()
