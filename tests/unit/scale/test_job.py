"""The folder of a job: what it is about is written once, and only the same job goes on in it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.inference.answering import AnswerRules
from mpfgvc.scale.jobs import Job, Task, open_job

NAMES = [f"photos/{number}.jpg" for number in range(7)]
TASK = Task(what="guesses", model="/runs/birds", digest="d1", source="fusion", top=3)


def _open(folder: Path, task: Task = TASK, names: list[str] = NAMES, part_size: int | None = 3) -> Job:
    with open_job(folder, task, iter(names), part_size=part_size) as job:
        return job


def test_the_list_is_cut_into_parts_and_a_part_that_is_there_is_done(tmp_path: Path) -> None:
    job = _open(tmp_path / "out")
    assert (job.parts, job.part_size, job.missing()) == (3, 3, [0, 1, 2])
    assert [list(job.names_of(part)) for part in range(3)] == [NAMES[:3], NAMES[3:6], NAMES[6:]]
    job.part(1).touch()
    assert _open(tmp_path / "out", part_size=None).missing() == [0, 2]


def test_names_of_files_keep_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    names = ["caf\udce9.png", "é #1\n.png"]
    _open(tmp_path / "out", names=names)
    assert list(_open(tmp_path / "out", names=names).names_of(0)) == names


def test_the_same_photographs_named_from_another_folder_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    begun = _open(tmp_path / "out", names=["photos/a.jpg"])
    monkeypatch.chdir(tmp_path / "photos")
    there = _open(tmp_path / "out", names=[str(tmp_path / "photos" / "a.jpg")])
    assert there.to_dict() == begun.to_dict()
    with pytest.raises(CheckpointError, match="holds a job of other photographs"):
        _open(tmp_path / "out", names=["photos/a.jpg"])  # photos/photos/a.jpg


@pytest.mark.parametrize(
    ("task", "names", "part_size", "line"),
    [
        (replace(TASK, top=5), NAMES, 3, "holds a job of top 3, got 5; give the same again, or choose"),
        (replace(TASK, digest="d2"), NAMES, 3, "holds a job of another model; "),
        (replace(TASK, source="text"), NAMES, 3, 'source "fusion", got "text"; '),
        (replace(TASK, what="embeddings"), NAMES, 3, 'what "guesses", got "embeddings"; '),
        (replace(TASK, rules=AnswerRules(within=("wren",))), NAMES, 3, r'within \[\], got \["wren"\]; '),
        (TASK, NAMES[:6], 3, "holds a job of 7 photographs, now there are 6; "),
        (TASK, [*NAMES[:6], "x.jpg"], 3, "holds a job of other photographs; "),
        (TASK, NAMES, 4, "holds a job of part_size 3, got 4; "),
    ],
)
def test_another_job_is_refused_in_one_line(
    tmp_path: Path, task: Task, names: list[str], part_size: int, line: str
) -> None:
    _open(tmp_path / "out")
    before = (tmp_path / "out" / "_job.json").read_bytes()
    with pytest.raises(CheckpointError, match=line) as refusal:
        _open(tmp_path / "out", task, names, part_size)
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "out" / "_job.json").read_bytes() == before


def test_the_place_of_the_model_may_change(tmp_path: Path) -> None:
    _open(tmp_path / "out")
    assert _open(tmp_path / "out", replace(TASK, model="/moved/birds")).parts == 3


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds files of something else, such as thesis\.txt"):
        _open(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_refusal_leaves_no_folder_behind_and_an_empty_one_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        with pytest.raises(DataError, match="there are no photographs"):
            _open(tmp_path / name, names=[])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_one_process_works_in_a_folder_at_a_time(tmp_path: Path) -> None:
    with open_job(tmp_path / "out", TASK, NAMES), pytest.raises(CheckpointError, match="is in use by process"):
        _open(tmp_path / "out")


def test_who_is_late_does_not_write_into_a_job_that_was_begun_anew(tmp_path: Path) -> None:
    late = _open(tmp_path / "out")
    late.check_there()
    (tmp_path / "out" / "_job.json").unlink()
    _open(tmp_path / "out", replace(TASK, top=5))
    with pytest.raises(CheckpointError, match="is not the folder of this job any more"):
        late.check_there()


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"part_size": "3"}), json.dumps({"part_size": 3})])
def test_a_damaged_description_is_refused(tmp_path: Path, content: str) -> None:
    _open(tmp_path / "out")
    (tmp_path / "out" / "_job.json").write_text(content)
    with pytest.raises(DataError, match="is damaged; choose another --out, or delete"):
        _open(tmp_path / "out")
