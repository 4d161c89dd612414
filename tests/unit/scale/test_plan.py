"""The memory formulas follow the code, what does not fit is found in order, and settings make it fit."""

import json

import pytest
import torch
from torch import nn

from mpfgvc import ConfigError, load_config
from mpfgvc.cli.main import main
from mpfgvc.devices import gather_in_order
from mpfgvc.scale.counting import Counting
from mpfgvc.scale.fit import make_fit
from mpfgvc.scale.moments import DOUBLE, REGRESSION_COPIES
from mpfgvc.scale.plan import Planner, Question
from mpfgvc.scale.sheets import SHEETS, sustained
from mpfgvc.training.logistic_regression import fit_logistic_regression
from mpfgvc.training.planned import PlannedTraining


def planner(question, **overrides):
    config = load_config("synthetic", overrides=overrides)
    return Planner(question, PlannedTraining(), config), config


def question(**options):
    return Question(**{"classes": 40, "images": 4000, "processes": 2, "rate": "h200"} | options)


def part(plan, moment, name):
    found = next(each for each in plan.moments if each.name == moment)
    return next(each.bytes for each in found.parts if each.name == name)


def test_gathered_embeddings_are_there_four_times():
    with Counting() as counting:
        parts = [torch.zeros(100, 64) for _ in range(10)]
        gather_in_order(torch.cat(parts), torch.arange(1000))
    assert counting.peak == pytest.approx(4 * 1000 * 64 * 4, rel=0.05)


def test_the_regression_holds_what_the_plan_says():
    photographs, classes, width = 6000, 200, 8  # so that L-BFGS's history is small: it may end early
    embeddings, labels = torch.randn(photographs, width), torch.arange(photographs) % classes
    layer = nn.Linear(width, classes)
    with Counting([embeddings, labels, *layer.parameters()]) as counting:
        fit_logistic_regression(layer, embeddings, labels)
    said = 4 * 4 * photographs * width + 3 * DOUBLE * photographs * classes
    said += REGRESSION_COPIES * DOUBLE * classes * (width + 1)
    assert counting.peak == pytest.approx(said, rel=0.2)


def test_parts_are_of_the_trained_weights():
    made, config = planner(question(), **{"stage1.ema": 0.9})
    plan = made.plan(config)
    trained = plan.load.stage1.sizes.trained
    for name, times in {"gradients": 1, "optimiser state": 2, "moving average": 1, "DDP buckets": 1}.items():
        assert part(plan, "a step of stage 1", name) == times * trained
    assert part(plan, "a checkpoint of stage 1", "the checkpoint, before it is written") == 4 * trained
    assert part(plan, "a step of stage 2", "stored embeddings, all views") == 4 * 4000 * 128


def test_sharded_parts_are_shares_and_the_weights_are_whole_once():
    settings = {"stage1.ema": 0.9, "stage1.patience": None}
    whole, config = planner(question(processes=4, rate="l4"), **settings)
    network = whole.plan(config).load.stage1.sizes
    made, config = planner(question(processes=4, rate="l4"), **settings, sharding="full")
    plan = made.plan(config)
    trained = network.trained
    for name, times in {"gradients": 1, "optimiser state": 2, "moving average": 1}.items():
        assert part(plan, "a step of stage 1", name) == times * trained / 4
    assert part(plan, "a step of stage 1", "weights: image tower") == network.image_tower / 4
    assert part(plan, "weights put together", "weights: image tower") == network.image_tower
    # Of the 6 blocks of the bundled tower the last two are in no unit, and two others are at work.
    block = 4 * (12 * 128 * 128 + 13 * 128)
    assert network.gathered_trained == trained - 2 * block
    # The fusion, which stage 1 does not train, and what lies outside the blocks of the text tower.
    assert network.gathered > network.gathered_trained


def test_time_is_flops_over_the_rate_and_money_is_time():
    made, config = planner(question(price=3.0))
    plan = made.plan(config)
    flops = sum(stretch.flops for stretch in plan.stretches)
    assert plan.seconds == pytest.approx(flops / sustained("h200"))
    assert plan.cost == pytest.approx(3 * 2 * plan.seconds / 3600)
    assert sustained("h200") == pytest.approx(0.3 * 989e12)


def test_the_first_thing_that_does_not_fit_is_the_first_in_time():
    made, config = planner(
        question(classes=1000, images=10**6, host_memory=20e9), **{"stage1.start": "features"}
    )
    plan = made.plan(config)
    assert (plan.misfit.moment, plan.misfit.largest) == ("start from features", "logistic regression")
    fit = make_fit(made, plan)
    assert fit.changes(plan) == {"stage1.start": "noise"}
    assert fit.left is None


def test_micro_batches_make_a_step_fit_and_nothing_more_than_needed():
    made, config = planner(question(), **{"stage1.batch_size": 64})
    step = next(each for each in made.plan(config).moments if each.name == "a step of stage 1")
    made, config = planner(question(memory=0.99 * step.total("device")), **{"stage1.batch_size": 64})
    plan = made.plan(config)
    assert plan.misfit.place == "device"
    fit = make_fit(made, plan)
    assert fit.changes(plan) == {"stage1.accumulate": 2}
    assert fit.left is None


def test_what_no_setting_changes_is_said():
    made, config = planner(question(memory=1.01e9, classes=300))
    fit = make_fit(made, made.plan(config))
    assert fit.left is not None
    assert fit.changes(fit.plan) == {}
    assert fit.plan.config.sharding == "full"
    assert "once, all weights" in fit.reason
    made, config = planner(question(memory=1.01e9, processes=1))
    assert "--sharding full" in make_fit(made, made.plan(config)).reason


def test_packed_shards_are_not_listed_and_that_is_said_where_the_list_does_not_fit():
    many = question(images=10**9, host_memory=20e9)
    made, config = planner(many)
    plan = made.plan(config)
    assert part(plan, "photographs listed", "list of photographs") == 1100 * 10**9
    assert "mpfgvc data pack" in make_fit(made, plan).reason
    for settings, each in (({}, 8), ({"data.shuffle_shards": 8}, 0)):
        made, config = planner(many, **settings, **{"data.dataset": "shards"})
        plan = made.plan(config)
        assert part(plan, "photographs listed", "list of photographs") == each * 10**9
        assert plan.misfit.moment == "start from features" or "stage 2" in plan.misfit.moment
        assert "no setting" in make_fit(made, plan).reason  # the embeddings are left


def test_a_batch_that_processes_cannot_share_is_refused_as_training_refuses_it():
    made, config = planner(question(processes=3))
    with pytest.raises(
        ConfigError, match=r"stage1\.batch_size must be a multiple of the 3 processes, got 16"
    ):
        made.plan(config)


def test_the_measured_rate_is_of_this_machine():
    made, config = planner(question(processes=1, rate="measured", classes=5, images=100))
    assert 1e8 < made.rate.images < 1e15
    assert 1e8 < made.rate.texts < 1e15
    plan = made.plan(config)
    assert plan.seconds_per_image > 0
    assert {each.name for each in plan.moments} >= {"a step of stage 1", "a checkpoint of stage 1"}


WORDS = ["plan", "--classes", "1e2", "--images", "5e3", "--rate", "l4"]


def test_the_command_prints_one_document(capsys):
    assert main([*WORDS, "--gpus", "4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["classes"], document["images"], document["processes"]) == (100, 5000, 4)
    assert document["rate"]["memory"] == SHEETS["l4"].gigabytes * 1e9
    assert document["misfit"] is None
    assert document["fit"]["settings"] == {}


def test_the_command_says_what_fits(capsys):
    assert main([*WORDS, "--memory", "1.2", "--stage1.batch_size", "256"]) == 0
    printed = capsys.readouterr().out
    assert "does not fit: a step of stage 1 needs" in printed
    assert "fits with: --stage1.accumulate" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "h2000"], "--rate must be one of measured, h200, h100, a100, l4, or a number"),
        (["--gpus", "0"], "--gpus must be a whole number of at least 1, got 0"),
        (["--classes", "2.5"], "--classes must be a whole number of at least 2, got 2.5"),
        (["--memory", "none"], "--memory must be a number above 0, got none"),
        (["--stage1.sampled_classes", "500"], "stage1.sampled_classes must be at most the 100 classes"),
    ],
)
def test_refusals_are_one_line(capsys, words, message):
    assert main([*WORDS, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
