"The training monitor: what it reads, what it expects, and a stop that loses nothing."
import json
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import make_records
from test_experiment import metrics, stats

from fer_synth import experiment
from fer_synth.config import UserError
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.runtime import RunFolder, Stopped
from fer_synth.widgets.monitor import MonitorState, Tail, TrainingMonitor, stage_plan


@pytest.fixture(scope="module")
def whole(tmp_path_factory): return experiment.run(tiny_wgan_gp(), tmp_path_factory.mktemp("runs") / "whole", show=False)


def line(n: int) -> dict: return {"stage": "gan-1", "step": n, "seconds": 0.5}


@settings(max_examples=40, deadline=None)
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


def test_lines_that_were_taken_back_are_forgotten(tmp_path):
    path, tail = tmp_path / "stats.jsonl", Tail(tmp_path / "stats.jsonl")
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in (1, 2, 3)))
    assert tail.read()[1] == [line(1), line(2), line(3)]
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in (1, 9)))
    assert tail.read() == (True, [line(1), line(9)])


def test_the_plan_is_what_a_run_does(whole):
    cfg, lines = tiny_wgan_gp(), stats(whole)
    plan = stage_plan(cfg, ("angry", "fear", "happy", "neutral", "sad"), sum(cfg.data.drawn_counts))
    assert [s for s, _ in plan] == list(dict.fromkeys(line["stage"] for line in lines))
    last = {line["stage"]: line["step"] for line in lines}
    assert {s: n for s, n in plan} == last


def test_a_finished_run_is_shown(whole):
    monitor = TrainingMonitor(whole)
    assert monitor.state.phase() == "finished" and monitor.last_error is None and monitor.decision == "none"
    assert np.asarray(monitor.picture()).std() > 10
    monitor.stop.click(); monitor.stop.click()
    assert not (whole / "stop").exists() and "not running" in str(monitor.last_error or monitor.status.value)


def test_a_run_that_does_not_exist_yet_is_waited_for(tmp_path):
    monitor = TrainingMonitor(tmp_path / "run")
    assert monitor.state.phase() == "waiting" and monitor.last_error is None
    make_records(tmp_path / "run")
    assert monitor.refresh() and monitor.state.phase() == "finished" and monitor.last_error is None
    assert not monitor.refresh(), "nothing is new the second time"


@pytest.mark.parametrize("stage", ["gan-1", "compare-real-0"])
def test_a_run_that_was_asked_to_stop_goes_on_to_the_same_numbers(whole, tmp_path, monkeypatch, stage):
    from fer_synth.runtime import Stats
    log, asked = Stats.log, []
    def watched(self, name, step, **numbers):
        line = log(self, name, step, **numbers)
        if name == stage and not asked:
            monitor = TrainingMonitor(tmp_path / "run")
            monitor.press()
            assert not (tmp_path / "run" / "stop").exists(), "the first press only asks"
            monitor.press()
            asked.append(monitor)
        return line
    monkeypatch.setattr(Stats, "log", watched)
    with pytest.raises(Stopped): experiment.run(tiny_wgan_gp(), tmp_path / "run", show=False)
    assert asked[0].decision == "stop" and not (tmp_path / "run" / "stop").exists()
    asked[0].refresh()
    assert asked[0].state.phase() == "stopped" and not (tmp_path / "run" / "metrics.json").exists()
    experiment.resume(tmp_path / "run", show=False)
    assert metrics(tmp_path / "run") == metrics(whole) and stats(tmp_path / "run") == stats(whole)
    assert (tmp_path / "run" / "selection.csv").read_bytes() == (whole / "selection.csv").read_bytes()


def test_a_stop_is_refused_where_there_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no config.json"): RunFolder(tmp_path).request_stop()


def test_following_in_the_background_sees_new_lines_and_ends(tmp_path):
    run = make_records(tmp_path / "run")
    text, done = (run / "stats.jsonl").read_text(), (run / "metrics.json").read_text()
    (run / "metrics.json").unlink()
    (run / "stats.jsonl").write_text(text[:text.index("gan-1")].rsplit("\n", 1)[0] + "\n")
    monitor = TrainingMonitor(run, interval=.05)
    monitor.start()
    (run / "stats.jsonl").write_text(text)
    (run / "metrics.json").write_text(done)
    until = time.monotonic() + 60
    while monitor.state.phase() != "finished" and time.monotonic() < until: threading.Event().wait(.05)
    monitor.close()
    assert monitor.state.phase() == "finished" and monitor.last_error is None
