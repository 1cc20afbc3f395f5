"""How fast is training here, against a plain loop and against the machine's roof?

    python benchmarks/bench.py [--seconds 8] [--repeats 3]

Each measurement runs in a process of its own, since the allocator is set once for a process; the kinds
take turns, so that an hour in which the machine is slower hits all of them. Writes benchmarks/RESULTS.md.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BATCH, SIZE, CLASSES, ROWS = 256, 32, 5, 20_000


def faces():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (ROWS, 1, SIZE, SIZE), np.uint8), rng.integers(0, CLASSES, ROWS)


def roof() -> float:
    "Matrix product of 2048 x 2048 in single precision, GFLOP/s."
    import torch
    a = torch.rand(2048, 2048)
    a @ a
    began = time.perf_counter()
    for _ in range(8): a @ a
    return 8 * 2 * 2048**3 / (time.perf_counter() - began) / 1e9


def rate(batches, step, seconds: float) -> float:
    "Images a second over about `seconds`, after three steps that do not count."
    batches, done = iter(batches), 0
    for _ in range(3): step(*next(batches))
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        step(*next(batches))
        done += 1
    return done * BATCH / (time.perf_counter() - began)


def plain_loop(seconds: float) -> float:
    "The network in a loop as people write it: Dataset, DataLoader with two workers, default layout and allocator."
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    class Table(Dataset):
        def __init__(self): self.images, self.labels = faces()
        def __len__(self): return ROWS
        def __getitem__(self, i): return torch.from_numpy(self.images[i]).float() / 127.5 - 1, int(self.labels[i])

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    opt, loader = torch.optim.Adam(net.parameters(), 1e-3), DataLoader(Table(), BATCH, shuffle=True, num_workers=2, drop_last=True)

    def step(x, y):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()

    def forever():
        while True: yield from loader
    return rate(forever(), step, seconds)


def our_loop(seconds: float) -> float:
    "The same network in fer_synth's classifier loop."
    import itertools

    from fer_synth.data.batches import Batches
    from fer_synth.recipes import wgan_gp_fer32
    from fer_synth.runtime import start
    from fer_synth.training.classifier import Training, update
    device = start("cpu")
    state, batches = Training(wgan_gp_fer32(), CLASSES, 0, "bench", device), Batches(*faces(), BATCH, 0, "clf", device=device)

    def one(step): update(state, batches, step, 10**6, 0)
    return rate(((i,) for i in itertools.count()), one, seconds)


def flops() -> float:
    "Forward and backward of the classifier for one image, GFLOP; no gradient is needed at the pixels."
    conv1, conv2, linear = 9 * 32 * SIZE**2, 9 * 32 * 64 * (SIZE // 2)**2, 4096 * 128 + 128 * CLASSES
    return 2 * (2 * conv1 + 3 * conv2 + 3 * linear) / 1e9


KINDS = {"plain": plain_loop, "fer_synth": our_loop}


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--seconds", type=float, default=8.0, help="length of one measurement")
    ap.add_argument("--repeats", type=int, default=3, help="measurements of each kind")
    ap.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    o = ap.parse_args()
    if o.one:
        before = roof()
        value = KINDS[o.one](o.seconds)
        return print(json.dumps([value, (before + roof()) / 2]))
    found = {k: [] for k in KINDS}
    for i in range(o.repeats):
        for kind in KINDS:
            out = subprocess.run([sys.executable, __file__, "--one", kind, "--seconds", str(o.seconds)], capture_output=True, text=True, check=True)
            found[kind].append(json.loads(out.stdout.splitlines()[-1]))
            print(f"{i + 1}/{o.repeats} {kind:<10} {found[kind][-1][0]:7.0f} images/s, roof {found[kind][-1][1]:4.0f} GFLOP/s", flush=True)
    import torch

    from fer_synth.runtime import cpu_name
    middle = {k: statistics.median(v[0] for v in vs) for k, vs in found.items()}
    lines = [f"Classifier of the original work, 32x32 grey, batch {BATCH}, forward, backward and Adam. {cpu_name()}, {torch.get_num_threads()} threads,",
             f"PyTorch {torch.__version__}; medians of {o.repeats} turns of {o.seconds:g} s. Made by `make bench`.", "",
             "| loop | images/s | against plain | GFLOP/s | share of the matrix-product roof |", "| --- | --- | --- | --- | --- |"]
    for k, vs in found.items():
        share = statistics.median(v[0] * flops() / v[1] for v in vs)
        lines.append(f"| {k} | {middle[k]:.0f} | {middle[k] / middle['plain']:.2f} | {middle[k] * flops():.0f} | {100 * share:.0f} % |")
    text = "\n".join(lines) + "\n"
    Path(__file__).with_name("RESULTS.md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
