"""What makes a training fit: settings that change memory and little else, tried in this order.

    class prompts at the peak       model.prompt_chunk halved, down to LEAST_CHUNK
    a micro-batch at the peak       stage1.accumulate doubled, down to one photograph
    the start's logistic regression stage1.start noise
    several views in stage 2        stage2.views 1
    the best weights                stage1.patience null
    several processes               sharding full

Each changed plan is counted anew. Where none of these is enough, it is said what is left: no number is bent.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from mpfgvc.config import Config
from mpfgvc.config_io import changed_settings
from mpfgvc.errors import ConfigError
from mpfgvc.scale.moments import LIST
from mpfgvc.scale.plan import Misfit, Plan, Planner

LEAST_CHUNK = 16
ALONE = "several processes can share the towers, gradients and optimiser: --gpus with --sharding full"
SHARED = "each process needs its share of the state, its activations and, once, all weights"
PACKED = "photographs in packed shards are not listed: mpfgvc data pack, then --data.dataset shards"
NO_SETTING = "no setting changes that: every process holds all of them"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A plan, the settings that make it fit, and what still does not. `plan` has the changed settings."""

    plan: Plan
    left: Misfit | None
    reason: str
    """Why `left` cannot be helped; empty if there is nothing left."""

    def changes(self, plan: Plan) -> dict[str, object]:
        """The settings in which this plan differs from another, by dotted name, with their new values."""
        changed = changed_settings(plan.config, self.plan.config)
        return {name: new for name, (_, new) in changed.items()}

    def to_dict(self, plan: Plan) -> dict[str, Any]:
        """What `mpfgvc plan --json` says of it, beside the plan that was asked for."""
        return {
            "settings": self.changes(plan),
            "seconds": self.plan.seconds,
            "peak": self.plan.peak.name,
            "left": None if self.left is None else asdict(self.left),
            "reason": self.reason,
        }


def make_fit(planner: Planner, plan: Plan) -> Fit:
    """Change settings until every moment fits or nothing is left to try."""
    while plan.misfit is not None:
        config = next(_remedies(plan, plan.misfit), None)
        if config is None:
            return Fit(plan=plan, left=plan.misfit, reason=_reason(plan, plan.misfit))
        plan = planner.plan(config)
    return Fit(plan=plan, left=None, reason="")


def _remedies(plan: Plan, misfit: Misfit) -> Iterator[Config]:
    config, stage1 = plan.config, plan.config.stage1
    if misfit.moment == "a step of stage 1":
        chunk = config.model.prompt_chunk
        prompts_first = "prompts" in plan.load.stage1.peak_phase
        fewer = replace(config, model=replace(config.model, prompt_chunk=chunk // 2))
        if prompts_first and chunk // 2 >= LEAST_CHUNK:
            yield fewer
        if not prompts_first:
            yield from _smaller_micro_batch(plan)
            if plan.load.classes <= chunk and chunk // 2 >= LEAST_CHUNK:
                yield fewer
    if misfit.moment == "start from features":
        yield replace(config, stage1=replace(stage1, start="noise"))
    if "stage 2" in misfit.moment and config.stage2.views > 1:
        yield replace(config, stage2=replace(config.stage2, views=1))
    parts = next(each.parts for each in plan.moments if each.name == misfit.moment)
    if any("patience" in part.name for part in parts):
        yield replace(config, stage1=replace(stage1, patience=None))
    if plan.question.processes > 1 and config.sharding == "none" and "a step" in misfit.moment:
        yield replace(config, sharding="full")


def _smaller_micro_batch(plan: Plan) -> Iterator[Config]:
    stage1 = plan.config.stage1
    more = 2 * stage1.accumulate
    if plan.load.batch % more:
        return
    try:
        yield replace(plan.config, stage1=replace(stage1, accumulate=more))
    except ConfigError:
        return


def _reason(plan: Plan, misfit: Misfit) -> str:
    if misfit.largest == LIST and plan.config.data.dataset != "shards":
        return PACKED
    if misfit.place == "host" and (misfit.largest == LIST or "embeddings" in misfit.largest):
        return NO_SETTING
    return ALONE if plan.question.processes == 1 else SHARED
