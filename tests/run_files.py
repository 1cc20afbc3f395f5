"""Tiny runs that the tests share, and the one place that knows where the records of a run folder are.

A shared run is made once a session, whatever the number of workers (`shared_run` in conftest.py). Whoever
wants to change a run changes a copy."""
import fcntl
import json
import os
import shutil
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from fer_synth.config import RunConfig
from fer_synth.experiment import runs
from fer_synth.recipes import tiny_cgan, tiny_wgan_gp
from fer_synth.records import RunFolder
from fer_synth.runtime import load_tensors
from fer_synth.steps import Store, read_plan

MEASURED = ("seconds", "images_per_s")  # how long this machine took: the only numbers that may differ


# ---- where things are ------------------------------------------------------------------------------

KEY = "[0-9a-f]" * 8  # the end of a step folder's name


def step_name(folder: Path) -> str:
    "The step that a folder of `steps/` belongs to."
    return folder.name[:-9]


def step_folders(run: Path, name: str = "*") -> list[Path]:
    "The folders of all steps, or of those whose names match a pattern."
    return sorted(folder for folder in (run / "steps").glob(f"{name}-{KEY}") if folder.is_dir())


def step_folder(run: Path, name: str) -> Path:
    "The folder of the one step that has this name."
    folder, = step_folders(run, name)
    return folder


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "steps").glob("*/checkpoint.safetensors"))


def checkpoint(run: Path, step: str) -> Path:
    return step_folder(run, step) / "checkpoint.safetensors"


def pool(run: Path, round: int) -> Path:
    return step_folder(run, f"pool-{round}") / "pool.npz"


def validation(run: Path, round: int) -> Path:
    return step_folder(run, f"pool-{round}") / "validation.npz"


def selection(run: Path) -> Path:
    return run / "selection.csv"


def predictions(run: Path) -> Path:
    return run / "predictions.npz"


def samples(run: Path, step: str = "*", pattern: str = "*.png") -> list[Path]:
    return [file for folder in step_folders(run, step) for file in sorted((folder / "samples").glob(pattern))]


def is_result_of(path: Path, step: str) -> bool:
    "Whether a file is the one that a step leaves last: its pool, its selection, or its checkpoint."
    kind = step.split("-")[0]
    file = {"pool": "pool.npz", "select": "selection.json"}.get(kind, "checkpoint.safetensors")
    return path.name == file and step_name(path.parent) == step


# ---- what stands in them ---------------------------------------------------------------------------

def lines(run: Path) -> list[dict]:
    "The logs of all steps, in the order of the plan."
    folder = RunFolder(run)
    store = Store(folder)
    return [line for step in read_plan(folder) for line in store.folder(step).lines()]


def stats(run: Path) -> list[dict]:
    "The same, without what was measured of this machine."
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines(run)]


def metrics(run: Path) -> dict:
    "The result, without time and memory."
    found = RunFolder(run).read("metrics.json")
    return {k: v for k, v in found.items() if k != "resources"}


def weights(run: Path) -> dict[str, dict]:
    "Tensors of each checkpoint, by the name of its step."
    return {step_name(path.parent): load_tensors(path)[0] for path in checkpoints(run)}


def same_tensors(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def same_weights(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(same_tensors(a[name], b[name]) for name in a)


# ---- shared runs -----------------------------------------------------------------------------------

def with_seeds(cfg: RunConfig, seeds: int) -> RunConfig:
    return replace(cfg, compare=replace(cfg.compare, seeds=seeds))


SHARED = {
    "tiny_wgan_gp": tiny_wgan_gp(),
    "tiny_cgan": with_seeds(tiny_cgan(), 1),
}
# Moments of the first of them: right before a step writes its file, having written it so many times before.
STOPS = (
    ("judge-0", 1), ("warmup-1", 1), ("gan-1", 2), ("pool-1", 0), ("judge-1", 1), ("gan-2", 0), ("pool-2", 0),
    ("select-2", 0), ("student-balanced-1", 2),
)


@contextmanager
def before_each_write(act):
    "Inside the block, `act(path)` is called right before a new file is put in its place."
    real = os.replace

    def called(source, target, **more):
        act(Path(target))
        return real(source, target, **more)

    os.replace = called
    try: yield
    finally: os.replace = real


def stop(place: Path, step: str, writes: int) -> Path:
    "The copy of a shared run's folder as a kill at one of `STOPS` leaves it."
    return place / "stops" / f"{step}-after-{writes}"


def keep_stops(run: Path):
    "What copies a run folder at each of `STOPS`."
    seen = Counter()

    def act(path: Path) -> None:
        for step, writes in STOPS:
            due = is_result_of(path, step) and seen[path] == writes
            if due: shutil.copytree(run, stop(run.parent, step, writes))
        seen[path] += 1

    return act


def state(run: Path) -> dict[str, list]:
    "Size and time of each file of a run: what changes when somebody writes there."
    found = {}
    for path in run.rglob("*"):
        facts = path.stat()
        if path.is_file(): found[path.relative_to(run).as_posix()] = [facts.st_size, facts.st_mtime_ns]
    return found


def made_once(place: Path, name: str) -> Path:
    "The folder of a shared run; the first who asks makes it, and everybody else waits."
    place.mkdir(parents=True, exist_ok=True)
    run, done = place / name, place / f"{name}.json"
    with open(place / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists(): return run
        shutil.rmtree(run, ignore_errors=True)     # of somebody who did not come to the end
        watch = keep_stops(run) if name == "tiny_wgan_gp" else lambda path: None
        with before_each_write(watch): runs.run(SHARED[name], run, show=False)
        done.write_text(json.dumps(state(run)))
    return run


def changes(place: Path, name: str) -> list[str]:
    "The files of a shared run that somebody wrote, added or removed."
    before, now = json.loads((place / f"{name}.json").read_text()), state(place / name)
    return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))


# ---- a process that is killed ----------------------------------------------------------------------

def run_until_killed(run: Path, step: str, writes: int) -> None:
    "Begin the tiny run, or go on with it; SIGKILL right before `step` writes its file, after `writes` times."
    left = writes

    def act(path: Path) -> None:
        nonlocal left
        if not is_result_of(path, step): return
        if left == 0: os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    with before_each_write(act):
        if run.exists(): runs.resume(run, show=False)
        else: runs.run(SHARED["tiny_wgan_gp"], run, show=False)


if __name__ == "__main__": run_until_killed(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
