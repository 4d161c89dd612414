"""What a pair of towers knows without training: the cosines between pictures and sentences."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mpfgvc.birds.plumage import ATTRIBUTES, Plumage, Species, all_species, caption, plumage_of, random_plumage
from mpfgvc.birds.scene import draw_image
from mpfgvc.data.preprocessing import Preprocessing, prepare
from mpfgvc.inference.forward import Compute, encode_in_parts, preprocessing_of
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import ImageTower
from mpfgvc.model.towers.text_tower import TextTower
from mpfgvc.recipes_io import load_config, recipe

MEASURE_SEED = 7_000_000
"""Pictures that neither the pretraining nor the benchmark shows."""


def benchmark_preprocessing(tower: ImageTower) -> Preprocessing:
    """How the default recipe prepares pictures for a tower."""
    return preprocessing_of(tower.input, load_config(recipe("synthetic")).data)


def all_sentences() -> list[str]:
    """A sentence for each value of each attribute, in their order: `a bird with a red crown`."""
    some = vars(random_plumage(np.random.default_rng(0)))
    return [
        caption(plumage_of(some | {name: value}), (name,)) for name, values in ATTRIBUTES.items() for value in values
    ]


def sentences_about(plumage: Plumage) -> list[str]:
    """One sentence for each attribute of a bird."""
    return [caption(plumage, (name,)) for name in ATTRIBUTES]


@torch.inference_mode()
def attribute_accuracy(encoder: ImageEncoder, text_tower: TextTower, count: int) -> dict[str, float]:
    """For each attribute, how often the sentence with the right value is nearest. 0..1.

    Over `count` pictures of the benchmark's 200 classes, whose combinations the towers never saw.
    """
    species = all_species()
    birds = [species[number % len(species)].plumage for number in range(count)]
    similarities = _embed(encoder, birds) @ _read(text_tower, all_sentences()).T
    groups = similarities.split([len(values) for values in ATTRIBUTES.values()], dim=1)
    return {
        name: _share_right(group, [values.index(getattr(bird, name)) for bird in birds])
        for (name, values), group in zip(ATTRIBUTES.items(), groups, strict=True)
    }


@torch.inference_mode()
def class_accuracy(encoder: ImageEncoder, text_tower: TextTower, species: Sequence[Species], count: int) -> float:
    """How often a picture is nearest to its own class. 0..1.

    A class is the mean of the 14 sentences about its attributes, because a caption with all 14 is longer
    than any that the text tower has read.
    """
    labels = [number % len(species) for number in range(count)]
    texts = torch.stack([_read(text_tower, sentences_about(kind.plumage)).mean(dim=0) for kind in species])
    birds = [species[label].plumage for label in labels]
    return _share_right(_embed(encoder, birds) @ F.normalize(texts, dim=-1).T, labels)


def _embed(encoder: ImageEncoder, birds: Sequence[Plumage]) -> Tensor:
    preprocessing = benchmark_preprocessing(encoder.tower)
    size = preprocessing.image_size[0]
    cpu, embeddings = Compute(device=torch.device("cpu")), []
    for start in range(0, len(birds), 100):
        images = [
            draw_image(bird, seed=MEASURE_SEED, index=number, size=size)
            for number, bird in enumerate(birds[start : start + 100], start=start)
        ]
        pixels = torch.stack([torch.from_numpy(prepare(image, preprocessing)) for image in images])
        embeddings.append(encode_in_parts(encoder, pixels, cpu).embedding)
    return F.normalize(torch.cat(embeddings), dim=-1)


def _read(text_tower: TextTower, sentences: Sequence[str]) -> Tensor:
    return F.normalize(text_tower.encode(sentences), dim=-1)


def _share_right(similarities: Tensor, labels: Sequence[int]) -> float:
    return (similarities.argmax(dim=1) == torch.tensor(labels)).float().mean().item()
