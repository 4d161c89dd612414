"""`mpfgvc plan`: what a training would take, before it is started.

Memory of each moment (moments.py), time by FLOPs and a rate (duration.py), and, where something does not
fit, the settings that make it fit (fit.py). Nothing is fetched and no photograph is read.
"""

import os
from dataclasses import asdict, dataclass
from typing import Any

from mpfgvc.config import Config
from mpfgvc.data.loading import worker_count
from mpfgvc.devices import cpu_multiplies_bf16, find_device
from mpfgvc.errors import ConfigError
from mpfgvc.scale.duration import Forward, Phase, stage1_step, stretches, text_share
from mpfgvc.scale.moments import Load, Moment, Place, moments
from mpfgvc.scale.rates import Clock, Rate, measured_rate, named_rate
from mpfgvc.scale.seam import Training
from mpfgvc.scale.sheets import MEASURED
from mpfgvc.scale.step_cost import StepCost, blank_network, encoding_flops, stage1_cost, stage2_cost

PER_MACHINE = 8
"""Processes that share the memory of one machine, at most."""
MOST_WORKERS = 8
"""Loader processes of a training process where the machine has cores enough (data/loading.py)."""
TEXT_HEAVY = 0.5
"""Share of the class prompts in a step from which a note says how to lower it."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be trained on what. `images`: photographs of the training split, held-out ones included.

    `memory`: bytes of one device; `host_memory`: bytes of one machine; None = unknown, and not judged.
    `price`: of one process for an hour.
    """

    classes: int
    images: int
    processes: int = 1
    rate: str = MEASURED
    memory: float | None = None
    host_memory: float | None = None
    price: float | None = None


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """The first moment that does not fit, in time: what it needs and what there is, in bytes."""

    moment: str
    place: Place
    needs: float
    has: float
    largest: str
    """The name of its largest part."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training takes in each process. `fits` None = the memory is unknown."""

    question: Question
    config: Config
    rate: Rate
    precision: str
    load: Load
    moments: tuple[Moment, ...]
    stretches: tuple[Phase, ...]
    misfit: Misfit | None
    notes: tuple[str, ...]

    @property
    def peak(self) -> Moment:
        """The moment that takes most, of the device's memory where there is one."""
        place: Place | None = "device" if self.load.gpu else None
        return max(self.moments, key=lambda moment: moment.total(place))

    @property
    def seconds(self) -> float:
        """All of the training."""
        return sum(stretch.seconds for stretch in self.stretches)

    @property
    def seconds_per_image(self) -> float:
        """Of a step of stage 1, for each photograph of all processes together."""
        return stage1_step(self.load, self.rate) / self.config.stage1.batch_size

    @property
    def hours(self) -> float:
        """Hours of all processes together."""
        return self.seconds * self.question.processes / 3600

    @property
    def cost(self) -> float | None:
        """By the price that was given."""
        return None if self.question.price is None else self.hours * self.question.price

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc plan --json`; bytes, seconds and FLOPs of one process."""
        return {
            "classes": self.question.classes,
            "images": self.question.images,
            "processes": self.question.processes,
            "precision": self.precision,
            "rate": asdict(self.rate),
            "moments": [
                {"name": each.name, "device": each.total("device"), "host": each.total("host")}
                | {"parts": [asdict(part) for part in each.parts]}
                for each in self.moments
            ],
            "peak": self.peak.name,
            "time": [asdict(each) for each in self.stretches],
            "seconds": self.seconds,
            "seconds_per_image": self.seconds_per_image,
            "gpu_hours": self.hours,
            "cost": self.cost,
            "misfit": None if self.misfit is None else asdict(self.misfit),
            "notes": list(self.notes),
        }


class Planner:
    """Plans for one question; what was counted once for some settings is not counted again."""

    def __init__(self, question: Question, training: Training, config: Config, clock: Clock | None = None):
        self.question, self.training = question, training
        self.counted: dict[str, StepCost] = {}
        self.gpu = question.rate != MEASURED or _computes_on_gpu(config)
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and (self.gpu or cpu_multiplies_bf16())
        )
        _refuse(question, config)
        self.forward = Forward(**dict(zip(("image", "text"), encoding_flops(config.model), strict=True)))
        tower = blank_network(config.model, 1).image_encoder.tower
        self.width, self.image_size = tower.width, tower.image_size
        self.rate = self._rate(config, clock)

    def plan(self, config: Config) -> Plan:
        """The plan of one set of settings."""
        load = self.load(config)
        found = moments(load)
        return Plan(
            question=self.question,
            config=config,
            rate=self.rate,
            precision="bf16" if self.bf16 else "fp32",
            load=load,
            moments=found,
            stretches=stretches(load, self.rate, self.forward, self.training),
            misfit=self._misfit(found),
            notes=tuple(_notes(load, self.rate)),
        )

    def load(self, config: Config) -> Load:
        """What a process has to do with these settings. Raises ConfigError as a training does."""
        question = self.question
        for stage in (config.stage1, config.stage2):
            self.training.check_batches(stage, question.processes)
        batch = config.stage1.batch_size // question.processes
        if batch % config.stage1.accumulate:
            rule = f"must divide the {batch} photographs of one process"
            raise ConfigError(f"stage1.accumulate {rule}, got {config.stage1.accumulate}")
        workers = config.data.workers
        if workers is None:
            workers = MOST_WORKERS if self.gpu else worker_count(None, processes=question.processes)
        return Load(
            config=config,
            classes=question.classes,
            photographs=round(question.images * (1 - config.data.validation)),
            processes=question.processes,
            batch=batch,
            workers=workers,
            image_size=self.image_size,
            width=self.width,
            gpu=self.gpu,
            stage1=self._stage1(config, batch // config.stage1.accumulate),
            stage2=self._stage2(config),
        )

    def _stage1(self, config: Config, micro_batch: int) -> StepCost:
        key = repr((config.model, config.stage1.sampled_classes, config.stage1.accumulate > 1, micro_batch))
        if key not in self.counted:
            self.counted[key] = stage1_cost(
                config,
                self.training,
                classes=self.question.classes,
                micro_batch=micro_batch,
                bf16=self.bf16,
                processes=self.question.processes,
            )
        return self.counted[key]

    def _stage2(self, config: Config) -> StepCost:
        batch = config.stage2.batch_size // self.question.processes
        key = repr((config.model, "stage2", batch))
        if key not in self.counted:
            self.counted[key] = stage2_cost(config, self.training, classes=self.question.classes, batch=batch)
        return self.counted[key]

    def _rate(self, config: Config, clock: Clock | None) -> Rate:
        if self.question.rate != MEASURED:
            return named_rate(self.question.rate)
        micro_batch = config.stage1.batch_size // self.question.processes // config.stage1.accumulate
        options: dict[str, Any] = {} if clock is None else {"clock": clock}
        return measured_rate(
            config,
            self.training,
            classes=self.question.classes,
            micro_batch=max(1, micro_batch),
            bf16=self.bf16,
            **options,
        )

    def _misfit(self, found: tuple[Moment, ...]) -> Misfit | None:
        """The first moment that takes more than there is."""
        machine = min(self.question.processes, PER_MACHINE)
        device = self.question.memory or self.rate.memory
        for moment in found:
            needs: list[tuple[Place, float, float | None]] = [
                ("device", moment.total("device"), device),
                ("host", machine * moment.total("host"), self.question.host_memory),
            ]
            if not self.gpu:
                has = self.question.memory or self.question.host_memory or _machine_memory()
                needs = [("host", machine * moment.total(), has)]
            for place, bytes_, there in needs:
                if there is not None and bytes_ > there:
                    parts = [part for part in moment.parts if not self.gpu or part.place == place]
                    largest = max(parts, key=lambda part: part.bytes).name
                    return Misfit(moment=moment.name, place=place, needs=bytes_, has=there, largest=largest)
        return None


def _machine_memory() -> float:
    """Bytes of this machine."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _computes_on_gpu(config: Config) -> bool:
    return find_device(config.device).startswith("cuda")


def _refuse(question: Question, config: Config) -> None:
    sampled = config.stage1.sampled_classes
    if sampled is not None and sampled > question.classes:
        rule = f"must be at most the {question.classes} classes"
        raise ConfigError(f"stage1.sampled_classes {rule}, got {sampled}")


def _notes(load: Load, rate: Rate) -> list[str]:
    notes = ["reading the photographs, waiting and what processes tell each other are not in the time"]
    if not load.gpu:
        notes.append("memory is what the training adds to a process that has loaded its libraries")
        if load.processes > 1:
            notes.append("the rate is that of one process with the machine to itself; several share it")
    share = text_share(load, rate)
    if share > TEXT_HEAVY:
        notes.append(
            f"the class prompts take {share:.0%} of a step, as each process encodes all it needs; "
            "stage1.sampled_classes lowers that"
        )
    return notes
