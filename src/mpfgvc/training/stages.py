"""The two stages of the optimisation (section 4): what each trains, its groups and its loss.

A stage is a module whose forward takes a batch to its loss, so that one loop and one wrapper (DDP) serve
both. Making it freezes what it does not train; that must come before the optimiser and before Fabric see
the parameters.

    Stage 1 trains image tower, learnable tokens X, projection and classifier on V.   L_v + L_i2t
            Beyond the paper, a weight of 0 leaves one of the losses out with all that only it trains, and
            `stage1.tower_lr: 0` freezes the image tower.
    Stage 2 trains only the fusion module, on embeddings computed once.               L_vlfm
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.distributed as distributed
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.config import Stage1Config, Stage2Config, StageConfig
from mpfgvc.model.fusion import Fusion
from mpfgvc.model.losses import Objective, classification_loss
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.model.towers.image_tower import ImageTower
from mpfgvc.processes import Processes
from mpfgvc.terms import Source

UNDECAYED = ("cls_token", "reg_token", "pos_embed", "context")
"""Parameters with more than one dimension that are not weight matrices: tokens and positions."""
ALONE = Processes()
"""One process, which encodes all prompts."""


class ParameterGroup(NamedTuple):
    """Parameters that share a peak learning rate and whether they decay."""

    parameters: list[nn.Parameter]
    lr: float
    decays: bool


class StepResult(NamedTuple):
    """The loss of a batch, and the logits that its training accuracy is read from."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "batch classes"]


class Stage(nn.Module, ABC):
    """What the training loop needs to know of a stage."""

    name: ClassVar[str]
    """Its name in settings, logs and checkpoints; stages run in the order of their names."""
    sources: tuple[Source, ...]
    """The sources of logits that it trains, which validation looks at."""
    compiles: ClassVar[bool]
    """Whether a step is long enough to gain by torch.compile."""
    remedy: ClassVar[str]
    """What to change if it diverges: the beginning of the error message."""
    settings: StageConfig

    @property
    def micro_batches(self) -> int:
        """Parts that a batch is split into, one forward and backward pass each."""
        return 1

    def units(self) -> list[nn.Module]:
        """The modules whose weights are gathered one at a time where they are spread (sharding.py)."""
        return []

    @abstractmethod
    def forward(self, inputs: Float[Tensor, "batch ..."], labels: Int[Tensor, " batch"]) -> StepResult:
        """The loss of a batch."""

    @abstractmethod
    def parameter_groups(self) -> list[ParameterGroup]:
        """What it trains, and at which rates."""

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that it trains, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}


class Stage1(Stage):
    """Stage 1 of a network that still has its class prompts, which `processes` encode together."""

    name = "stage1"
    compiles = True
    remedy = "stage1.lr and stage1.tower_lr must be lower"
    settings: Stage1Config

    def __init__(self, network: MPFGVC, settings: Stage1Config, objective: Objective, processes: Processes = ALONE):
        super().__init__()
        self.sources = settings.sources
        network.requires_grad_(False)
        network.image_encoder.requires_grad_(settings.tower_lr > 0)
        network.classifier.requires_grad_("vision" in self.sources)
        network.projection.requires_grad_("text" in self.sources)
        network.prompts.context.requires_grad_("text" in self.sources)
        self.network = network
        self.settings = settings
        self.objective = objective
        self.processes = processes

    @property
    def micro_batches(self) -> int:
        """Parts that a batch is split into, so that it needs less memory."""
        return self.settings.accumulate

    def units(self) -> list[nn.Module]:
        """The blocks of the towers."""
        return self.network.units()

    def forward(self, images: Float[Tensor, "batch 3 height width"], labels: Int[Tensor, " batch"]) -> StepResult:
        """L_v + L_i2t of a batch, each times its weight; one with the weight 0 is not computed.

        The texts come first, so that their backward pass comes last: by then the images' activations
        are gone, and where the texts are recomputed (ClassPrompts) the two are never in memory together.
        """
        if "text" not in self.sources:
            return self._vision(self.network.image_encoder(images).embedding, labels)
        features = text_features(self.network.prompts, self.processes)
        embedding = self.network.image_encoder(images).embedding
        vision = self._vision(embedding, labels) if "vision" in self.sources else None
        logits = self.network.text_logits(embedding, features)
        loss = self.settings.text_weight * classification_loss(logits, labels, self.objective)
        return StepResult(loss, logits) if vision is None else StepResult(vision.loss + loss, vision.logits)

    def _vision(self, embedding: Float[Tensor, "batch width"], labels: Int[Tensor, " batch"]) -> StepResult:
        """L_v times its weight."""
        logits = self.network.classifier(embedding)
        loss = classification_loss(logits, labels, self.objective)
        return StepResult(self.settings.vision_weight * loss, logits)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The image tower by depth at its own rate unless it is frozen, the new parts at another."""
        tower = self.network.image_encoder.tower
        groups = groups_by_depth(tower, self.settings) if self.settings.tower_lr > 0 else []
        inside = {id(parameter) for parameter in tower.parameters()}
        new = [(name, weight) for name, weight in self.trained().items() if id(weight) not in inside]
        return groups + split_by_decay(new, self.settings.lr)


class Stage2(Stage):
    """Stage 2: the fusion module on embeddings, with the class text features as constants."""

    name = "stage2"
    sources = ("fusion",)
    compiles = False
    remedy = "stage2.lr must be lower"

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
        return split_by_decay(self.trained().items(), self.settings.lr)


def split_by_decay(named: Iterable[tuple[str, nn.Parameter]], lr: float) -> list[ParameterGroup]:
    """One group of weight matrices, which decay, and one of everything else, which does not."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in named:
        decays = parameter.ndim > 1 and name.split(".")[-1] not in UNDECAYED
        (matrices if decays else others).append(parameter)
    groups = [ParameterGroup(matrices, lr, decays=True), ParameterGroup(others, lr, decays=False)]
    return [group for group in groups if group.parameters]


def groups_by_depth(tower: ImageTower, settings: Stage1Config) -> list[ParameterGroup]:
    """The parameters of an image tower; the rate falls by `layer_decay` from each block to the one below."""
    by_rate: dict[float, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in tower.named_parameters():
        scale = settings.layer_decay ** (tower.depth - tower.depth_of(name))
        by_rate.setdefault(settings.tower_lr * scale, []).append((name, parameter))
    return [group for rate, named in by_rate.items() for group in split_by_decay(named, rate)]


def text_features(prompts: ClassPrompts, processes: Processes) -> Float[Tensor, "classes embed"]:
    """T^c of all classes; of several processes each encodes its share, and all get the features of all.

        process r of R encodes the classes r n .. (r + 1) n - 1,  n = ceil(C / R)

    It is exact: dL/dT of every process goes back to the one that encoded them, and DDP divides their sum by R,
    as it would if each had encoded them all. Every process must call this.
    """
    if processes.world == 1:
        return cast("Tensor", prompts())
    classes = len(prompts.context)
    share = -(-classes // processes.world)
    indices = torch.arange(share, device=prompts.context.device) + processes.rank * share
    # The last process may have fewer; it encodes the last class again, and nobody reads it.
    own = prompts(indices.clamp(max=classes - 1))
    return torch.cat(_Gather.apply(own))[:classes]


class _Gather(torch.autograd.Function):
    """torch.distributed.nn has the same, but is deprecated in torch 2.13 for names that 2.11 has not."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> tuple[Tensor, ...]:
        found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(found, own.contiguous())
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = torch.stack(gradients)
        distributed.all_reduce(total)
        return total[distributed.get_rank()]
