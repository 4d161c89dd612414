"""The two stages of the optimisation (section 4): what each trains, its groups and its loss.

A stage is a module whose forward takes a batch to its loss, so that one loop
and one wrapper (DDP) serve both. Making it freezes what it does not train; that
must come before the optimiser and before Fabric see the parameters.

    Stage 1 trains image tower, learnable tokens X, projection and classifier on V.   L_v + L_i2t
    Stage 2 trains the fusion module alone, on embeddings computed once.              L_vlfm
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.config import Stage1Config, Stage2Config
from mpfgvc.model.fusion import Fusion
from mpfgvc.model.losses import Objective, classification_loss
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.training.class_sampling import ClassSample, sample_classes
from mpfgvc.training.optim import ParameterGroup

UNDECAYED = ("cls_token", "reg_token", "pos_embed", "context")
"""Parameters with more than one dimension that are no weight matrices: tokens and positions."""


class StepResult(NamedTuple):
    """The loss of a batch, and the logits that its training accuracy is read from."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "batch classes"]


class Stage1(nn.Module):
    """Stage 1 of a network that still has its class prompts."""

    name = "stage1"
    sources = ("vision", "text")

    def __init__(self, network: MPFGVC, settings: Stage1Config, objective: Objective):
        super().__init__()
        if not isinstance(network.text, ClassPrompts):
            raise TypeError("stage 1 trains class prompts; this network is deployed and has none")
        network.requires_grad_(True)
        network.text.tower.requires_grad_(False)
        network.fusion.requires_grad_(False)
        self.network = network
        self.settings = settings
        self.objective = objective

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int[Tensor, " batch"]
    ) -> StepResult:
        """L_v + L_i2t of a batch.

        The texts come first, so that their backward pass comes last: by then the images' activations
        are gone, and where the texts are recomputed (ClassPrompts) the two never stand side by side.
        """
        network, sample = self.network, self._sample(labels)
        text_features = network.text() if sample is None else network.text(sample.classes)
        embedding = network.image_encoder(images).embedding
        vision_logits = network.vision_logits(embedding)
        text_logits = network.text_logits(embedding, text_features)
        loss = classification_loss(vision_logits, labels, self.objective)
        loss = loss + self._text_loss(text_logits, labels, sample)
        return StepResult(loss, vision_logits)

    def _sample(self, labels: Int[Tensor, " batch"]) -> ClassSample | None:
        """The classes whose prompts this step encodes; None = all."""
        count, classes = self.settings.sampled_classes, len(self.network.classes)
        if count is None or count >= classes:
            return None
        return sample_classes(labels, count=count, classes=classes)

    def _text_loss(
        self,
        logits: Float[Tensor, "batch sampled"],
        labels: Int[Tensor, " batch"],
        sample: ClassSample | None,
    ) -> Float[Tensor, ""]:
        if sample is None:
            return classification_loss(logits, labels, self.objective)
        objective = self.objective.of_classes(sample.classes)
        return classification_loss(logits + sample.correction, sample.labels, objective)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The image tower by depth at its own rate, the new parts at another."""
        tower = self.network.image_encoder.tower
        by_rate: dict[float, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in tower.named_parameters():
            scale = self.settings.layer_decay ** (tower.depth - tower.depth_of(name))
            by_rate.setdefault(self.settings.tower_lr * scale, []).append((name, parameter))
        groups = [group for rate, named in by_rate.items() for group in _split_by_decay(named, rate)]
        inside = {id(parameter) for parameter in tower.parameters()}
        new = [(name, weight) for name, weight in trained(self).items() if id(weight) not in inside]
        return groups + _split_by_decay(new, self.settings.lr)


class Stage2(nn.Module):
    """Stage 2: the fusion module on embeddings, with the class text features as constants."""

    name = "stage2"
    sources = ("fusion",)

    def __init__(
        self,
        fusion: Fusion,
        text_features: Float[Tensor, "classes embed"],
        settings: Stage2Config,
        objective: Objective,
    ):
        super().__init__()
        self.fusion = fusion.requires_grad_(True)
        self.text_features: Tensor
        self.register_buffer("text_features", text_features.detach(), persistent=False)
        self.settings = settings
        self.objective = objective

    def forward(self, embeddings: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]) -> StepResult:
        """L_vlfm of a batch of embeddings, in fp32: converting so little work to bf16 would cost more."""
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = self.fusion(embeddings, self.text_features)
            return StepResult(classification_loss(logits, labels, self.objective), logits)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The fusion module at one rate."""
        return _split_by_decay(trained(self).items(), self.settings.lr)


def trained(stage: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a stage trains, by name."""
    return {name: weight for name, weight in stage.named_parameters() if weight.requires_grad}


def _split_by_decay(named: Iterable[tuple[str, nn.Parameter]], lr: float) -> list[ParameterGroup]:
    """One group of weight matrices, which decay, and one of all else, which does not."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in named:
        decays = parameter.ndim > 1 and name.split(".")[-1] not in UNDECAYED
        (matrices if decays else others).append(parameter)
    groups = [ParameterGroup(matrices, lr, decays=True), ParameterGroup(others, lr, decays=False)]
    return [group for group in groups if group.parameters]
