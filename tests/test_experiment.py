"The whole pipeline on the tiny recipe: nothing leaks, a kill loses nothing, bad input leaves nothing."
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_synth.experiment import runs
from fer_synth.config import UserError, save_config
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.runtime import RunFolder, load_tensors

MEASURED = ("seconds", "images_per_s")  # how long this machine took: the only numbers that may differ


def stats(path):
    lines = [json.loads(t) for t in (path/"stats.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]


def metrics(path):
    return {k: v for k, v in RunFolder(path).read("metrics.json").items() if k != "resources"}


def weights(path):
    return {f.name: load_tensors(f)[0] for f in (path/"checkpoints").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A tiny run that nothing disturbed."
    return runs.run(tiny_wgan_gp(), tmp_path_factory.mktemp("runs")/"whole", show=False)


def test_the_folder_is_complete(whole):
    names = {p.name for p in whole.iterdir()}
    assert {"config.json", "env.json", "data.json", "stats.jsonl", "checkpoints", "samples", "pool", "selection.csv",
            "predictions.npz", "metrics.json"} <= names
    assert not [p for p in whole.rglob("*") if p.name.startswith(".")], "temporary files are left behind"
    pools = [np.load(p, allow_pickle=False) for p in sorted((whole/"pool").glob("round-*.npz"))]
    rows = (whole/"selection.csv").read_text().splitlines()
    assert len(pools) == 2 and len(rows) == 1 + sum(len(p["images"]) for p in pools)
    assert all(p["images"].dtype == np.uint8 and len(set(p["seeds"].tolist())) == len(p["seeds"]) for p in pools)
    assert sorted(p.name for p in (whole/"pool").iterdir()) == ["round-1.npz", "round-2.npz", "validation-1.npz", "validation-2.npz"]


def test_every_figure_can_be_computed_again(whole):
    "metrics.json follows from predictions.npz alone."
    from fer_synth.evaluation.compare import compare_arms, read_predictions
    from fer_synth.runtime import derive
    cfg = tiny_wgan_gp()
    again = compare_arms(read_predictions(whole/"predictions.npz"), n=cfg.compare.bootstrap, level=cfg.compare.level, seed=derive(cfg.seed, "bootstrap"))
    assert json.loads(json.dumps(again)) == {k: metrics(whole)[k] for k in again}


def test_arms_take_the_same_steps(whole):
    last = {}
    for line in stats(whole):
        if line["stage"].startswith("compare-"): last[line["stage"]] = line["step"]
    assert len(last) == 6 and len(set(last.values())) == 1


def test_test_rows_change_nothing_before_the_end(whole, tmp_path, monkeypatch):
    "Invert every test image: GAN, pool, selection, all classifiers and their validation answers stay what they were."
    real = experiment.load_images

    def changed(cfg):
        faces = real(cfg)
        test = faces.split == "test"
        images, hashes = faces.images.copy(), faces.hashes.copy()
        images[test] = 255 - images[test]
        hashes[test] = [f"f{i:015x}" for i in range(test.sum())]
        return replace(faces, images=images, hashes=hashes)

    monkeypatch.setattr(experiment, "load_images", changed)
    other = runs.run(tiny_wgan_gp(), tmp_path/"other", show=False)
    assert stats(other) == stats(whole)
    assert (other/"selection.csv").read_bytes() == (whole/"selection.csv").read_bytes()
    for name in ("round-1.npz", "round-2.npz"): assert (other/"pool"/name).read_bytes() == (whole/"pool"/name).read_bytes()
    a, b = weights(whole), weights(other)
    assert a.keys() == b.keys() and all((a[f][k] == b[f][k]).all() for f in a for k in a[f])
    p, q = (np.load(x/"predictions.npz") for x in (whole, other))
    for key in p.files:
        same = np.array_equal(p[key], q[key])
        if key.endswith("/val"): assert same, key
        if key.endswith("/test"): assert not same, key
    assert metrics(other)["arms"] != metrics(whole)["arms"]


KILLER = """
import os, signal, sys
from fer_synth.experiment import runs
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.training import gan
stage, count, real = sys.argv[2], int(sys.argv[3]), gan.save_tensors
def save(path, *a, **k):
    global count
    if path.name == stage + ".safetensors":
        count -= 1
        if count < 0: os.kill(os.getpid(), signal.SIGKILL)
    return real(path, *a, **k)
gan.save_tensors = save
runs.run(tiny_wgan_gp(), sys.argv[1], show=False)
"""


@pytest.mark.parametrize("stage, saves", [("judge-0", 1), ("warmup-1", 1), ("gan-1", 2), ("gan-2", 0), ("compare-balanced-1", 2)])
def test_a_killed_run_resumes_to_the_same_numbers(whole, tmp_path, stage, saves):
    "SIGKILL while `stage` is about to write a checkpoint after `saves` others, then resume."
    done = subprocess.run([sys.executable, "-c", KILLER, str(tmp_path/"run"), stage, str(saves)], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": str(__import__("torch").get_num_threads())})
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path/"run"/"metrics.json").exists()
    runs.resume(tmp_path/"run", show=False)
    assert metrics(tmp_path/"run") == metrics(whole)
    for name in ("selection.csv", "predictions.npz"): assert (tmp_path/"run"/name).read_bytes() == (whole/name).read_bytes()
    assert stats(tmp_path/"run") == stats(whole)


def test_checkpoint_of_another_config(whole, tmp_path):
    copy = Path(shutil.copytree(whole, tmp_path/"copy"))
    cfg = tiny_wgan_gp()
    save_config(replace(cfg, gan=replace(cfg.gan, penalty=3.0)), copy/"config.json")
    with pytest.raises(UserError, match=r"belongs to another config: gan\.penalty was 10\.0 there and is 3\.0"):
        runs.resume(copy, show=False)


def test_data_that_changed_under_a_run(whole, tmp_path):
    copy = Path(shutil.copytree(whole, tmp_path/"copy"))
    facts = RunFolder(copy).read("data.json")
    RunFolder(copy).json("data.json", facts | {"fingerprint": "0" * 16})
    with pytest.raises(UserError, match="not what it was"):
        runs.resume(copy, show=False)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = tiny_wgan_gp()
    bad = {
        "nowhere.zip": replace(cfg, data=replace(cfg.data, source="nowhere.zip")),
        "surprise": replace(cfg, selection=replace(cfg.selection, class_thresholds={"surprise": 0.5})),
        "threshold": replace(cfg, selection=replace(cfg.selection, threshold=2.0)),
        "cuda": replace(cfg, device="quantum"),
    }
    for words, wrong in bad.items():
        with pytest.raises(UserError, match=words if words != "cuda" else "quantum"): runs.run(wrong, show=False)
    free = shutil.disk_usage(tmp_path)._replace(free=10 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda p: free)
    with pytest.raises(UserError, match="free where"): runs.run(cfg, tmp_path/"full", show=False)
    assert not list(tmp_path.rglob("config.json")) and not (tmp_path/"full").exists()


def test_an_empty_class_is_a_warning(tmp_path):
    "A threshold that nothing reaches: the run ends, says so, and the augmented arm learns from real faces."
    cfg = tiny_wgan_gp()
    cfg = replace(cfg, rounds=replace(cfg.rounds, count=1), selection=replace(cfg.selection, threshold=1.0), compare=replace(cfg.compare, seeds=1))
    m = metrics(runs.run(cfg, tmp_path/"strict", show=False))
    short = [c for c, e in m["selection"]["rounds"][0]["classes"].items() if e["quota"]]
    assert len(short) == 4 and len(m["selection"]["warnings"]) >= 4
    assert m["arms"]["augmented"]["mean"] == m["arms"]["real"]["mean"]
