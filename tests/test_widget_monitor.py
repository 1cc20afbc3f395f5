"The training monitor: what it reads, what it expects, and a stop that loses nothing."
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import make_records
from run_files import metrics, samples, stats, step_folder, stop, with_seeds

from fer_synth.config import save_config, write_atomic
from fer_synth.experiment import runs
from fer_synth.experiment.plan import plan_run
from fer_synth.recipes import tiny_cgan, tiny_wgan_gp
from fer_synth.records import RunFolder, StepFolder, Stopped
from fer_synth.settings import UserError
from fer_synth.widgets.launch import RUNNER
from fer_synth.widgets.monitor import TrainingMonitor, resume_here, train_here
from fer_synth.widgets.monitor_state import MonitorState, Tail


# What a run in another process executes, without the pictures of the report, which take longest.
BARE = f"from fer_synth import report; report.draw_pictures = lambda r, folder: []\n{RUNNER}"
FIVE = ("angry", "fear", "happy", "neutral", "sad")
once = pytest.mark.once


@pytest.fixture
def whole(tiny_run): return tiny_run


def set_state(run, step, **facts):
    "Change what the folder of a step says about it."
    note = step_folder(run, step) / "step.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | facts))


def trainings(state: MonitorState) -> dict[str, int]:
    "The steps of a plan that train something, with the training steps that each will have."
    return {name: stage.steps for name, stage in state.stages.items() if stage.trains}


def read(run) -> MonitorState:
    state = MonitorState(run)
    state.read()
    return state


def line(n: int) -> dict: return {"stage": "gan-1", "step": n, "seconds": 0.5}


@once
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 10**6), max_size=12), st.lists(st.integers(0, 200), max_size=8))
def test_a_file_read_in_pieces_gives_the_same_lines(tmp_path_factory, numbers, cuts):
    path = tmp_path_factory.mktemp("tail") / "stats.jsonl"
    data = "".join(json.dumps(line(n)) + "\n" for n in numbers).encode()
    tail, found = Tail(path), []
    for end in [*sorted(c for c in cuts if c < len(data)), len(data)]:
        path.write_bytes(data[:end])
        void, new = tail.read()
        found = ([] if void else found) + new
    assert found == [line(n) for n in numbers]


@once
def test_lines_that_were_taken_back_are_forgotten(tmp_path):
    path, tail = tmp_path / "stats.jsonl", Tail(tmp_path / "stats.jsonl")
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in (1, 2, 3)))
    assert tail.read()[1] == [line(1), line(2), line(3)]
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in (1, 9)))
    assert tail.read() == (True, [line(1), line(9)])


@once
def test_the_plan_is_what_a_run_does(whole):
    plan, lines = trainings(read(whole)), stats(whole)
    assert list(plan) == list(dict.fromkeys(line["stage"] for line in lines))
    last = {line["stage"]: line["step"] for line in lines}
    assert plan == last


def test_a_finished_run_is_shown(whole):
    monitor = TrainingMonitor(whole)
    assert monitor.state.phase() == "finished" and monitor.last_error is None and monitor.decision == "none"
    assert np.asarray(monitor.picture().convert("L")).std() > 10
    monitor.stop.click()
    monitor.stop.click()
    assert not (whole / "stop").exists() and "not running" in str(monitor.last_error or monitor.status.value)


def test_a_run_that_does_not_exist_yet_is_waited_for(tmp_path):
    monitor = TrainingMonitor(tmp_path / "run")
    assert monitor.state.phase() == "waiting" and monitor.last_error is None
    make_records(tmp_path / "run")
    assert monitor.refresh() and monitor.state.phase() == "finished" and monitor.last_error is None
    assert not monitor.refresh(), "nothing is new the second time"


@once
@pytest.mark.parametrize("stage, begun", [("gan-1", ("warmup-1", 1)), ("student-real-0", ("select-2", 0))])
def test_a_run_that_was_asked_to_stop_goes_on_to_the_same_numbers(whole, tmp_path, monkeypatch, stage, begun):
    log, asked = StepFolder.log, []
    def watched(self, step, **numbers):
        line = log(self, step, **numbers)
        if self.name == stage and not asked:
            monitor = TrainingMonitor(tmp_path / "run")
            monitor.press()
            assert not (tmp_path / "run" / "stop").exists(), "the first press only asks"
            monitor.press()
            asked.append(monitor)
        return line
    monkeypatch.setattr(StepFolder, "log", watched)
    shutil.copytree(stop(whole.parent, *begun), tmp_path / "run")
    with pytest.raises(Stopped): runs.resume(tmp_path / "run", show=False)
    assert asked[0].decision == "stop" and not (tmp_path / "run" / "stop").exists()
    asked[0].refresh()
    assert asked[0].state.phase() == "stopped" and not (tmp_path / "run" / "metrics.json").exists()
    runs.resume(tmp_path / "run", show=False)
    assert metrics(tmp_path / "run") == metrics(whole) and stats(tmp_path / "run") == stats(whole)
    assert (tmp_path / "run" / "selection.csv").read_bytes() == (whole / "selection.csv").read_bytes()


def test_a_stop_is_refused_where_there_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no config.json"): RunFolder(tmp_path).request_stop()


def test_following_in_the_background_sees_new_lines_and_ends(tmp_path):
    run = make_records(tmp_path / "run")
    early = ("data", "judge-0", "yardstick", "warmup")
    later = [step for step in read(run).stages if not step.startswith(early)]
    logs = {step_folder(run, step) / "stats.jsonl" for step in later}
    text = {log: log.read_text() for log in logs if log.exists()}
    for log in text: log.unlink()
    for step in later: set_state(run, step, state="partial")
    monitor = TrainingMonitor(run, interval=.05)
    monitor.start()
    assert monitor.state.phase() == "running" and monitor.state.current.step.name == "gan-1"
    for log in text: log.write_text(text[log])
    for step in later: set_state(run, step, state="done")
    until = time.monotonic() + 60
    while monitor.state.phase() != "finished" and time.monotonic() < until: threading.Event().wait(.05)
    monitor.close()
    assert monitor.state.phase() == "finished" and monitor.last_error is None


def until(true, seconds=300):
    "Wait for something that will happen; how long it takes is no concern of the test."
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end: threading.Event().wait(.05)
    assert true()


@once
def test_a_file_put_in_the_place_of_another_is_read_anew(tmp_path):
    "A rewind makes a new file; at the next look it may be longer than the old one, or have its inode."
    path = tmp_path / "stats.jsonl"
    def text(*steps): return "".join(json.dumps(line(n)) + "\n" for n in steps)
    tail = Tail(path)
    write_atomic(path, text(1, 2, 3))
    tail.read()
    write_atomic(path, text(1, 2, 4, 5))
    assert tail.read() == (True, [line(n) for n in (1, 2, 4, 5)])
    path.write_text(text(1, 2, 4, 6, 7))        # the same inode, longer, another line at the end
    assert tail.read() == (True, [line(n) for n in (1, 2, 4, 6, 7)])
    path.unlink()
    assert tail.read() == (True, []) and tail.read() == (False, [])


@once
def test_only_what_was_added_is_read(tmp_path):
    "Lines before the offset may turn into anything: nobody looks at them again."
    path = tmp_path / "stats.jsonl"
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in range(10, 60)))
    tail = Tail(path)
    assert len(tail.read()[1]) == 50
    data = bytearray(path.read_bytes())
    data[:40] = b"x" * 40
    path.write_bytes(bytes(data) + (json.dumps(line(60)) + "\n").encode())
    assert tail.read() == (False, [line(60)])


@once
def test_lines_that_are_no_records_are_left_out(tmp_path):
    path = tmp_path / "stats.jsonl"
    damaged = '{"stage": "gan-1", "st{"stage": 5}\nnull\n[1]\n{"stage": "gan-1", "step": "two"}\n'
    path.write_text(damaged + json.dumps(line(3)) + "\n")
    assert Tail(path).read()[1] == [line(3)]


@once
def test_the_plan_of_a_gan_for_each_class(tmp_path):
    cfg = tiny_wgan_gp()
    compare = replace(cfg.compare, seeds=1, bootstrap=50)
    cfg = replace(cfg, gan=replace(cfg.gan, per_class=True), compare=compare)
    run = runs.run(cfg, tmp_path / "run", show=False)
    plan, lines = trainings(read(run)), stats(run)
    assert list(plan) == list(dict.fromkeys(line["stage"] for line in lines))
    assert plan == {line["stage"]: line["step"] for line in lines}
    monitor = TrainingMonitor(run)
    assert [name for name, _ in monitor.state.samples.rows(FIVE)] == list(FIVE) and monitor.last_error is None


@once
def test_a_request_from_before_does_not_end_the_resumed_run(whole, tmp_path):
    "Somebody asks when nothing is training any more: the next resume throws that away, and runs to its end."
    shutil.copytree(stop(whole.parent, "gan-2", 0), tmp_path / "run")
    RunFolder(tmp_path / "run").request_stop()
    runs.resume(tmp_path / "run", show=False)
    assert not (tmp_path / "run" / "stop").exists()
    assert metrics(tmp_path / "run") == metrics(whole) and stats(tmp_path / "run") == stats(whole)


def test_the_stop_button_forgets_the_first_press(tmp_path):
    now, run = [100.0], make_records(tmp_path / "run")
    set_state(run, "compare", state="partial")
    monitor = TrainingMonitor(run, clock=lambda: now[0])
    monitor.stop.click()
    assert monitor.stop.description == "Press again to stop" and not (run / "stop").exists()
    now[0] += 11
    monitor.refresh()
    assert monitor.stop.description == "Stop"
    monitor.stop.click()
    now[0] += 11
    monitor.stop.click()
    assert monitor.stop.description == "Press again to stop" and not (run / "stop").exists()
    now[0] += 1
    monitor.stop.click()
    assert (run / "stop").exists() and monitor.stop.disabled
    assert monitor.decision == "stop" and monitor.last_error is None


@once
def test_stopped_and_resumed_elsewhere_is_seen(tmp_path):
    run = make_records(tmp_path / "run")
    for step in ("student-augmented-2", "compare"): set_state(run, step, state="partial")
    state = read(run)
    state.ask_to_stop()
    assert state.phase() == "stopping"
    (run / "stop").unlink()                       # the run obeys ...
    assert state.read() and state.phase() == "stopped" and state.decision == "stop"
    set_state(run, "student-augmented-2", seconds=9.0)      # ... writes down its time ...
    assert state.read() and state.phase() == "stopped"
    new = {"stage": "student-augmented-2", "step": 999, "seconds": 1}
    log = step_folder(run, "student-augmented-2") / "stats.jsonl"
    with open(log, "a") as f: f.write(json.dumps(new) + "\n")     # ... and somebody continues
    assert state.read() and state.phase() == "running" and state.decision == "none"


@once
def test_half_a_picture_is_read_when_it_is_whole(tmp_path):
    run = make_records(tmp_path / "run")
    state, last = read(run), samples(run, "gan-2")[-1]
    before, data, new = state.samples.when, last.read_bytes(), last.with_name("000081.png")
    new.write_bytes(data[:200])
    assert not state.read() and state.samples.when == before
    new.write_bytes(data)
    assert state.read() and state.samples.when == "GAN, round 2, step 81"


@once
def test_a_run_of_another_process_is_seen_from_beginning_to_end(tmp_path):
    "The monitor is there first; a process that it knows nothing of runs the whole job."
    out = tmp_path / "run"
    monitor = TrainingMonitor(out, interval=.05)
    monitor.start()
    assert monitor.state.phase() == "waiting"
    config = save_config(with_seeds(tiny_wgan_gp(), 1), tmp_path / "c.json")
    words = [sys.executable, "-c", BARE, "run", "--config", str(config), "--out", str(out)]
    other = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: monitor.state.phase() != "waiting")
    until(lambda: not monitor.following.alive)
    assert monitor.state.phase() == "finished" and monitor.last_error is None
    logged = [name for name, stage in monitor.state.stages.items() if stage.lines]
    assert len({line["stage"] for line in stats(out)}) == len(trainings(monitor.state)) == len(logged)
    assert other.communicate()[0] and other.returncode == 0


@once
def test_a_run_started_here_can_be_stopped_and_goes_on(tmp_path):
    "The first round would take for ever; a real process is stopped in it, resumed, and stopped again."
    cfg = tiny_wgan_gp()
    monitor = train_here(replace(cfg, gan=replace(cfg.gan, steps=10**6)), tmp_path / "run", interval=.05)
    monitor.start()
    until(lambda: monitor.over or (monitor.state.line or {}).get("stage") == "gan-1")
    monitor.stop.click()
    monitor.stop.click()
    assert monitor.wait(300) == "stopped" and monitor.process.returncode == 130 and monitor.last_error is None
    assert "Stopped; continue it with: fer-synth resume" in (tmp_path / "run.log").read_text()
    assert monitor.stop.disabled
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.log"]
    step = max(line["step"] for line in stats(tmp_path / "run"))
    again = resume_here(tmp_path / "run", interval=.05)
    again.start()
    until(lambda: again.over or (again.state.line or {}).get("step", 0) > step)
    again.stop.click()
    again.stop.click()
    assert again.wait(300) == "stopped" and again.last_error is None


@once
def test_a_run_started_here_that_fails_says_why(tmp_path):
    cfg = tiny_wgan_gp()
    cfg = replace(cfg, data=replace(cfg.data, source=str(tmp_path / "nowhere.zip")))
    monitor = train_here(cfg, tmp_path / "run")
    assert monitor.wait(300) == "failed" and monitor.process.returncode == 2
    assert "nowhere.zip does not exist" in monitor.status.value and "fer-error" in monitor.status.value
    assert monitor.stop.disabled
    assert [p.name for p in tmp_path.iterdir()] == ["run.log"]


@once
def test_following_does_not_keep_python_alive(tmp_path):
    "The run never ends, and nobody closes the monitor; a script that is done ends all the same."
    run = make_records(tmp_path / "run")
    set_state(run, "compare", state="partial")
    script = "\n".join(("from fer_synth.widgets.monitor import TrainingMonitor",
                        f"m = TrainingMonitor({str(run)!r}, interval=.01)",
                        "m.start()",
                        "assert m.following.alive"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and not done.stderr


@once
def test_a_budget_in_minutes_is_shown_as_the_run_plans_it(tmp_path):
    "Before budget.json is there nobody knows the steps; then they are its own, for every round."
    def begun(name, gan):
        run = RunFolder.create(tmp_path / name, replace(tiny_cgan(), gan=replace(tiny_cgan().gan, **gan)), {})
        facts = {"fingerprint": "0", "classes": FIVE, "counts": {"train": dict.fromkeys(FIVE, 44)}}
        run.json("plan.json", plan_run(RunFolder.open(run.path)[1], facts=facts).to_list())
        return run
    run = begun("minutes", {"minutes": 1.0})
    state = read(run.path)
    assert trainings(state)["gan-1"] == 0 and state.stages["gan-1"].trains
    run.step(state.plan["gan-1"].folder).write_json("budget.json", {"steps": 900})
    assert state.read() and trainings(state)["gan-1"] == 900 and trainings(state)["gan-2"] == 0
    assert trainings(read(begun("steps", {}).path))["gan-1"] == 6
    assert trainings(read(begun("steps again", {}).path))["gan-2"] == 4
    assert trainings(read(begun("images", {"images": 3200}).path))["gan-1"] == 100    # 2 x 16 a step
