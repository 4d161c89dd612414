"""The baseline of full fine-tuning: the plain tower and a linear head, trained by the library's own loop.

Same batches, augmentation, precision, optimiser, learning rates by depth, schedule and clipping as stage 1,
and like it, it continues from its last checkpoint when it was interrupted.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from common import class_token
from mpfgvc import Config
from mpfgvc.config import Stage1Config
from mpfgvc.data.catalog import read_photos
from mpfgvc.distributed import seeded, start_fabric
from mpfgvc.model.towers.image_tower import ImageTower
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.checkpoint import TrainingState
from mpfgvc.training.loop import Loop
from mpfgvc.training.open_run import list_photographs, open_run
from mpfgvc.training.stages import ParameterGroup, Stage, StepResult, groups_by_depth, split_by_decay


class FineTuning(Stage):
    """The tower by timm's own forward, all patches in all blocks, with a linear head on the class token."""

    name = "finetune"
    sources = ()
    compiles = True
    remedy = "stage1.lr and stage1.tower_lr must be lower"
    settings: Stage1Config

    def __init__(self, tower: ImageTower, head: nn.Linear, settings: Stage1Config):
        super().__init__()
        self.tower, self.head, self.settings = tower.requires_grad_(True), head, settings

    @property
    def micro_batches(self) -> int:
        return self.settings.accumulate

    def forward(self, images: Tensor, labels: Tensor) -> StepResult:
        """The cross-entropy of a batch."""
        logits = self.head(class_token(self.tower, images))
        return StepResult(F.cross_entropy(logits, labels), logits)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The tower by depth, as in stage 1, and the head at the rate of new parts."""
        head = split_by_decay(self.head.named_parameters(), self.settings.lr)
        return groups_by_depth(self.tower, self.settings) + head


def fine_tune(config: Config, folder: Path) -> FineTuning:
    """The trained tower and head; `folder` becomes a run folder, which a second call continues."""
    config = config.replaced(model=config.model.replaced(descriptions=None))  # no text here
    photos = read_photos(config.data, seed=config.seed)
    fabric = start_fabric(config.device, config.precision)
    photos = list_photographs(config, photos, fabric)
    run = open_run(config, photos, fabric, RunFolder(folder))
    tower = run.network.image_encoder.tower
    with seeded(config.seed):
        head = nn.Linear(tower.width, len(photos.classes))
    stage = FineTuning(tower, head, config.stage1)
    state = run.state or TrainingState(stage=stage.name, identity=vars(run.identity))
    Loop(stage, run.training_batches(workers=config.data.workers), run.session, validate=None, state=state).run()
    return stage
