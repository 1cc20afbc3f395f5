"""A plan computed here, by local processes and by a Dask cluster: the same bytes, also where one is killed.

The steps write small files (`toy_steps`), so what takes time here is the start of processes."""
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from browser import free_port
from toy_steps import ToyPlace, toy_plan

from fer_synth import executors
from fer_synth.executors import connect, execute_plan, pack_folder, run_dask
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
    found = [p for p in run.rglob("*") if p.is_file() and p.name != "step.json"]
    return {str(p.relative_to(run)): p.read_bytes() for p in found}


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
    end = time.monotonic() + 240
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


def gone(pids) -> bool:
    "Whether processes have ended and were waited for."
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_two_workers_one_killed(place, alone, tmp_path):
    "A kill costs one step: it alone is begun twice. Each process opens its place once; none is left behind."
    paces, toy = Paces(tmp_path/"paces.json"), place.toy(kills=("gan-1",))
    run_workers(PLAN, place.store, toy, {"machine": "mine"}, paces, place.done)
    check_equal(place, alone)
    begun, opened = place.begun(), place.lines("opened")
    assert sorted(place.finished) == sorted(PLAN.by_name)
    assert sorted(begun) == sorted([*PLAN.by_name, "gan-1"])
    assert len(opened) == len(set(opened)) == 3 and str(os.getpid()) not in opened
    assert place.store.note(PLAN["compare"])["made"] == {"machine": "mine"}
    assert paces.estimate(PLAN["gan-0"]) is not None
    wait_for(lambda: gone(opened))
    run_workers(PLAN, Store(RunFolder(place.run)), toy, {}, finished=place.done)      # no process starts
    assert place.begun() == begun and len(place.finished) == 2 * len(PLAN)


def test_stop_and_resume(place, alone):
    "Both running steps stop; the folder is continued to the same bytes, by this process."
    def ask():
        wait_for(lambda: "gan-0" in place.begun())
        RunFolder(place.run).stop.ask()
    asked = when_begun(place, "gan-1", ask)
    with pytest.raises(Stopped, match="after 1 of 12 steps, as asked; continue it with: fer-synth resume"):
        run_workers(PLAN, place.store, place.toy(slow=("gan-0", "gan-1")), {})
    asked.join(240)
    assert [place.store.state(PLAN[f"gan-{i}"]) for i in range(2)] == ["partial", "partial"]
    assert [p.name for p in place.run.iterdir()] == ["steps"]
    store = Store(RunFolder(place.run))
    run_here(PLAN, store, place.toy().open(store), {})
    check_equal(place, alone)


@pytest.fixture
def ctrl_c():
    "Ctrl-C raises KeyboardInterrupt, also where a shell has started the tests in the background."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_second_interrupt_ends_the_processes(place, alone, ctrl_c):
    "A KeyboardInterrupt in the process that hands out leaves no worker, and a folder that resumes."
    interrupt = when_begun(place, "gan-0", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run_workers(PLAN, place.store, place.toy(slow=("gan-0", "gan-1")), {}, workers=1)
    interrupt.join(240)
    wait_for(lambda: gone(place.lines("opened")))
    store = Store(RunFolder(place.run))
    run_here(PLAN, store, place.toy().open(store), {})
    check_equal(place, alone)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    "The address of a Dask scheduler with two workers, each a process; a killed one is started again."
    distributed = pytest.importorskip("distributed", reason='pip install "fer_synth[cluster]"')
    with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50,
            local_directory=tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster.scheduler_address


def test_cluster_one_killed(place, alone, scheduler, tmp_path, monkeypatch):
    "The same bytes; a kill costs one step; a folder travels to a worker once; workers keep nothing."
    packed = []

    def counted(folder):
        packed.append(Path(folder).name)
        return pack_folder(folder)
    monkeypatch.setattr(executors, "pack_folder", counted)
    execute_plan(PLAN, place.store, place.toy(kills=("gan-1",)), {"device": "cpu"}, None, place.done,
                 scheduler=scheduler)
    check_equal(place, alone)
    assert sorted(place.finished) == sorted(PLAN.by_name)
    assert sorted(place.begun()) == sorted([*PLAN.by_name, "gan-1"])
    opened = place.lines("opened")
    assert len(opened) == len(set(opened)) in (2, 3)    # 2: the plan ended before a third worker had started
    assert str(os.getpid()) not in opened
    assert max(map(packed.count, packed)) <= len(opened)
    made = place.store.note(PLAN["compare"])["made"]
    assert made["host"] and made["device"] == "cpu"
    with distributed_client(scheduler) as client:
        assert not any(client.run(kept_folders).values())


def distributed_client(scheduler):
    from distributed import Client
    return Client(scheduler, set_as_default=False)


def wait_for_two(scheduler) -> None:
    "Both workers, where a test before this one has killed one: the two slow steps must run side by side."
    with distributed_client(scheduler) as client: client.wait_for_workers(2, timeout=240)


def kept_folders(dask_worker) -> list[str]:
    return [str(p) for p in Path(dask_worker.local_directory).glob("fer_synth-*")]


def test_cluster_stop_and_resume(place, alone, scheduler):
    "What was begun on the workers comes back, and is sent along when the plan goes on."
    wait_for_two(scheduler)
    def ask():
        wait_for(lambda: "gan-0" in place.begun())
        RunFolder(place.run).stop.ask()
    asked = when_begun(place, "gan-1", ask)
    with pytest.raises(Stopped, match="after 1 of 12 steps"):
        run_dask(PLAN, place.store, place.toy(slow=("gan-0", "gan-1")), {}, scheduler=scheduler)
    asked.join(240)
    for name in ("gan-0", "gan-1"):
        assert place.store.state(PLAN[name]) == "partial"
        assert place.store.folder(PLAN[name]).read_json("begun.json") == {"step": name}
    run_dask(PLAN, Store(RunFolder(place.run)), place.toy(), {}, scheduler=scheduler)
    check_equal(place, alone)


def test_cluster_errors(place, scheduler):
    "A step's error arrives with its name and traceback, after the other step has ended; so do sentences."
    wait_for_two(scheduler)
    def go_on():
        wait_for(lambda: "gan-1" in place.begun())
        time.sleep(0.3)                                         # so the error arrives first
        (place.marks/"go").touch()
    other = when_begun(place, "gan-0", go_on)
    with pytest.raises(StepFailed, match="(?s)'gan-1' failed.*ZeroDivisionError: one over nothing"):
        run_dask(PLAN, place.store, place.toy(fails=("gan-1",), slow=("gan-0",)), {}, scheduler=scheduler)
    other.join(240)
    assert place.store.is_done(PLAN["gan-0"]) and sorted(place.begun()) == ["data", "gan-0", "gan-1"]
    with pytest.raises(UserError, match="gan-1 is too small; give 2 or more."):
        run_dask(PLAN, place.store, place.toy(refuses=("gan-1",)), {}, scheduler=scheduler)
    with pytest.raises(UserError, match="faces.zip is not on this machine; copy it there."):
        run_dask(PLAN, place.store, place.toy(data="gone"), {}, scheduler=scheduler)


def test_no_scheduler():
    pytest.importorskip("distributed", reason='pip install "fer_synth[cluster]"')
    with pytest.raises(UserError, match="No Dask scheduler answers at 'tcp://127.0.0.1.*start one with"):
        connect(f"tcp://127.0.0.1:{free_port()}", seconds=0.2)
    with pytest.raises(UserError, match="No Dask scheduler answers at 'nowhere:x'"):
        connect("nowhere:x", seconds=0.2)
