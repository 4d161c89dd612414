"""How test photographs are prepared for a tower, by its own statistics and the settings of the data."""

from mpfgvc.config import DataConfig
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.model.towers.image_tower import TowerInput


def preprocessing_of(tower: TowerInput, settings: DataConfig) -> Preprocessing:
    """How test photographs are prepared: as the tower's own were, where the settings leave it open."""
    return Preprocessing(
        image_size=tower.image_size,
        resize=settings.resize,
        crop_ratio=settings.crop_ratio or tower.crop_ratio,
        mean=tower.mean,
        std=tower.std,
        interpolation=tower.interpolation,  # type: ignore[arg-type]
    )
