"""How fast is training here, against a plain loop and against the machine's peak matmul throughput?

    python tools/bench.py [--seconds 8] [--repeats 3] [--only classifier cgan]
    python tools/bench.py --profile cgan      # where a step's time goes, operator by operator

The classifier of the original work, and one training step of each family of GANs, in fer_synth's loop and in
a plain one: the same networks and losses, but the default memory layout and allocator, and a DataLoader with
two workers; classifier and cgan also in bfloat16. Each measurement runs in a process of its own, since the
allocator is set once for a process; the kinds take turns, so that an hour in which the machine is slower hits
all of them. Writes tools/results/training-speed.md, unless --only left something out. bfloat16 is left out on
a processor without instructions for it.
"""
import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

SIZE, CLASSES, ROWS, CLF_BATCH = 32, 5, 20_000, 256
FAMILIES = ("cgan", "wgan_gp", "vanilla")
RESULTS = Path(__file__).parent / "results" / "training-speed.md"


def random_images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (ROWS, 1, SIZE, SIZE), np.uint8), rng.integers(0, CLASSES, ROWS)


def peak_matmul() -> float:
    "Matrix product of 2048 x 2048 in single precision, GFLOP/s."
    import torch
    a = torch.rand(2048, 2048)
    a @ a
    began = time.perf_counter()
    for _ in range(8): a @ a
    return 8 * 2 * 2048**3 / (time.perf_counter() - began) / 1e9


def rate(step, images: int, seconds: float) -> float:
    "Images a second over about `seconds`, after three steps that do not count."
    for i in range(3): step(i)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step(3 + done)
        done += 1
    return done * images / (time.perf_counter() - began)


def flops(step, steps: int) -> float:
    "GFLOP of a step, counted operator by operator, backward and second derivatives included."
    import contextlib
    from torch.utils.flop_counter import FlopCounterMode

    # Which module an operator belongs to is of no interest, and asking fails in second derivatives.
    class Nowhere(contextlib.nullcontext):
        parents = {"Global"}

    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Nowhere()
    with counter:
        for i in range(steps): step(i)
    return counter.get_total_flops() / steps / 1e9


def loader(batch: int):
    "Batches as people load them: a Dataset of single images, two worker processes."
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Table(Dataset):
        def __init__(self): self.images, self.labels = random_images()
        def __len__(self): return ROWS
        def __getitem__(self, i):
            return torch.from_numpy(self.images[i]).float() / 127.5 - 1, int(self.labels[i])

    while True: yield from DataLoader(Table(), batch, shuffle=True, num_workers=2, drop_last=True)


def plain_classifier():
    "The original's network in a loop as people write it."
    import torch
    from torch import nn
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    opt, batches = torch.optim.Adam(net.parameters(), 1e-3), loader(CLF_BATCH)

    def step(_):
        x, y = next(batches)
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    return step, CLF_BATCH, 1


def our_classifier(precision: str = "fp32"):
    "The same network in fer_synth's classifier loop."
    from dataclasses import replace

    from fer_synth.data.batches import Batches
    from fer_synth.data.training_set import TrainingSet
    from fer_synth.recipes import FIVE_EMOTIONS, wgan_gp_fer32
    from fer_synth.runtime import start
    from fer_synth.training.classifier import Training, update
    device, cfg = start("cpu"), replace(wgan_gp_fer32().clf, precision=precision)
    data = TrainingSet(*random_images(), FIVE_EMOTIONS)
    state = Training(cfg, data, 0, device)
    batches = Batches(data.images, data.labels, CLF_BATCH, 0, "clf", device=device)

    def step(i): update(state, batches, i, cfg.lr)
    return step, CLF_BATCH, 1


def game(family: str, plain: bool, **settings):
    "One generator step with its critic steps; images are the real ones that the critic is shown."
    import torch
    # Before the package is imported, so that every memory layout stays the default one.
    if plain: torch.channels_last = torch.contiguous_format
    from dataclasses import replace

    from fer_synth.data.batches import Batches, MirrorAndShift
    from fer_synth.families.known import get_family, make_critic, make_generator
    from fer_synth.models.classifier import SimpleCNN
    from fer_synth.recipes import cgan_fer32, vanilla_drawn32, wgan_gp_fer32
    from fer_synth.runtime import start
    from fer_synth.training.gan import Meter, play
    device = torch.device("cpu") if plain else start("cpu")
    recipe = {"cgan": cgan_fer32, "wgan_gp": wgan_gp_fer32, "vanilla": vanilla_drawn32}[family]
    cfg = replace(recipe().gan, **settings)
    batches = Batches(*random_images(), cfg.batch, 0, "gan", device=device, transform=MirrorAndShift())
    judge = SimpleCNN(CLASSES, SIZE, 1).to(device, memory_format=torch.channels_last)
    if plain:
        stream = loader(cfg.batch)
        type(batches).__getitem__ = lambda self, k: next(stream)
    gen, critic = make_generator(cfg, CLASSES, SIZE, 1, 0), make_critic(cfg, CLASSES, SIZE, 1, 0)
    playing = get_family(family)(cfg, gen, critic, batches, 0, device, judge=judge)

    def step(i): play(playing, i, 1 << 60, Meter())
    return step, cfg.batch * cfg.critic_steps, cfg.penalty_every


KINDS = {"classifier": {"plain": plain_classifier, "fer_synth": our_classifier}}
for name in FAMILIES:
    KINDS[name] = {"plain": partial(game, name, True), "fer_synth": partial(game, name, False)}
KINDS["classifier"]["bf16"] = partial(our_classifier, "bf16")
KINDS["cgan"]["bf16"] = partial(game, "cgan", False, precision="bf16")


def measure(what: str, how: str, seconds: float) -> dict:
    "In a process of its own: rate, peak matmul throughput, cost of a step, memory, time of the first step."
    step, images, period = KINDS[what][how]()
    step(0)
    ready, before = time.time(), peak_matmul()
    found = rate(step, images, seconds)
    import resource
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    gflop, matmul = flops(step, period) / images, (before + peak_matmul()) / 2
    share = found * gflop / matmul
    return {"rate": found, "matmul": matmul, "share": share, "gflop": gflop, "memory": memory, "ready": ready}


def profile(what: str, lines: int = 10) -> str:
    "The operators that take the most time by themselves, over steps of every kind."
    from torch.profiler import ProfilerActivity, profile as watch
    step, _, period = KINDS[what]["fer_synth"]()
    for i in range(3): step(i)
    with watch(activities=[ProfilerActivity.CPU]) as seen:
        for i in range(2 * period): step(3 + i)
    found = sorted(seen.key_averages(), key=lambda e: -e.self_cpu_time_total)
    whole = sum(e.self_cpu_time_total for e in found)
    shares = [(e.self_cpu_time_total / whole, e.count / 2 / period, e.key) for e in found[:lines]]
    return "\n".join(f"{share:6.1%}  {calls:6.1f} calls a step  {name}" for share, calls, name in shares)


Found = dict[tuple[str, str], list[dict]]      # (what, how) -> measurements


def turns(o: argparse.Namespace) -> Found:
    "Measure all kinds, one after the other, as often as asked for."
    found: Found = {(what, how): [] for what in o.only for how in KINDS[what]}
    for i, (what, how) in itertools.product(range(o.repeats), found):
        began = time.time()
        command = [sys.executable, __file__, "--one", what, how, "--seconds", str(o.seconds)]
        out = subprocess.run(command, capture_output=True, text=True, check=True)
        one = json.loads(out.stdout.splitlines()[-1])
        found[what, how].append(one | {"start": one["ready"] - began})
        print(f"{i + 1}/{o.repeats} {what:<10} {how:<10} {one['rate']:7.0f} images/s, "
              f"peak matmul {one['matmul']:4.0f} GFLOP/s", flush=True)
    return found


def table(found: Found, o: argparse.Namespace) -> str:
    "What was found, as Markdown: medians."
    import torch

    from fer_synth.runtime import cpu_name
    lines = [
        "Training at 32x32 grey: the original's classifier at batch 256, and a step of each GAN at the batch "
        "of its recipe, where the images are the real ones that the critic is shown. "
        f"{cpu_name()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; "
        f"medians of {o.repeats} turns of {o.seconds:g} s. Made by `make bench`.", "",
        "| what | loop | images/s | against plain | GFLOP an image | share of the peak matmul throughput | "
        "peak memory, GiB | start to first step, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    medians = {}
    for key, ones in found.items():
        medians[key] = {k: statistics.median(one[k] for one in ones) for k in ones[0]}
    for (what, how), m in medians.items():
        ratio = m["rate"] / medians[what, "plain"]["rate"]
        speed = (f"{m['rate']:.0f}", f"{ratio:.2f}", f"{m['gflop']:.3f}", f"{100 * m['share']:.0f} %")
        cells = (what, how, *speed, f"{m['memory']:.2f}", f"{m['start']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    peaks = [one["matmul"] for ones in found.values() for one in ones]
    last = f"The peak, a matrix product of 2048x2048, was {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s."
    return "\n".join([*lines, "", last]) + "\n"


def options() -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--seconds", type=float, default=8.0, help="length of one measurement")
    ap.add_argument("--repeats", type=int, default=3, help="measurements of each kind")
    ap.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    ap.add_argument("--profile", choices=KINDS, help="print where the time of a step goes, and nothing else")
    ap.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return ap.parse_args()


def main() -> None:
    o = options()
    if o.profile: return print(profile(o.profile))
    if o.one: return print(json.dumps(measure(*o.one, o.seconds)))
    from fer_synth.training.steps import cpu_has_bf16
    if not cpu_has_bf16():
        for how in KINDS.values(): how.pop("bf16", None)
    text = table(turns(o), o)
    if len(o.only) == len(KINDS): RESULTS.write_text(text)
    print("\n" + text)


if __name__ == "__main__": main()
