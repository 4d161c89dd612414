"""Training photographs on one core: from the JPEG file to the tensor of a random resized crop.

    python benchmarks/image_loading.py ../shared/data/CUB_200_2011/images

First the photographs are scaled to 500 pixels on their longer side, and to 4,000 by 3,000 (JPEG,
quality 90). The reference is the usual way: Pillow decodes the whole file, then torchvision's
RandomResizedCrop, RandomHorizontalFlip and Normalize on the Pillow image.

The check: from the same seed both must show the same crop. The corner that torch draws depends on the size
of the image, so for the check the reference is reduced to the size that ours is decoded at.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from common import photographs
from mpfgvc.config import AugmentConfig
from mpfgvc.data.images import read_image
from mpfgvc.data.loading import Photos
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import Photograph
from mpfgvc.data.transforms import train_transform
from mpfgvc.processes import seed_of
from side_by_side import Comparison, compare_time, report

PREPROCESSING = Preprocessing(image_size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
AUGMENT = AugmentConfig(min_scale=0.4)
LEVEL = 1 / 255 / 0.5  # one of 255 levels, after normalisation


def main() -> None:
    torch.set_num_threads(1)
    found = photographs(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        usual = [enlarged(path, 500, Path(folder)) for path in found[:: max(1, len(found) // 100)]]
        large = [enlarged(path, 4000, Path(folder)) for path in found[:: max(1, len(found) // 8)]]
        rows = [
            _compare("500-px JPEG", usual, wanted=1.5, most_apart=0.5),
            _compare("12-megapixel JPEG", large, wanted=4, most_apart=3),
        ]
    report("image_loading", rows)


def enlarged(path: Path, side: int, folder: Path) -> Path:
    """A copy of a photograph with `side` pixels on its longer side; 4,000 by 3,000 are 12 megapixels."""
    image = Image.open(path).convert("RGB")
    size = (side, round(side * 0.75)) if side > 1000 else None
    scale = side / max(image.size)
    target = folder / f"{side}-{path.parent.name}-{path.stem}.jpg"
    size = size or (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
    return target


def _compare(name: str, paths: Sequence[Path], *, wanted: float, most_apart: float) -> Comparison:
    transform = train_transform(PREPROCESSING, AUGMENT)
    photos = Photos([Photograph(path=path) for path in paths], transform, seed=0)
    usual = _usual_transform()

    def ours() -> None:
        for index in range(len(paths)):
            photos[[(0, index)]]

    def reference() -> None:
        for path in paths:
            usual(Image.open(path).convert("RGB"))

    apart = [_difference(photos, index, usual, path) for index, path in enumerate(paths)]
    print(f"{name}: the same crops, {max(apart):.2f} of 255 levels apart on average in the worst photograph")
    if max(apart) > most_apart:
        raise SystemExit("image_loading: ours does not show what the reference shows")
    return compare_time(
        f"{len(paths)} training photographs, {name} to 224 px", ours=ours, reference=reference, wanted=wanted
    )


def _usual_transform() -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                PREPROCESSING.image_size,
                scale=(AUGMENT.min_scale, 1),
                interpolation=InterpolationMode(PREPROCESSING.interpolation),
            ),
            v2.RandomHorizontalFlip(AUGMENT.flip),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
        ]
    )


def _difference(photos: Photos, index: int, usual: v2.Compose, path: Path) -> float:
    """Mean difference in levels between ours and the reference from the same seed."""
    shown = photos[[(0, index)]].images[0]
    whole = Image.open(path).convert("RGB")
    factor = whole.width // read_image(path, at_least=photos.transform.at_least).width
    torch.manual_seed(seed_of(0, 0, index))
    expected = usual(whole.reduce(factor))
    return (shown - expected).abs().mean().item() / LEVEL


if __name__ == "__main__":
    main()
