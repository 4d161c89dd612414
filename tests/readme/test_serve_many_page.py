"""docs/serve-many.md: its file is whole and its tables are the truth. test_serve_many.py deploys the file."""

import re
from dataclasses import fields

import yaml
from tests.readme.blocks import blocks_of
from tests.readme.conftest import REPOSITORY

from mpfgvc.cli.serve_file import APPLICATION
from mpfgvc.deploy.many_settings import ManySettings
from mpfgvc.deploy.settings import Limits

PAGE = REPOSITORY / "docs" / "serve-many.md"
BLOCKS = blocks_of(PAGE)


def test_the_file_of_the_page_is_one_that_the_server_reads() -> None:
    (block,) = [block for block in BLOCKS if block.language == "yaml"]
    (application,) = yaml.safe_load(block.text)["applications"]
    settings = ManySettings.read(application["args"])
    assert application["import_path"] == APPLICATION
    assert settings == ManySettings(model="/models/mushrooms-1")
    target = application["deployments"][0]["autoscaling_config"]["target_ongoing_requests"]
    assert target < settings.limits.queue, "more replicas come before the first one is full"


def test_the_table_of_settings_names_all_of_them() -> None:
    rows = re.findall(r"^\|([^|]*)\|[^|]*\|([^|]*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    named = [name for cell, _ in rows for name in re.findall(r"`(\w+)`", cell)]
    known = [each.name for each in fields(ManySettings)]
    assert sorted(name for name in named if name in known) == sorted(known)
    (limits,) = [text for cell, text in rows if cell.strip() == "`limits`"]
    assert sorted(re.findall(r"`(\w+)`", limits)) == sorted(each.name for each in fields(Limits))


def test_the_commands_are_those_that_are_tried() -> None:
    words = [words for block in BLOCKS if block.language == "bash" for words in block.commands]
    programs = {" ".join(each[:2]) for each in words if each[0] != "export"}
    assert programs == {"mpfgvc serve", "ray start", "serve deploy", "serve status"}
