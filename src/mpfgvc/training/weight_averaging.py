"""The average of the trained and the pretrained image tower after stage 1 (beyond the paper).

    W = (1 - share) * W_trained + share * W_pretrained          share = stage1.pretrained_share

Fine-tuning on few photographs forgets; the average keeps more of what pretraining knew, and is often better
than either end (WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, who average
a whole CLIP). Here only the image tower is averaged: classifier, prompts and projection stay trained, as
two of them have no pretrained form. With `ema` or `patience` the trained tower is theirs.

`validation` chooses the share by the mean accuracy of vision and text on the validation photographs. It
follows from the trained weights alone, so a run that is killed meanwhile chooses again, and alike; what
stage 1 stores is the average.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mpfgvc.config import Config
from mpfgvc.data.samples import PhotoSet
from mpfgvc.errors import ConfigError
from mpfgvc.training.loop import Validate
from mpfgvc.training.stages import Stage1

SHARES = tuple(tenths / 10 for tenths in range(10))
"""Shares that `validation` tries: as many evaluations."""
NOTHING_TO_CHOOSE_BY = (
    "stage1.pretrained_share must be a number without validation photographs, got validation; "
    "set data.validation above 0, or give a number"
)
Train = Callable[[], dict[str, Tensor]]
"""Trains a stage to its end and returns the trained weights by name."""


def check_pretrained_share(config: Config, photos: PhotoSet) -> None:
    """Refuse a share that there is nothing to average with, or nothing to choose by. Raises ConfigError."""
    share, tower = config.stage1.pretrained_share, config.model.image_tower
    if share == 0:
        return
    if not (tower.pretrained or tower.weights):
        rule = "must be 0 for an image tower without pretrained weights"
        raise ConfigError(f"stage1.pretrained_share {rule}, got {share}")
    if share == "validation" and not photos.subset("validation"):
        raise ConfigError(NOTHING_TO_CHOOSE_BY)


def train_averaged(
    stage: Stage1, train: Train, *, validate: Validate | None, tell: Callable[[str], None]
) -> dict[str, Tensor]:
    """Train stage 1, then average its image tower with the one that it has now, before training.

    The stage then holds the weights that are returned. `validate` evaluates the weights as they are;
    `tell` says which share was chosen.
    """
    share = stage.settings.pretrained_share
    if share == 0:
        return train()
    tower = stage.network.image_encoder.tower
    pretrained = _copies(tower)
    train()
    trained = _copies(tower)

    def average(share: float) -> None:
        with torch.no_grad():
            for name, weight in tower.named_parameters():
                weight.copy_(torch.lerp(trained[name], pretrained[name], share))

    average(_best_share(average, validate, tell) if share == "validation" else share)
    return {name: weight.detach().cpu().clone() for name, weight in stage.trained().items()}


def _best_share(
    average: Callable[[float], None], validate: Validate | None, tell: Callable[[str], None]
) -> float:
    """The share with the best mean accuracy of vision and text; of equal ones the smallest."""
    if validate is None:
        raise ConfigError(NOTHING_TO_CHOOSE_BY)
    accuracies = []
    for share in SHARES:
        average(share)
        sources = validate().sources.values()
        accuracies.append(sum(metrics.top1 for metrics in sources) / len(sources))
    best = max(range(len(SHARES)), key=accuracies.__getitem__)
    tell(
        f"stage1.pretrained_share {SHARES[best]:g}: {100 * accuracies[best]:.1f} % on the validation "
        f"photographs, {100 * accuracies[0]:.1f} % without averaging ({len(SHARES)} evaluations)"
    )
    return SHARES[best]


def _copies(tower: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in tower.named_parameters()}
