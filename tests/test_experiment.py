"The whole pipeline on the tiny recipe: nothing leaks, a kill loses nothing, bad input leaves nothing."
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import run_files
from run_files import metrics, stats, with_seeds

from fer_synth.config import UserError, save_config
from fer_synth.experiment import runs
from fer_synth.experiment.plan import plan_run
from fer_synth.experiment.results import Run
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.records import RunFolder
from fer_synth.runtime import derive


@pytest.fixture
def whole(tiny_run):
    "A tiny run that nothing disturbed."
    return tiny_run


def test_the_folder_is_complete(whole):
    names = {p.name for p in whole.iterdir()}
    assert {"config.json", "env.json", "data.json", "plan.json", "steps"} <= names
    assert {"selection.csv", "predictions.npz", "measures.json", "metrics.json"} <= names
    plan = Run.open(whole).plan
    assert {p.name for p in (whole / "steps").iterdir()} == {step.folder for step in plan}
    assert not [p for p in whole.rglob("*") if p.name.startswith(".")], "temporary files are left behind"
    pools = [np.load(run_files.pool(whole, r), allow_pickle=False) for r in (1, 2)]
    rows = run_files.selection(whole).read_text().splitlines()
    assert len(pools) == 2 and len(rows) == 1 + sum(len(p["images"]) for p in pools)
    assert all(p["images"].dtype == np.uint8 for p in pools)
    assert all(len(np.unique(p["seeds"])) == len(p["seeds"]) for p in pools)
    kept = {f(whole, r) for f in (run_files.pool, run_files.validation) for r in (1, 2)}
    compared = run_files.step_folder(whole, "compare") / "predictions.npz"
    assert set(whole.rglob("*.npz")) == kept | {compared, run_files.predictions(whole)}


def test_every_figure_can_be_computed_again(whole):
    "metrics.json follows from predictions.npz alone."
    from fer_synth.evaluation.compare import compare_arms, read_predictions
    cfg = tiny_wgan_gp()
    answers, seed = read_predictions(run_files.predictions(whole)), derive(cfg.seed, "bootstrap")
    again = compare_arms(answers, n=cfg.compare.bootstrap, level=cfg.compare.level, seed=seed)
    assert json.loads(json.dumps(again)) == {k: metrics(whole)[k] for k in again}


def test_arms_take_the_same_steps(whole):
    last = {}
    for line in stats(whole):
        if line["stage"].startswith("student-"): last[line["stage"]] = line["step"]
    assert len(last) == 6 and len(set(last.values())) == 1


def with_other_test_rows(faces):
    "The same images with every test image inverted."
    test = faces.split == "test"
    images, hashes = faces.images.copy(), faces.hashes.copy()
    images[test] = 255 - images[test]
    hashes[test] = [f"f{i:015x}" for i in range(test.sum())]
    return replace(faces, images=images, hashes=hashes)


def test_test_rows_change_nothing_before_the_end(whole, tmp_path, monkeypatch):
    "Invert every test image: all weights, pools, selections and validation answers stay what they were."
    real = runs.load_images
    monkeypatch.setattr(runs, "load_images", lambda cfg: with_other_test_rows(real(cfg)))
    other = runs.run(tiny_wgan_gp(), tmp_path / "other", show=False)
    assert stats(other) == stats(whole)
    assert run_files.selection(other).read_bytes() == run_files.selection(whole).read_bytes()
    for r in (1, 2): assert run_files.pool(other, r).read_bytes() == run_files.pool(whole, r).read_bytes()
    assert run_files.same_weights(whole, other)
    p, q = (np.load(run_files.predictions(run)) for run in (whole, other))
    for key in p.files:
        same = np.array_equal(p[key], q[key])
        if key.endswith("/val"): assert same, key
        if key.endswith("/test"): assert not same, key
    assert metrics(other)["arms"] != metrics(whole)["arms"]


def assert_resumes_to(whole: Path, run: Path) -> None:
    "Go on with a run that was stopped; in the end it is equal to one that never was."
    assert not (run / "metrics.json").exists()
    runs.resume(run, show=False)
    assert metrics(run) == metrics(whole)
    for file in (run_files.selection, run_files.predictions):
        assert file(run).read_bytes() == file(whole).read_bytes()
    assert stats(run) == stats(whole)
    assert run_files.same_weights(run, whole)


KILLED = {("gan-1", 2): None, ("pool-2", 0): ("gan-2", 0), ("student-balanced-1", 2): ("select-2", 0)}


@pytest.mark.parametrize("step, writes", [stop for stop in run_files.STOPS if stop not in KILLED])
def test_a_stop_at_any_step_resumes_to_the_same_numbers(whole, tmp_path, step, writes):
    "From a copy of the folder as it was right before `step` wrote its file, after `writes` times."
    run = shutil.copytree(run_files.stop(whole.parent, step, writes), tmp_path / "run")
    assert_resumes_to(whole, run)


def names(run: Path) -> list[str]:
    "The files of a run, without temporary ones."
    found = (path for path in run.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(run)) for path in found if not path.name.startswith("."))


@pytest.mark.parametrize("step, writes", KILLED)
def test_a_killed_process_leaves_what_the_copies_hold_and_resumes(whole, tmp_path, step, writes):
    "SIGKILL in each writer: GAN loop, pool, classifier loop. The later two go on from an earlier stop."
    run, begun = tmp_path / "run", KILLED[step, writes]
    if begun: shutil.copytree(run_files.stop(whole.parent, *begun), run)
    command = [sys.executable, run_files.__file__, run, step, str(writes)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    copy = run_files.stop(whole.parent, step, writes)
    assert names(run) == names(copy) and stats(run) == stats(copy) and run_files.same_weights(run, copy)
    assert_resumes_to(whole, run)


def test_a_checkpoint_of_another_config_is_not_taken(whole, tmp_path):
    "Neither by its key, nor under the name of the folder that it ought to have."
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    before, cfg = Run.open(copy), tiny_wgan_gp()
    other = replace(cfg, gan=replace(cfg.gan, penalty=3.0))
    plan = plan_run(other, facts=RunFolder(copy).read("data.json"))
    todo = [step.name for step in plan if before.store.state(step) != "done"]
    assert todo[0] == "gan-1" and {"pool-1", "judge-1", "student-augmented-0", "compare"} <= set(todo)
    assert not {"data", "judge-0", "warmup-1", "student-real-0", "student-balanced-1"} & set(todo)
    old, new = before.store.folder(before.plan["gan-1"]), before.store.folder(plan["gan-1"])
    old.path.rename(new.path)
    save_config(other, copy / "config.json")
    with pytest.raises(UserError, match=f"{new.path.name} holds .* other settings"):
        runs.resume(copy, show=False)


def test_a_plan_that_was_edited(whole, tmp_path):
    plan = RunFolder(whole).read("plan.json")
    gan = next(step for step in plan if step["name"] == "gan-1")
    gan["settings"]["gan"]["penalty"] = 3.0
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    RunFolder(folder).json("plan.json", plan)
    with pytest.raises(UserError, match="key of 'gan-1' does not belong to its settings"): Run.open(folder)


def test_data_that_changed_under_a_run(whole, tmp_path):
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    facts = RunFolder(copy).read("data.json")
    RunFolder(copy).json("data.json", facts | {"fingerprint": "0" * 16})
    with pytest.raises(UserError, match="not what it was"):
        runs.resume(copy, show=False)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = tiny_wgan_gp()
    unknown_class = replace(cfg.selection, class_thresholds={"surprise": 0.5})
    bad = {
        "nowhere.zip": replace(cfg, data=replace(cfg.data, source="nowhere.zip")),
        "surprise": replace(cfg, selection=unknown_class),
        "threshold": replace(cfg, selection=replace(cfg.selection, threshold=2.0)),
        "quantum": replace(cfg, device="quantum"),
    }
    for words, wrong in bad.items():
        with pytest.raises(UserError, match=words): runs.run(wrong, show=False)
    free = shutil.disk_usage(tmp_path)._replace(free=10 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda p: free)
    with pytest.raises(UserError, match="free where"): runs.run(cfg, tmp_path / "full", show=False)
    assert not list(tmp_path.rglob("config.json")) and not (tmp_path / "full").exists()


def test_an_empty_class_is_a_warning(tmp_path):
    "A threshold that nothing reaches: the run ends, says so, and the augmented arm learns from real faces."
    cfg = with_seeds(tiny_wgan_gp(), 1)
    cfg = replace(cfg, rounds=replace(cfg.rounds, count=1), selection=replace(cfg.selection, threshold=1.0))
    m = metrics(runs.run(cfg, tmp_path / "strict", show=False))
    short = [c for c, e in m["selection"]["rounds"][0]["classes"].items() if e["quota"]]
    assert len(short) == 4 and len(m["selection"]["warnings"]) >= 4
    assert m["arms"]["augmented"]["mean"] == m["arms"]["real"]["mean"]
