"""Flip single bits of files that a command reads again: it must say so, or answer as before.

One bit at a random position of a random file, of a finished run and an unfinished one, with its calibration and its
embeddings, of an export, of a packed dataset and of a comparison. Then every command that reads this folder runs. What
it prints and writes must be that of the undamaged folder, or it must end with one line (exit code 2). An answer that
differs and exit code 0 is silent, anything else a crash.

    python benchmarks/damage.py --work FOLDER --flips 300
"""

import argparse
import json
import random
import re
import shutil
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from pathlib import Path

from PIL import Image

from common import write_result
from kills import TINY
from mpfgvc.cli.main import main as mpfgvc

NOT_READ = (".html", ".lock", ".md", "events.out", "table.csv", "comparison.json")
"""Ends and parts of names of what no command reads."""
TIMES = re.compile(r'"(minutes|seconds|peak_bytes|milliseconds[^"]*|date)": [^,\n]*')


@dataclass(frozen=True)
class Thing:
    """A folder of files, and the commands that read it; {} is the folder of one attempt, which has a copy of it."""

    folder: Path
    commands: tuple[tuple[str, ...], ...]
    written: tuple[str, ...] = ()
    """What the commands write into {} that must be the same."""


def things(work: Path) -> dict[str, Thing]:
    """Everything that is damaged, made anew."""
    birds, photos = ("--data.dataset=cub", f"--data.root={work}/birds"), work / "few"
    size = ("--data.birds.species=4", "--data.birds.train=24", "--data.birds.test=6")
    compare = ("compare", "full", "coop", "--base", "synthetic", "--seeds", "1", *birds, *TINY, "--json", "--out")
    (work / "export").mkdir(parents=True)
    for words in (
        ("data", "synthesize", *size, "--out", f"{work}/birds"),
        ("train", *birds, *TINY, "--out", f"{work}/run/run"),
        ("calibrate", f"{work}/run/run"),
        ("embed", f"{work}/run/run"),
        ("export", f"{work}/run/run", "-o", f"{work}/export/bird.onnx"),
        (*compare, f"{work}/compare/runs"),
    ):
        code, said = run(words)
        if code != 0:
            raise SystemExit(f"{words} failed: {said}")
    for file in sorted(path for path in (work / "birds" / "images").rglob("*") if path.is_file()):
        jpeg = work / "jpegs" / file.parent.name / f"{file.stem}.jpg"  # a PNG would notice by its own checksums
        jpeg.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("RGB").resize((400, 400)).save(jpeg, quality=92)
    run(
        ("data", "pack", f"--data.root={work}/jpegs", "--data.test=0.2", "--per-shard=16", "--out", f"{work}/pack/pack")
    )
    photos.mkdir()
    for file in sorted(path for path in (work / "birds" / "images").rglob("*") if path.is_file())[::20]:
        shutil.copy(file, photos)
    shutil.copytree(work / "run", work / "unfinished")
    shutil.rmtree(work / "unfinished" / "run" / "model")
    for name in ("evaluation.json", "predictions-test.csv"):
        (work / "unfinished" / "run" / name).unlink()
    query, resume = str(next(photos.iterdir())), ("train", "--resume", "{}/run", "--json")
    commands = (
        ("predict", "{}/run", str(photos), "--json", "--abstain", "0.3"),
        ("evaluate", "{}/run", "--json"),
        ("search", "{}/run", query, "--json"),
        ("explain", "{}/run", query, "-o", "{}/why.png", "--nearest", "3"),
        ("push", "{}/run", "me/birds", "--dry-run", "-o", "{}/card"),
        resume,
    )
    packed = (
        ("train", "--data.dataset=shards", "--data.root={}/pack", *TINY, "--out", "{}/trained", "--json"),
        ("data", "check", "--data.dataset=shards", "--data.root={}/pack", "--json"),
    )
    predict = ("predict", "{}/bird.onnx", str(photos), "--json", "--abstain", "0.3")
    return {
        "a run, calibrated": Thing(work / "run", commands, ("why.png", "card")),
        "an unfinished run": Thing(work / "unfinished", (resume,), ("run/model",)),
        "an export": Thing(work / "export", (predict,)),
        "a pack": Thing(work / "pack", packed, ("trained/model", "trained/photographs.json")),
        "a comparison": Thing(work / "compare", ((*compare, "{}/runs"),)),
    }


def run(words: tuple[str, ...]) -> tuple[int, str]:
    """A command in this process: its exit code, -1 for a crash, and what it printed; errors where it is refused."""
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()) as errors:
        try:
            code = mpfgvc(list(words))
        except Exception:  # a crash is what is looked for
            return -1, traceback.format_exc()
    return code, printed.getvalue() if code in (0, 1) else errors.getvalue()


def outcomes(thing: Thing, folder: Path) -> list[tuple[int, str]]:
    """What the commands say and write, without the times and the name of the folder."""
    found = []
    for words in thing.commands:
        code, said = run(tuple(word.format(folder) for word in words))
        found.append((code, TIMES.sub("", said.replace(str(folder), ""))))
    files = (file for name in thing.written for file in sorted([folder / name, *(folder / name).rglob("*")]))
    digests = [
        f"{file.relative_to(folder)} {sha256(file.read_bytes()).hexdigest()}"
        for file in files
        if file.is_file() and file.suffix not in (".md", ".html", ".yaml") and file.name != "digests.json"
    ]
    return [*found, (0, "\n".join(digests))]


def flip(file: Path, generator: random.Random) -> int:
    """Change one bit of a file; which one."""
    content = bytearray(file.read_bytes())
    bit = generator.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    return bit


def main() -> None:
    """Flip bits of everything, and write how many were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for all files; removed first")
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    generator, results = random.Random(options.seed), {}  # noqa: S311
    everything = things(options.work)
    for index, (name, thing) in enumerate(everything.items()):
        share = options.flips * (index + 1) // len(everything) - options.flips * index // len(everything)
        results[name] = measure(name, thing, options.work / "attempt", share, generator)
    write_result("damage", {"flips": options.flips, "seed": options.seed, "of": results})


def measure(name: str, thing: Thing, folder: Path, flips: int, generator: random.Random) -> dict[str, object]:
    """How often one flip was refused, harmless, silent, or a crash; the last two by file and bit."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(thing.folder, folder)
    expected = outcomes(thing, folder)
    if refused := [said for code, said in expected if code not in (0, 1)]:
        raise SystemExit(f"{name} is refused undamaged: {refused[0]}")
    files = sorted(
        path.relative_to(thing.folder)
        for path in thing.folder.rglob("*")
        if path.is_file() and path.stat().st_size and not any(part in str(path) for part in NOT_READ)
    )
    counts, faults = Counter[str](), []
    for index in range(flips):
        shutil.rmtree(folder)
        shutil.copytree(thing.folder, folder)
        file = files[index % len(files)]
        bit = flip(folder / file, generator)
        found = outcomes(thing, folder)
        codes = [code for code, _ in found]
        differ = any(code in (0, 1) and found[k] != expected[k] for k, code in enumerate(codes[:-1]))
        differ |= 2 not in codes and found[-1] != expected[-1]
        verdict = "crash" if -1 in codes else "silent" if differ else "refused" if 2 in codes else "harmless"
        counts[verdict] += 1
        if verdict in ("crash", "silent"):
            wrong = [k for k in range(len(codes)) if codes[k] != 2 and found[k] != expected[k]]
            commands = [thing.commands[k][0] if k < len(thing.commands) else "files" for k in wrong]
            faults.append(f"{file}, bit {bit}: {verdict} in {', '.join(commands)}")
            print(name, faults[-1], *(found[k][1][-300:] for k in wrong[:1] if verdict == "crash"), flush=True)
    print(f"{name}: {flips} flips of {len(files)} files, {json.dumps(counts)}", flush=True)
    return {"files": [str(file) for file in files], **counts, "faults": faults}


if __name__ == "__main__":
    main()
