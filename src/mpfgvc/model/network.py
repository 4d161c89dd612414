"""MP-FGVC: the whole network, built from its parts (docs/method.md).

    V             = image encoder(images)         selection inside, section 1
    T^c           = class prompts()               section 2
    vision logits = Linear(V)
    text logits   = cos(W V, T^c) / tau           W where widths differ, or where the towers have one
    fusion logits = VLFM(V, T)                    section 3

The paper predicts by the fusion logits; `model.prediction` may name another source.
"""

from collections.abc import Collection, Sequence
from copy import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpfgvc.config import ModelConfig
from mpfgvc.distributed import seeded
from mpfgvc.errors import ConfigError
from mpfgvc.model.fusion import Fusion
from mpfgvc.model.image_encoder import EncodedImages, ImageEncoder
from mpfgvc.model.prompts import ClassEmbeddings, ClassPrompts, class_prompts, division_notes
from mpfgvc.model.towers.alignment import ProjectionStart, projection_start
from mpfgvc.model.towers.hub import fetch, hub_files
from mpfgvc.model.towers.image_tower import build_image_tower, check_image_weights
from mpfgvc.model.towers.text_tower import build_text_and_visual, build_text_tower, check_text_weights
from mpfgvc.terms import Source

SOURCES: tuple[Source, ...] = ("vision", "text", "fusion")
"""The three sources of logits, by their names in reports."""


class Logits(NamedTuple):
    """The logits of the three sources."""

    vision: Float[Tensor, "batch classes"]
    text: Float[Tensor, "batch classes"]
    fusion: Float[Tensor, "batch classes"]


class Output(NamedTuple):
    """What the network says about a batch: logits of its three sources, and what they rest on.

    embedding: V, (batch, width); kept: indices of the kept patches, best first; scores: what they were
    chosen by (image_encoder.py); prediction: the source that the network answers with.
    """

    vision: Float[Tensor, "batch classes"]
    text: Float[Tensor, "batch classes"]
    fusion: Float[Tensor, "batch classes"]
    embedding: Float[Tensor, "batch width"]
    kept: Int[Tensor, "batch kept"]
    scores: Float[Tensor, "batch patches"]
    prediction: Source = "fusion"

    @property
    def logits(self) -> Float[Tensor, "batch classes"]:
        """The network's answer: the paper's is that of the fusion classifier."""
        logits: Tensor = getattr(self, self.prediction)
        return logits


class MPFGVC(nn.Module):
    """Multimodal prompting for fine-grained visual classification.

    `text` gives the text features of all classes: `ClassPrompts` in stage 1, `ClassEmbeddings` afterwards.
    `classes` are the names behind the logits. `start` says where the projection started, and whether the
    text logits mean something before training.
    """

    def __init__(
        self,
        *,
        image_encoder: ImageEncoder,
        text: ClassPrompts | ClassEmbeddings,
        embed: int,
        fusion: Fusion,
        classes: Sequence[str],
        temperature: float = 0.07,
        prediction: Source = "fusion",
    ):
        super().__init__()
        width = image_encoder.tower.width
        self.image_encoder = image_encoder
        self.text = text
        self.projection = nn.Identity() if width == embed else nn.Linear(width, embed, bias=False)
        self.classifier = nn.Linear(width, len(classes))
        self.fusion = fusion
        self.classes = tuple(classes)
        self.embed = embed
        self.temperature = temperature
        self.prediction: Source = prediction
        self.start = ProjectionStart(False, "its towers are not known to be of one training")

    @classmethod
    def from_config(
        cls, config: ModelConfig, classes: Sequence[str], *, sentences: Sequence[Sequence[str]] = (), seed: int = 0
    ) -> "MPFGVC":
        """A network ready for stage 1, with the pretrained towers that `config` names.

        New parts start from `seed`; the projection starts as the towers' own if they are a pair
        (towers/alignment.py). `sentences` describe each class: those of `config.descriptions`, which
        data/descriptions.py reads. Raises ConfigError or CheckpointError as the towers do.
        """
        _refuse_without_sentences(config, sentences)
        fetch(hub_files(config))
        text_tower, visual = build_text_and_visual(config.text_tower, seed=seed)
        text = class_prompts(config, text_tower, classes, sentences=sentences, seed=seed)
        network = cls._from_parts(config, classes, text, embed=text_tower.embed, seed=seed, load_weights=True)
        network.start = projection_start(config, network.image_encoder.tower, text_tower, visual)
        if network.start.weight is not None:
            network.projection = _projection(network.start.weight)
        return network

    @classmethod
    def deployed_from_config(
        cls, config: ModelConfig, classes: Sequence[str], *, embed: int, stored: Collection[str] = ()
    ) -> "MPFGVC":
        """A network without text tower, its tensors still to be loaded; `embed` is the width of its text.

        `stored` names these tensors. They say whether there is a projection between equal widths, as an
        aligned pair may have.
        """
        text = ClassEmbeddings(torch.zeros(len(classes), embed))
        network = cls._from_parts(config, classes, text, embed=embed, seed=0, load_weights=False)
        if "projection.weight" in stored:
            network.projection = _projection(torch.zeros(embed, network.image_encoder.tower.width))
        return network

    @classmethod
    def _from_parts(
        cls,
        config: ModelConfig,
        classes: Sequence[str],
        text: ClassPrompts | ClassEmbeddings,
        *,
        embed: int,
        seed: int,
        load_weights: bool,
    ) -> "MPFGVC":
        with seeded(seed):
            tower = build_image_tower(config.image_tower, load_weights=load_weights)
            fusion = Fusion(width=tower.width, text_width=embed, classes=len(classes), seed=seed)
            encoder = ImageEncoder(tower=tower, kept_tokens=config.kept_tokens, selection=config.selection)
            return cls(
                image_encoder=encoder,
                text=text,
                embed=embed,
                fusion=fusion,
                classes=classes,
                prediction=config.prediction,
            )

    def units(self) -> list[nn.Module]:
        """Modules that run only by their `forward`, so that their weights need not be there all the time."""
        texts = self.text.tower.units() if isinstance(self.text, ClassPrompts) else []
        return self.image_encoder.units() + texts

    def forward(self, images: Float[Tensor, "batch 3 image_height image_width"]) -> Output:
        """All three sources of logits for normalised images of the tower's input size."""
        return self.classify(self.image_encoder(images))

    def classify(self, encoded: EncodedImages) -> Output:
        """All three sources of logits for images that the image encoder has seen."""
        return Output(*self.logits(encoded.embedding), *encoded, self.prediction)

    def logits(self, embedding: Float[Tensor, "batch width"]) -> Logits:
        """All three sources of logits for image embeddings V."""
        text_features = self.text()
        return Logits(
            vision=self.classifier(embedding),
            text=self.text_logits(embedding, text_features),
            fusion=self.fusion(embedding, text_features),
        )

    def text_logits(
        self, embedding: Float[Tensor, "batch width"], text_features: Float[Tensor, "classes embed"]
    ) -> Float[Tensor, "batch classes"]:
        """cos(V, T^c) / tau."""
        return self.cosine_logits(embedding, F.normalize(text_features, dim=-1))

    def cosine_logits(
        self, embedding: Float[Tensor, "batch width"], directions: Float[Tensor, "classes embed"]
    ) -> Float[Tensor, "batch classes"]:
        """The text logits, from text features of length 1."""
        projected = F.normalize(self.projection(embedding), dim=-1)
        return projected @ directions.T / self.temperature

    @property
    def prompts(self) -> ClassPrompts:
        """The class prompts. Raises TypeError for a network that is deployed and has none."""
        if not isinstance(self.text, ClassPrompts):
            raise TypeError("this network is deployed, so it has text features and no class prompts")
        return self.text

    @torch.no_grad()
    def deployed(self, text_features: Float[Tensor, "classes embed"] | None = None) -> "MPFGVC":
        """The same network with its text features computed once, and no text tower.

        It shares all the other parts with this one; a deployed network gives itself. `text_features` are
        those of its prompts, from who has them already.
        """
        if text_features is None and isinstance(self.text, ClassEmbeddings):
            return self
        twin = copy(self)
        text = ClassEmbeddings(self.text() if text_features is None else text_features)
        twin._modules = {**self._modules, "text": text}
        return twin


def check_settings(
    config: ModelConfig, classes: Sequence[str], sentences: Sequence[Sequence[str]] = ()
) -> tuple[str, ...]:
    """Refuse what the towers cannot do, before any of their weights are fetched. Returns notes for people.

    Builds both towers without memory for their weights. Raises ConfigError for an unknown tower, too many
    kept tokens, too long prompts or `sentences` that cannot be read, CheckpointError for a local weights
    file that is missing or unfit.
    """
    with torch.device("meta"):
        tower = build_image_tower(config.image_tower, load_weights=False)
        ImageEncoder(tower=tower, kept_tokens=config.kept_tokens)
        text_tower = build_text_tower(config.text_tower, load_weights=False)
        class_prompts(config, text_tower, classes)
    _refuse_without_sentences(config, sentences)
    notes = division_notes(text_tower, sentences)
    check_image_weights(config.image_tower, tower)
    check_text_weights(config.text_tower, text_tower)
    return notes


def _projection(weight: Float[Tensor, "embed width"]) -> nn.Linear:
    """A projection with this weight. No random numbers are drawn."""
    embed, width = weight.shape
    layer = nn.Linear(width, embed, bias=False, device="meta")
    layer.weight = nn.Parameter(weight.clone())
    return layer


def _refuse_without_sentences(config: ModelConfig, sentences: Sequence[Sequence[str]]) -> None:
    if config.descriptions is not None and not sentences:
        hint = "give `sentences`, which read_descriptions of mpfgvc.data.descriptions returns"
        raise ConfigError(f"model.descriptions is {config.descriptions}, but no sentences came with it; {hint}")
