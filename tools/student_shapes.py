"""Which shape of running several students is fastest on this machine?

    python tools/student_shapes.py [--students 4 10] [--batches 128 256] [--steps 100] [--repeats 3]
    python tools/student_shapes.py --out tools/results/student-shapes.md
    python tools/student_shapes.py --quick       # a few steps: whether it works; the numbers mean nothing

Students of the original's network at 32x32 grey, real and generated images half and half: one after the
other, in two processes, and all in one wide network (groups, as `training.together` does it; and stacked
weights under `torch.func.vmap`). On a GPU: one after the other, and in one network. Each measurement is a
process of its own, or two that begin at the same moment; the shapes take turns, so that a slow hour hits all
of them. The numbers are images a second, summed over the students; validation and checkpoints, equal in all
shapes, are left out. The result is a table, printed and written to --out.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SIZE, CLASSES, ROWS, WARM_UP = 32, 5, 20_000, 3
CPU_SHAPES = {       # name: how students are trained, threads of a process, processes
    "one after another, 2 threads": ("single", 2, 1),
    "one after another, 1 thread": ("single", 1, 1),
    "2 processes, 1 thread each": ("single", 1, 2),
    "one wide network, 2 threads": ("groups", 2, 1),
    "one wide network, 1 thread": ("groups", 1, 1),
    "stacked (vmap), 2 threads": ("vmap", 2, 1),
    "stacked (vmap), 1 thread": ("vmap", 1, 1),
}
GPU_SHAPES = {
    "one after another": ("single", 0, 1),
    "one wide network": ("groups", 0, 1),
    "stacked (vmap)": ("vmap", 0, 1),
}


# ---- in the process that trains --------------------------------------------------------------------

def make_students(n: int, batch: int, steps: int, device):
    "So many untrained students, and the batches of each."
    import numpy as np

    from fer_synth.config import ClassifierConfig
    from fer_synth.data.training_set import TrainingSet
    from fer_synth.training.classifier import Training
    from fer_synth.training.students import student_batches
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (ROWS, 1, SIZE, SIZE), np.uint8)
    data = TrainingSet(images, random.integers(0, CLASSES, ROWS), tuple("abcde"))
    real, extra = data.pick(slice(0, ROWS // 2)), data.pick(slice(ROWS // 2, None))
    states = [Training(ClassifierConfig(), data, seed, device) for seed in range(n)]
    batches = [student_batches(real, extra, batch, steps, seed, device) for seed in range(n)]
    return states, batches


def single(states, batches, rate: float):
    "What trains all students from one step to another, one student after the other."
    from fer_synth.training.classifier import update

    def train(begin: int, end: int) -> None:
        for state, own in zip(states, batches):
            for step in range(begin, end): update(state, own, step, rate)
    return train


def groups(states, batches, rate: float):
    "The same in one wide network."
    import torch

    from fer_synth.training.together import side_by_side, update_together
    wide = side_by_side([state.clf for state in states])
    opt = torch.optim.Adam(wide.parameters(), rate)

    def train(begin: int, end: int) -> None:
        for step in range(begin, end): update_together(wide, opt, batches, step, rate)
    return train


def vmap(states, batches, rate: float):
    "The same with stacked weights."
    import torch
    from torch.func import functional_call, stack_module_state
    from torch.nn import functional as F
    nets = [state.clf for state in states]
    params, buffers = stack_module_state(nets)
    opt = torch.optim.Adam(params.values(), rate)

    def loss(params, buffers, x, y):
        return F.cross_entropy(functional_call(nets[0], (params, buffers), (x,)), y)

    losses = torch.vmap(loss)

    def train(begin: int, end: int) -> None:
        for step in range(begin, end):
            drawn = [own[step] for own in batches]
            x, y = (torch.stack(part) for part in zip(*drawn))
            opt.zero_grad(set_to_none=True)
            losses(params, buffers, x, y).sum().backward()
            opt.step()
    return train


def work(kind: str, threads: int, n: int, batch: int, steps: int, device: str) -> None:
    "Make ready, say so, wait for a line, train, and print the seconds."
    import torch

    from fer_synth.runtime import start
    device = start(device, threads)
    students = make_students(n, batch, WARM_UP + steps, device)
    train = {"single": single, "groups": groups, "vmap": vmap}[kind](*students, 1e-3)

    def wait() -> None:
        if device.type == "cuda": torch.cuda.synchronize()

    train(0, WARM_UP)
    wait()
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    train(WARM_UP, WARM_UP + steps)
    wait()
    print(time.perf_counter() - began, flush=True)


# ---- in the process that asks ----------------------------------------------------------------------

def shares(n: int, processes: int) -> list[int]:
    "How many of the students each process trains."
    return [n // processes + (i < n % processes) for i in range(processes)]


def measure(kind: str, threads: int, processes: int, n: int, batch: int, steps: int, device: str) -> float:
    "Images a second of all students together."
    children = []
    for share in shares(n, processes):
        numbers = map(str, (threads, share, batch, steps))
        command = [sys.executable, __file__, "--work", kind, *numbers, device]
        children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    try:
        for child in children:
            if child.stdout.readline().strip() != "ready": raise SystemExit(f"'{kind}' failed; see above.")
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        slowest = max(float(child.stdout.readline()) for child in children)
        for child in children: child.wait()
    finally:
        for child in children:
            if child.poll() is None: child.kill()
    return n * batch * steps / slowest


def table(rates: dict, cases: list, shapes: dict) -> str:
    "Medians as a table: a line for each shape, a column for each case, the fastest of a column in bold."
    heads = [f"{n} students, batch {batch}" for n, batch in cases]
    lines = ["| shape | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    medians = {key: statistics.median(found) for key, found in rates.items()}
    for name in shapes:
        cells = []
        for case in cases:
            best = max(medians[shape, case] for shape in shapes)
            text = f"{medians[name, case]:,.0f}"
            cells.append(f"**{text}**" if medians[name, case] == best else text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(device, args) -> str:
    "What was measured on what."
    import torch

    from fer_synth.runtime import cpu_name, gpu_name
    where = gpu_name(device) or f"{cpu_name()}, {os.cpu_count()} cores"
    return ("Students of the original's network at 32x32 grey, real and generated images half and half, on "
            f"{where}, PyTorch {torch.__version__}.\nImages a second, summed over the students; medians of "
            f"{args.repeats} turns of {args.steps} steps. Made by `tools/student_shapes.py`.")


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--students", type=int, nargs="+", default=[4, 10])
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        kind, *numbers, device = args.work
        return work(kind, *map(int, numbers), device)
    if args.quick: args.students, args.batches, args.steps, args.repeats = [2], [16], 2, 1

    from fer_synth.runtime import pick_device
    device = pick_device(args.device)
    shapes = CPU_SHAPES if device.type == "cpu" else GPU_SHAPES
    cases = [(n, batch) for n in args.students for batch in args.batches]
    rates = {(name, case): [] for name in shapes for case in cases}
    for turn in range(args.repeats):
        for case in cases:
            for name, shape in shapes.items():
                rates[name, case].append(measure(*shape, *case, args.steps, str(device)))
                print(f"turn {turn + 1}: {name}, {case[0]} students, batch {case[1]}: "
                      f"{rates[name, case][-1]:,.0f} images/s", file=sys.stderr)
    text = describe(device, args) + "\n\n" + table(rates, cases, shapes) + "\n"
    print(text)
    if args.out: args.out.write_text(text)


if __name__ == "__main__": main()
