"""The memory of a training, moment by moment: what one process holds on its device and in its machine.

What the network does comes from a counted step (step_cost.py). The rest follows from how the code works:

    photographs     every process lists them all, and keeps the list, but not those of packed shards
    embeddings      E bytes; four copies while they are put in order, and every process holds them all
    regression      float64: the embeddings twice, 3 of photographs x classes, 206 of its weights (L-BFGS)
    checkpoint      written in memory first: trained weights, optimiser's state, average, best weights
    sharding        1/processes of weights, gradients and states; all weights once where they are put together
"""

from dataclasses import dataclass
from typing import Literal

from mpfgvc.config import Config, StageConfig
from mpfgvc.scale.step_cost import Sizes, StepCost

Place = Literal["device", "host"]
PHOTOGRAPH = 1_100
"""Bytes of one photograph in the lists of a process: its path of 60 letters, its label, its digest."""
LIST = "list of photographs"
ORDER = 8
"""Bytes of one photograph in the order of an epoch."""
WORKER = 150e6
"""Bytes of a loader process beside what it shares; assumed."""
GPU_LIBRARIES = 1e9
"""Bytes of a GPU that CUDA's and NCCL's own parts take; assumed."""
CPU_LIBRARIES = 55e6
"""Bytes that a tokenizer, Python's objects and the kernels' own buffers take on a CPU; measured."""
CPU_KEPT_BACK = 0.2
"""What glibc's allocator keeps back on a CPU, as a share of the activations; measured."""
REGRESSION_COPIES = 206
FLOAT, DOUBLE = 4, 8
STATES = {"adamw": 2, "sgd": 1}
"""Numbers that an optimiser keeps for each parameter."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that takes memory."""

    name: str
    bytes: float
    place: Place = "device"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a process holds at one moment of a training."""

    name: str
    parts: tuple[Part, ...]

    def total(self, place: Place | None = None) -> float:
        """Bytes in one place, or in both."""
        return sum(part.bytes for part in self.parts if place in (None, part.place))


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a process has to do. `photographs`: of the training split; `batch`: of this process."""

    config: Config
    classes: int
    photographs: int
    processes: int
    batch: int
    workers: int
    image_size: tuple[int, int]
    width: int
    gpu: bool
    stage1: StepCost
    stage2: StepCost

    @property
    def micro_batch(self) -> int:
        """Photographs in one forward pass."""
        return self.batch // self.config.stage1.accumulate

    @property
    def bytes_a_photograph(self) -> float:
        """What a process keeps of each; packed shards are not listed (data/shard_table.py)."""
        if self.config.data.dataset != "shards":
            return PHOTOGRAPH
        return ORDER if self.config.data.shuffle_shards is None else 0

    @property
    def shares(self) -> int:
        """Processes that share the tensors of a stage."""
        return self.processes if self.config.sharding == "full" else 1


def moments(load: Load) -> tuple[Moment, ...]:
    """The moments of a training, in the order of time."""
    config = load.config
    standing = (*_weights(load.stage1.sizes), *_standing(load))
    spread = (*_weights(load.stage1.sizes, load.shares), *_standing(load))
    found = [Moment(name="photographs listed", parts=_standing(load))]
    if config.stage1.start == "features":
        found.append(Moment(name="start from features", parts=(*standing, *_feature_start(load))))
    if config.stage1.epochs > 0:
        found.append(Moment(name="a step of stage 1", parts=(*spread, *_stage1(load))))
        found.append(Moment(name="a checkpoint of stage 1", parts=(*spread, *_checkpoint(load))))
        if load.shares > 1:
            found.append(Moment(name="weights put together", parts=(*standing, *_put_together(load))))
    if config.stage2.epochs > 0 or config.stage2.start == "stage1":
        embedded = Part(name="embeddings while they are gathered", bytes=_gathered(load), place="host")
        found.append(Moment(name="embedding for stage 2", parts=(*standing, embedded)))
        found.append(Moment(name="a step of stage 2", parts=(*standing, *_stage2(load))))
    return tuple(found)


def embeddings(load: Load) -> float:
    """E: bytes of one view of all photographs."""
    return FLOAT * load.photographs * load.width


def _weights(sizes: Sizes, shares: int = 1) -> tuple[Part, ...]:
    return (
        Part(name="weights: image tower", bytes=sizes.image_tower / shares),
        Part(name="weights: text tower, frozen", bytes=sizes.text_tower / shares),
        Part(name="weights: class prompts", bytes=sizes.prompts / shares),
        Part(name="weights: classifier, projection, fusion", bytes=sizes.heads / shares),
    )


def _standing(load: Load) -> tuple[Part, ...]:
    """What is there from the beginning to the end."""
    listed = Part(name=LIST, bytes=load.bytes_a_photograph * load.photographs, place="host")
    name, bytes_ = ("CUDA and NCCL (assumed)", GPU_LIBRARIES) if load.gpu else ("libraries", CPU_LIBRARIES)
    return listed, Part(name=name, bytes=bytes_)


def _stage1(load: Load) -> tuple[Part, ...]:
    settings, cost, trained = load.config.stage1, load.stage1, load.stage1.sizes.trained
    batch = FLOAT * load.batch * 3 * load.image_size[0] * load.image_size[1]
    what = "class prompts" if "prompts" in cost.peak_phase else "a micro-batch"
    activations = cost.peak - trained
    kept_back = Part(name="kept back by the allocator", bytes=CPU_KEPT_BACK * activations)
    return (
        *_trained_state(load, cost.sizes, settings),
        Part(name=f"activations of {what}, at the peak", bytes=activations),
        *(() if load.gpu else (kept_back,)),
        *_best(load),
        Part(name="photographs of a batch", bytes=batch),
        Part(name="loader: batches in waiting", bytes=batch * max(1, 2 * load.workers), place="host"),
        *_loader_processes(load),
    )


def _loader_processes(load: Load) -> tuple[Part, ...]:
    """A loader process ends with its own copy of a list, as Python counts references inside it."""
    copied = PHOTOGRAPH * load.photographs / 2 if load.config.data.dataset != "shards" else 0
    each = WORKER + copied
    name = f"loader: {load.workers} processes (assumed)"
    return (Part(name=name, bytes=load.workers * each, place="host"),) if load.workers else ()


def _trained_state(load: Load, sizes: Sizes, settings: StageConfig) -> tuple[Part, ...]:
    share = sizes.trained / load.shares
    found = [
        Part(name="gradients", bytes=share),
        Part(name="optimiser state", bytes=STATES[settings.optimizer] * share),
    ]
    if settings.ema is not None:
        found.append(Part(name="moving average", bytes=share))
    if load.shares > 1:
        gathered = sizes.gathered + sizes.gathered_trained
        found.append(Part(name="weights and gradients of the blocks at work", bytes=gathered))
    elif load.processes > 1:
        found.append(Part(name="DDP buckets", bytes=share))
    return tuple(found)


def _best(load: Load) -> tuple[Part, ...]:
    """The best weights so far, which early stopping keeps where there are validation photographs."""
    keeps = load.config.stage1.patience is not None and load.config.data.validation > 0
    bytes_ = load.stage1.sizes.trained / load.shares
    return (Part(name="best weights (patience)", bytes=bytes_, place="host"),) if keeps else ()


def _checkpoint(load: Load) -> tuple[Part, ...]:
    settings, trained = load.config.stage1, load.stage1.sizes.trained
    kept = _between_steps(load)
    if not load.gpu:  # freed, but the optimiser's state lies above them in the heap
        kept.append(Part(name="gradients, kept back by the allocator", bytes=trained / load.shares))
    copies = 1 + STATES[settings.optimizer] + (settings.ema is not None) + bool(_best(load))
    buffer = Part(name="the checkpoint, before it is written", bytes=copies * trained, place="host")
    if load.shares > 1:  # in the first process
        kept.append(Part(name="all shares of the checkpoint", bytes=copies * trained, place="host"))
    return (*kept, *_best(load), *_loader_processes(load), buffer)


def _put_together(load: Load) -> tuple[Part, ...]:
    """Beside the whole weights, with which the network is validated: the shares and their state."""
    share = sum(part.bytes for part in _weights(load.stage1.sizes, load.shares))
    weights = Part(name="weights: share of this process", bytes=share)
    return (weights, *_between_steps(load), *_best(load), *_loader_processes(load))


def _between_steps(load: Load) -> list[Part]:
    """The state of stage 1 without what only a step needs."""
    state = _trained_state(load, load.stage1.sizes, load.config.stage1)
    return [part for part in state if "gradients" not in part.name]


def _feature_start(load: Load) -> tuple[Part, ...]:
    each, photographs, classes = embeddings(load), load.photographs, load.classes
    logits = 3 * DOUBLE * photographs * classes
    history = REGRESSION_COPIES * DOUBLE * classes * (load.width + 1)
    if "vision" not in load.config.stage1.sources:
        return (Part(name="embeddings while they are gathered", bytes=4 * each, place="host"),)
    fitting = 4 * each + logits + history
    return (
        Part(name="embeddings", bytes=each, place="host"),
        Part(name="logistic regression", bytes=max(6 * each, fitting), place="host"),
    )


def _gathered(load: Load) -> float:
    """The most that embedding all views takes: one view, then the others, then all of them in one array."""
    each, views = embeddings(load), load.config.stage2.views
    return max(4 * each, each + 4 * (views - 1) * each, 2 * views * each)


def _stage2(load: Load) -> tuple[Part, ...]:
    settings, cost = load.config.stage2, load.stage2
    trained = cost.sizes.trained
    stored = load.config.stage2.views * embeddings(load)
    return (
        *_trained_state(load, cost.sizes, settings),
        Part(name="activations of a step", bytes=cost.peak - trained),
        Part(name="stored embeddings, all views", bytes=stored, place="host"),
    )
