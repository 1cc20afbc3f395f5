"Two processes over the loopback compute what one computes on the same global batch."
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from browser import free_port
from fer_synth.experiment import runs
from fer_synth.families.known import FAMILIES
from fer_synth.recipes import tiny_cgan
from fer_synth.runtime import load_tensors

pytest.importorskip("accelerate", reason="Hugging Face Accelerate is not installed (pip install -e .[dev])")

WORKER = """
import sys, numpy as np, torch
from fer_synth.config import GanConfig
from fer_synth.data.batches import Batches, MirrorAndShift
from fer_synth.families.known import FAMILIES, make_critic, make_generator
from fer_synth.models.classifier import SimpleCNN
from fer_synth.processes import join_processes, rank_and_size
from fer_synth.runtime import save_tensors, seeded
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)      # in 32 bits, the rounding of sums in another order can tip an activation over its kink, and a slope with it
torch.Tensor.float = torch.Tensor.double
join_processes("cpu")
family, out = sys.argv[1:]
images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16)).astype(np.uint8)
cfg = GanConfig(family=family, z=8, gen_width=8, critic_width=8, batch=12, critic_steps=2, penalty_every=2, augment="adaptive", projected=True)
with seeded(0, "judge"): judge = SimpleCNN(3, 16)
game = FAMILIES[family](cfg, *(make(cfg, 3, 16, 1, 0) for make in (make_generator, make_critic)),
                        Batches(images, np.arange(40) % 3, 12, 0, "gan", transform=MirrorAndShift(), even=True), 0, "cpu", judge=judge)
for opt in game.optimizers.values():        # by default Adam makes a whole step of a gradient that is rounding noise, and its sign is anybody's guess
    for group in opt.param_groups: group["eps"] = 1e-3
for step in range(5):
    for phase in game.phases:
        for i in range(phase.repeats): numbers = phase.update(step, i)
    game.after_step(step)
rank, n = rank_and_size()
save_tensors(f"{out}/{n}-{rank}.safetensors", game.state(), processes=n)
"""


def launch(n: int, *words) -> None:
    "Run the worker in `n` processes that know of each other, as a launcher would start them."
    port = str(free_port())
    running = [subprocess.Popen([sys.executable, "-c", WORKER, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={
        **os.environ, "RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true"}) for r in range(n)]
    try:
        for p in running:
            said, _ = p.communicate(timeout=180)
            assert p.returncode == 0, said[-2000:]
    finally:
        for p in running: p.kill()


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_equal_one(family, tmp_path):
    for n in (1, 2): launch(n, family, tmp_path)
    one, (first, notes), second = load_tensors(tmp_path/"1-0.safetensors")[0], load_tensors(tmp_path/"2-0.safetensors"), load_tensors(tmp_path/"2-1.safetensors")[0]
    assert notes["processes"] == 2
    assert one.keys() == first.keys() and all(torch.equal(first[k], second[k]) for k in first), "the ranks went different ways"
    for k, v in one.items(): torch.testing.assert_close(first[k], v, rtol=1e-8, atol=1e-10, msg=lambda m: f"{k}: {m}")   # sums in another order


def test_a_run_by_the_launcher_keeps_one_set_of_records(tmp_path):
    "The whole pipeline in two processes, by the command that README names; a run of one process measures the same after its warm-up."
    (tmp_path/"tmp").mkdir()
    done = subprocess.run([sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
                           "--dynamo_backend", "no", "--main_process_port", str(free_port()), "-m", "fer_synth.cli", "run", "--recipe", "tiny_cgan",
                           "--compare.seeds", "1", "--out", "two"], cwd=tmp_path, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                          env={**os.environ, "TMPDIR": str(tmp_path/"tmp"), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"} )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Report: ") == 1 and (tmp_path/"two"/"report.html").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name != "tmp"] == ["two"] and not list((tmp_path/"tmp").glob("fer_synth-*")), "a private folder is left"
    lines = [json.loads(t) for t in (tmp_path/"two"/"stats.jsonl").read_text().splitlines()]
    one = runs.run(replace(tiny_cgan(), compare=replace(tiny_cgan().compare, seeds=1)), tmp_path/"one", show=False)
    alone = [json.loads(t) for t in (one/"stats.jsonl").read_text().splitlines()]
    assert [(l["stage"], l["step"]) for l in lines] == [(l["stage"], l["step"]) for l in alone]
    first = [next(l for l in ls if l["stage"] == "gan-1") for ls in (lines, alone)]
    assert first[0]["r1"] == pytest.approx(first[1]["r1"], rel=1e-3)                 # the mean of two halves, and the whole
