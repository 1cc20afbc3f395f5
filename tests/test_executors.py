"""A plan computed here, by local processes and by a Dask cluster: the same bytes, also where workers are killed.

The steps write small files (`toy_steps`), so what takes time here is the start of processes."""
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from toy_steps import ToyPlace, toy_plan

from fer_synth.records import RunFolder, Stopped
from fer_synth.settings import UserError
from fer_synth.steps import Paces, Store, run_here
from fer_synth.workers import StepFailed, run_workers

PLAN = toy_plan()


class Place:
    "A run folder with its store, and a folder for the marks that processes leave."

    def __init__(self, folder: Path):
        self.run, self.marks = folder/"run", folder/"marks"
        for path in (self.run, self.marks): path.mkdir(parents=True)
        self.store, self.finished = Store(RunFolder(self.run)), []

    def toy(self, **behaviour) -> ToyPlace: return ToyPlace(str(self.marks), **behaviour)

    def lines(self, name: str) -> list[str]: return (self.marks/name).read_text().splitlines()

    def begun(self) -> list[str]: return [line.split()[0] for line in self.lines("begun")]

    def done(self, step) -> None:
        assert all(i.name in self.finished for i in step.inputs)
        self.finished.append(step.name)


def files(run: Path) -> dict[str, bytes]:
    "All files of a run folder but step.json, hidden ones included."
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "step.json"}


def facts(store: Store) -> list[dict]:
    "What all step.json say, without what differs from one machine and moment to the next."
    return [{k: v for k, v in store.note(step).items() if k not in ("seconds", "made")} for step in PLAN]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Place:
    "The toy plan, computed in this process."
    place = Place(tmp_path_factory.mktemp("alone"))
    run_here(PLAN, place.store, place.toy().open(place.store), {})
    return place


@pytest.fixture
def place(tmp_path) -> Place: return Place(tmp_path)


def check_equal(place: Place, alone: Place) -> None:
    assert files(place.run) == files(alone.run)
    assert facts(Store(RunFolder(place.run))) == facts(alone.store)


def wait_for(happened) -> None:
    "Wait for other processes; generous, since a busy machine starts them slowly."
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, "this was waited for in vain"
        time.sleep(0.02)


def when_begun(place: Place, name: str, act) -> threading.Thread:
    "Do something as soon as a step has begun."
    def watch():
        wait_for(lambda: (place.marks/"begun").exists() and name in place.begun())
        act()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_two_workers_one_killed(place, alone, tmp_path):
    "A kill costs one step: it alone is begun twice; each process reads its data once; nothing is left behind."
    paces = Paces(tmp_path/"paces.json")
    toy = place.toy(kills=("gan-1",))
    run_workers(PLAN, place.store, toy, {"machine": "mine"}, paces, place.done)
    check_equal(place, alone)
    begun = place.begun()
    assert sorted(place.finished) == sorted(s.name for s in PLAN)
    assert sorted(begun) == sorted([*PLAN.by_name, "gan-1"])
    opened = place.lines("opened")
    assert len(opened) == len(set(opened)) == 3 and str(os.getpid()) not in opened
    assert place.store.note(PLAN["compare"])["made"] == {"machine": "mine"}
    assert paces.estimate(PLAN["gan-0"]) is not None
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in opened))
    run_workers(PLAN, Store(RunFolder(place.run)), toy, {}, finished=place.done)     # all is done: no process starts
    assert place.begun() == begun and len(place.finished) == 2 * len(PLAN)


def test_a_step_killed_at_each_try(place):
    toy = place.toy(always=("gan-0",))
    with pytest.raises(UserError, match="worker of step 'gan-0' was killed 3 times.*give fewer --workers.*resume"):
        run_workers(PLAN, place.store, toy, {}, workers=1)
    assert place.begun().count("gan-0") == 3


def test_an_error_lets_the_others_end(place):
    "Its name and traceback arrive; the other running step ends and counts; nothing new begins."
    go = when_begun(place, "gan-0", lambda: wait_for(lambda: "gan-1" in place.begun() and go_on()))

    def go_on() -> bool:
        time.sleep(0.5)             # the error of gan-1 arrives first
        (place.marks/"go").touch()
        return True
    with pytest.raises(StepFailed, match="(?s)'gan-1' failed.*ZeroDivisionError: one over nothing"):
        run_workers(PLAN, place.store, place.toy(fails=("gan-1",), slow=("gan-0",)), {})
    go.join(60)
    assert place.store.is_done(PLAN["gan-0"]) and sorted(place.begun()) == ["data", "gan-0", "gan-1"]
    assert place.store.state(PLAN["gan-1"]) == "partial"


def test_stop_and_resume(place, alone):
    "Both running steps stop; the folder is continued to the same bytes, by this process."
    asked = when_begun(place, "gan-1", lambda: (wait_for(lambda: "gan-0" in place.begun()),
                                                RunFolder(place.run).stop.ask()))
    with pytest.raises(Stopped, match=f"after 1 of {len(PLAN)} steps, as asked; continue it with: fer-synth resume"):
        run_workers(PLAN, place.store, place.toy(slow=("gan-0", "gan-1")), {})
    asked.join(60)
    assert [place.store.state(PLAN[f"gan-{i}"]) for i in range(2)] == ["partial", "partial"]
    assert not [p for p in place.run.iterdir() if p.name != "steps"]
    store = Store(RunFolder(place.run))
    run_here(PLAN, store, place.toy().open(store), {})
    check_equal(place, alone)


def test_second_interrupt_ends_the_processes(place, alone):
    "A KeyboardInterrupt in the process that hands out leaves no worker, and a folder that resumes."
    interrupt = when_begun(place, "gan-0", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run_workers(PLAN, place.store, place.toy(slow=("gan-0", "gan-1")), {})
    interrupt.join(60)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in place.lines("opened")))
    store = Store(RunFolder(place.run))
    run_here(PLAN, store, place.toy().open(store), {})
    check_equal(place, alone)


def test_data_that_are_gone(place):
    with pytest.raises(UserError, match="faces.zip is not on this machine; copy it there."):
        run_workers(PLAN, place.store, place.toy(data="gone"), {}, workers=1)
