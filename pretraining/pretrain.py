"""Pretrain the bundled towers by a contrastive loss on synthetic birds and their captions.

    python pretraining/pretrain.py --out runs/pretraining         # a second call continues after a stop

Every picture is new, and none shows a class of the benchmark. Two losses with one learnable temperature:

    captions    CLIP's own: which of the batch's captions, each about 6 of the 14 attributes, belongs
                to which picture, and the other way round
    phrases     for each attribute, which of its sentences ("a bird with a red crown") belongs to the picture;
                an attribute weighs the more, the less it is known

Before that, only the text tower is trained, to distinguish the words (`teach_words`). The first pictures
show the bird large, central and facing right; after 60 % of the steps they vary half as much as the
benchmark's: clear views, as in a field guide, which leave something to learn from photographs. A step
depends only on weights, optimiser and its number, so a run that was stopped ends with the same weights.
"""

import csv
import io
import math
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mpfgvc.birds.plumage import ATTRIBUTES, Plumage, all_species, caption, random_plumage
from mpfgvc.birds.scene import draw_image
from mpfgvc.config import ImageTowerConfig, TextTowerConfig
from mpfgvc.data.preprocessing import Preprocessing, normalise
from mpfgvc.files import write_bytes, write_text
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from mpfgvc.training.loop import schedule
from zero_shot import all_sentences, benchmark_preprocessing

PICTURE_SEED = 20_260_101
"""Far from the seeds of the benchmark, which start at 0."""
CAPTIONED = 6
"""Attributes in a caption."""
EASY_SHARE = 0.6
"""Share of the training during which the pictures get harder; the first are large, central, facing right."""
VARIATION = 0.5
"""Variation of the hardest pictures; the benchmark's is 1."""
POSITION_SCALE = 0.5
TEXT_SHARE = 0.1
"""Rate of the text tower, which already knows the words, relative to the image tower's."""
WORD_BATCH, WORD_LR = 128, 1e-3
SENTENCES = all_sentences()
CHANCE_LOSS = [math.log(len(values)) for values in ATTRIBUTES.values()]
CHECKPOINT_STEPS = 100
Example = tuple[Tensor, str, Tensor]  # pixels, caption, index of each attribute's value


class Towers(nn.Module):
    """Both towers and the temperature of the contrast."""

    def __init__(self) -> None:
        super().__init__()
        image_tower = build_image_tower(ImageTowerConfig(name="mpfgvc-birds", pretrained=False))
        _initialise(image_tower.transformer)
        self.image_encoder = ImageEncoder(tower=image_tower, kept_tokens=None)
        self.text_tower = build_text_tower(TextTowerConfig(name="mpfgvc-birds", pretrained=None))
        self.text_tower.requires_grad_(True)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, captions: list[str], values: Tensor) -> tuple[Tensor, Tensor]:
        """The two losses of a batch, captions and phrases; `values` (batch, attributes)."""
        scale = self.log_scale.exp().clamp(max=100)
        pictures = F.normalize(self.image_encoder(images).embedding.float(), dim=-1)
        texts = F.normalize(self.text_tower.encode(captions).float(), dim=-1)
        logits = scale * pictures @ texts.T
        own = torch.arange(len(images), device=images.device)
        captions_loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        phrases = F.normalize(self.text_tower.encode(SENTENCES).float(), dim=-1)
        groups = (scale * pictures @ phrases.T).split([len(names) for names in ATTRIBUTES.values()], dim=1)
        pairs = zip(groups, values.unbind(dim=1), strict=True)
        return captions_loss, torch.stack([F.cross_entropy(group, value) for group, value in pairs])


def weigh(phrase_losses: Tensor) -> Tensor:
    """The mean over attributes, weighed by loss over chance: else the gradients of large parts dominate."""
    shares = phrase_losses.detach() / torch.tensor(CHANCE_LOSS, device=phrase_losses.device)
    return (shares / shares.mean() * phrase_losses).mean()


def _initialise(transformer: nn.Module) -> None:
    """Start with clear positions: timm's, of scale 0.02, are lost beside patch embeddings of 0.3."""
    positions = build_sincos2d_pos_embed(transformer.patch_embed.grid_size, dim=transformer.embed_dim)
    with torch.no_grad():
        transformer.pos_embed[:, transformer.num_prefix_tokens :] = POSITION_SCALE * positions


class Birds(Dataset[Example]):
    """Picture number `index` of the endless series, with its caption; the first `easy` vary less."""

    def __init__(self, preprocessing: Preprocessing, easy: int) -> None:
        self.preprocessing, self.easy = preprocessing, easy

    def __getitem__(self, index: int) -> Example:
        generator = np.random.default_rng((PICTURE_SEED, index, 1))  # not the one that draws the picture
        plumage = unseen_by_benchmark(generator)
        names = generator.permutation(list(ATTRIBUTES))[:CAPTIONED]
        words = caption(plumage, tuple(map(str, names)))
        variation = VARIATION * min(1.0, index / self.easy)
        size = self.preprocessing.image_size[0]
        image = draw_image(plumage, seed=PICTURE_SEED, index=index, size=size, variation=variation)
        values = [known.index(getattr(plumage, name)) for name, known in ATTRIBUTES.items()]
        return torch.from_numpy(normalise(image, self.preprocessing)), words, torch.tensor(values)


def main() -> None:
    """Train from where the last checkpoint stands to the last step."""
    options = _parse()
    options.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    towers = Towers().to(device)
    optimizer = torch.optim.AdamW(parameter_groups(towers), lr=options.lr, betas=(0.9, 0.98), fused=True)
    step = restore(options.out / "checkpoint.pt", towers, optimizer, _plan(options))
    if step == 0:
        teach_words(towers.text_tower, options.word_steps)
    _rewind(options.out / "log.csv", step)
    started = time.perf_counter()
    preprocessing = benchmark_preprocessing(towers.image_encoder.tower)
    for images, captions, values in _loader(preprocessing, options, step):
        for group in optimizer.param_groups:
            rate = schedule(step, warmup=options.warmup, total=options.steps)
            group["lr"] = options.lr * group["share"] * rate
        with torch.autocast(device, torch.bfloat16):
            captions_loss, phrase_losses = towers(images.to(device), list(captions), values.to(device))
        optimizer.zero_grad()
        (captions_loss + weigh(phrase_losses)).backward()
        nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % CHECKPOINT_STEPS == 0 or step == options.steps:
            save(options.out / "checkpoint.pt", towers, optimizer, step, _plan(options))
        if step % 20 == 0:
            seconds, started = time.perf_counter() - started, time.perf_counter()
            _log(options.out / "log.csv", step, captions_loss, phrase_losses.mean(), 20 * len(images) / seconds)


def teach_words(text_tower: TextTower, steps: int) -> None:
    """Teach the text tower to distinguish the values before it sees pictures.

    Each value has its own direction, and a caption's features must point to the sum of its values'
    directions. Without this both towers are stuck at a saddle point: texts with equal features teach the
    image tower nothing, and the other way round (benchmarks/LOG.md).
    """
    directions = torch.linalg.qr(torch.randn(text_tower.embed, len(SENTENCES))).Q.T
    first = dict(zip(ATTRIBUTES, np.cumsum([0, *map(len, ATTRIBUTES.values())]), strict=False))
    optimizer = torch.optim.AdamW(text_tower.parameters(), lr=WORD_LR, fused=True)
    generator = np.random.default_rng(PICTURE_SEED)
    for step in range(steps):
        captions, targets = [], []
        for _ in range(WORD_BATCH):
            plumage = random_plumage(generator)
            names = generator.permutation(list(ATTRIBUTES))[: generator.integers(1, CAPTIONED + 1)]
            captions.append(caption(plumage, tuple(map(str, names))))
            rows = [first[name] + ATTRIBUTES[name].index(getattr(plumage, name)) for name in names]
            targets.append(directions[rows].sum(dim=0))
        optimizer.param_groups[0]["lr"] = WORD_LR * schedule(step, warmup=20, total=steps)
        features = text_tower.encode(captions)
        loss = 1 - F.cosine_similarity(features, torch.stack(targets).to(features.device), dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            print(f"words, step {step + 1}  loss {loss.item():.4f}", flush=True)


def unseen_by_benchmark(generator: np.random.Generator) -> Plumage:
    """A random combination that is not a class of the benchmark."""
    classes = {kind.plumage for kind in all_species()}
    while (plumage := random_plumage(generator)) in classes:
        pass
    return plumage


def parameter_groups(towers: Towers) -> list[dict[str, Any]]:
    """Weight decay only for matrices; the text tower at a lower rate than the image tower."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in towers.named_parameters():
        decay = 0.1 if weight.ndim > 1 and "embed" not in name else 0.0
        share = TEXT_SHARE if name.startswith("text_tower") else 1.0
        groups.setdefault((decay, share), []).append(weight)
    return [{"params": weights, "weight_decay": decay, "share": share} for (decay, share), weights in groups.items()]


def _plan(options: Namespace) -> dict[str, float]:
    """What every step depends on besides the weights; a continued run must have the same."""
    numbers = {name: getattr(options, name) for name in ("steps", "batch_size", "lr", "warmup", "word_steps")}
    return numbers | {"variation": VARIATION}


def restore(file: Path, towers: Towers, optimizer: torch.optim.Optimizer, plan: dict[str, float]) -> int:
    """The step to continue from."""
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True, map_location="cpu")
    if state.get("plan") != plan:
        raise SystemExit(f"{file} is of a training with {state.get('plan')}, not {plan}; choose another --out")
    towers.load_state_dict(state["towers"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def save(file: Path, towers: Towers, optimizer: torch.optim.Optimizer, step: int, plan: dict[str, float]) -> None:
    """Write everything that the next step depends on, atomically."""
    buffer = io.BytesIO()
    state = {"towers": towers.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "plan": plan}
    torch.save(state, buffer)
    write_bytes(file, buffer.getvalue())


def _loader(preprocessing: Preprocessing, options: Namespace, step: int) -> DataLoader[Any]:
    places = range(options.steps * options.batch_size)
    starts = range(step * options.batch_size, len(places), options.batch_size)
    batches = [list(places[start : start + options.batch_size]) for start in starts]
    birds = Birds(preprocessing, easy=round(EASY_SHARE * len(places)))
    return DataLoader(
        birds, batch_sampler=batches, num_workers=options.workers, prefetch_factor=4 if options.workers else None
    )


def _rewind(file: Path, step: int) -> None:
    """Drop the log's rows about steps that will be done again."""
    rows = file.read_text().splitlines() if file.exists() else []
    kept = [row for row in rows if int(row.split(",")[0]) <= step]
    write_text(file, "".join(f"{row}\n" for row in kept))


def _log(file: Path, step: int, captions: Tensor, phrases: Tensor, images_per_second: float) -> None:
    row = [step, f"{captions.item():.4f}", f"{phrases.item():.4f}", f"{images_per_second:.0f}"]
    with file.open("a", newline="") as lines:
        csv.writer(lines).writerow(row)
    print("step {}  captions {}  phrases {}  {} images/s".format(*row), flush=True)


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint and log")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--word-steps", type=int, default=300, help="of the text tower, before all others")
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    return parser.parse_args()


if __name__ == "__main__":
    main()
