"Two processes over the loopback compute what one computes on the same global batch."
import os
import subprocess
import sys

import pytest
import torch

from browser import free_port
from run_files import stats

from fer_synth.families.known import FAMILIES
from fer_synth.runtime import load_tensors

pytest.importorskip("accelerate", reason="Hugging Face Accelerate is not installed (pip install -e .[dev])")

WORKER = """
import sys, numpy as np, torch
from dataclasses import fields, replace
from fer_synth.data.images import ImageSet
from fer_synth.data.training_set import TrainingSources
from fer_synth.family_settings import FAMILY_SETTINGS
from fer_synth.data.batches import Batches, MirrorAndShift
from fer_synth.families.known import FAMILIES, make_critic, make_generator
from fer_synth.models.classifier import SimpleCNN
from fer_synth.processes import join_processes, rank_and_size
from fer_synth.runtime import save_tensors, seeded
torch.set_num_threads(1)
# In 32 bits, the rounding of sums in another order can tip an activation over its kink.
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
join_processes("cpu")
rank, n = rank_and_size()
images = np.random.default_rng(0).integers(0, 256, (60, 1, 16, 16)).astype(np.uint8)
labels = np.arange(60) % 3
split = ["train"] * 54 + ["val"] * 3 + ["test"] * 3
told = ImageSet.from_arrays(images, labels, split=split, size=16)
sources = TrainingSources(replace(told, captions=tuple(f"image of class {c}" for c in told.labels)))
images, labels = images[:40], labels[:40]
with seeded(0, "judge"): judge = SimpleCNN(3, 16)
for family in sys.argv[2:]:
    kind = FAMILY_SETTINGS[family]
    own = {f.name for f in fields(kind)}
    wanted = dict(z=8, gen_width=8, critic_width=8, batch=12, critic_steps=2, penalty_every=2,
                  augment="adaptive", projected=True)
    cfg = kind(**{name: value for name, value in wanted.items() if name in own})
    if cfg.problem(): cfg = replace(cfg, projected=False)
    gen, critic = make_generator(cfg, 3, 16, 1, 0), make_critic(cfg, 3, 16, 1, 0)
    batches = Batches(images, labels, 12, 0, "gan", transform=MirrorAndShift(), even=True)
    game = FAMILIES[family](cfg, gen, critic, batches, 0, "cpu", judge=judge, sources=sources)
    # By default Adam makes a whole step of a gradient that is rounding noise of either sign.
    for opt in game.optimizers.values():
        for group in opt.param_groups: group["eps"] = 1e-3
    for step in range(5):
        for phase in game.phases:
            for i in range(phase.repeats): phase.update(step, i)
        game.after_step(step)
    save_tensors(f"{sys.argv[1]}/{family}-{n}-{rank}.safetensors", game.state(), processes=n)
"""


def start(n: int, rank: int, port: int, *words) -> subprocess.Popen:
    "One of `n` workers that know of each other, as a launcher would start it."
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_PORT": port}
    fixed = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true"}
    env = {**os.environ, **{k: str(v) for k, v in place.items()}, **fixed}
    command = [sys.executable, "-c", WORKER, *map(str, words)]
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def launch(n: int, *words) -> None:
    "Run the worker in `n` processes."
    port = free_port()
    running = [start(n, rank, port, *words) for rank in range(n)]
    try:
        for p in running:
            said, _ = p.communicate(timeout=180)
            assert p.returncode == 0, said[-2000:]
    finally:
        for p in running: p.kill()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A folder with the states of all families, trained in one process and in two."
    folder = tmp_path_factory.mktemp("trained")
    for n in (1, 2): launch(n, folder, *FAMILIES)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_equal_one(trained, family):
    one, _ = load_tensors(trained / f"{family}-1-0.safetensors")
    first, notes = load_tensors(trained / f"{family}-2-0.safetensors")
    second, _ = load_tensors(trained / f"{family}-2-1.safetensors")
    assert notes["processes"] == 2
    assert one.keys() == first.keys()
    assert all(torch.equal(first[k], second[k]) for k in first), "the ranks went different ways"
    for k, v in one.items():      # sums in another order
        torch.testing.assert_close(first[k], v, rtol=1e-8, atol=1e-10, msg=lambda m, k=k: f"{k}: {m}")


LAUNCHER = ("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
            "--mixed_precision", "no", "--dynamo_backend", "no")
RUN = ("run", "--out", "two", "--recipe")
# Recipe, a loss that its GAN logs, the seeds that the run of one process compares, and what is launched: the
# command that README names, and the same without the pictures of its report, which take longest.
BARE = "import sys; from fer_synth import cli, report; report.draw_pictures = lambda r, folder: []; " \
       "sys.exit(cli.main())"
ALONE = ("tiny_cgan", "r1", 1, True), ("tiny_wgan_gp", "penalty", 2, False)


@pytest.mark.parametrize("recipe, loss, seeds, pictures", ALONE)
def test_a_run_by_the_launcher_keeps_one_set_of_records(shared_run, tmp_path, recipe, loss, seeds, pictures):
    "By the command that README names; a run of one process measures the same."
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "bare.py").write_text(BARE)
    program = ["-m", "fer_synth.cli"] if pictures else [str(tmp_path / "tmp" / "bare.py")]
    command = [sys.executable, "-m", *LAUNCHER, "--main_process_port", str(free_port()), *program, *RUN,
               recipe, "--compare.seeds", str(seeds)]
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Report: ") == 1 and (tmp_path / "two" / "report.html").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name != "tmp"] == ["two"]
    assert not list((tmp_path / "tmp").glob("fer_synth-*")), "a private folder is left"
    together, alone = stats(tmp_path / "two"), stats(shared_run(recipe))
    assert [(a["stage"], a["step"]) for a in together] == [(a["stage"], a["step"]) for a in alone]
    two, one = (next(a for a in found if a["stage"] == "gan-1") for found in (together, alone))
    assert two[loss] == pytest.approx(one[loss], rel=1e-3)      # the mean of two halves, and the whole
    for stage in ("judge-0", "warmup"):                         # which each process computes as a whole
        two, one = ([a for a in found if a["stage"].startswith(stage)] for found in (together, alone))
        assert [a["loss"] for a in two] == pytest.approx([a["loss"] for a in one], rel=1e-6) and two
