"""Does fer_synth work on a GPU, and how fast? One command of at most eight minutes, without a network.

    python tools/on_gpu.py --pack fer2013.zip --out fer32.npz   # once: the images, as a file of 24 MB
    python tools/on_gpu.py --data fer32.npz --out gpu           # on the machine with the GPU
    python tools/on_gpu.py --rehearse --out rehearsal           # all of it small, on the CPU

Writes on_gpu.json, rates.png (images a second against batch size), faces.png (generated images, a row for
each class) and cgan.safetensors (the averaged generator). Without --data, cgan trains on drawn faces.

    device      what the GPU is, and its peak matmul throughput in fp32, TF32 and bf16
    agreement   ten steps of each family give the losses of the CPU
    graphs      steps that are recorded as CUDA graphs and replayed equal eager steps
    resume      training that was stopped and resumed equals training without a stop
    rates       images a second of each family and of the classifiers, share of the peak, memory
    cgan        trains cgan for the rest of the time and measures it

Each section runs in a process of its own, so that one that fails, hangs or breaks the device does not stop
the rest, and on_gpu.json is rewritten after each part of a section. "problems" there lists sections that
failed and numbers outside of their tolerance; the exit status is 1 where there are any.
"""
import argparse
import gc
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import gpu_parts as parts
import numpy as np
import torch
from gpu_parts import CLASSES, CLASSIFIERS, FAMILIES, GIB, MODES, WITH_BF16, Options, config, eager, graphs

from fer_synth.config import RunConfig, to_dict, write_atomic
from fer_synth.evaluation.generators import Yardstick
from fer_synth.recipes import FIVE_EMOTIONS
from fer_synth.records import StepFolder
from fer_synth.runtime import environment, image_grid, save_tensors
from fer_synth.training.objectives import Game

# The most seconds of a section; cgan takes what is left of the whole.
LIMITS = {"device": 60, "agreement": 90, "graphs": 80, "resume": 80, "rates": 160, "cgan": 900}
RATES_SECONDS = 130      # after so many no further speed is measured
MEASURE_SECONDS = 60     # kept free at the end for the measures of cgan


def device_section(o: Options) -> Iterator[dict]:
    device, size = parts.begin(o), 256 if o.rehearse else 8192
    yield {"environment": environment(device), "gpu": gpu_facts() if device.type == "cuda" else None}
    peak = {}
    for name, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        parts.set_tf32(name == "tf32")
        peak[name] = parts.peak_throughput(dtype, size, device)
    yield {"matmul_size": size, "peak_tflops": peak}


def gpu_facts() -> dict:
    "What PyTorch says about the GPU, and how it computes when nothing is said."
    gpu = torch.cuda.get_device_properties(0)
    return {
        "name": gpu.name,
        "memory_gib": gpu.total_memory / GIB,
        "multiprocessors": gpu.multi_processor_count,
        "capability": f"{gpu.major}.{gpu.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_in_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
        "bf16": torch.cuda.is_bf16_supported(),
        "bf16_in_hardware": torch.cuda.is_bf16_supported(including_emulation=False)}


RATES = 0.1      # of the recipe's learning rates, wherever two trainings are compared
TOLERANCES = {"fp32": 0.03, "tf32": 0.1, "bf16": 0.1}
REASON = (
    "Rounding grows: a sum in another order differs by about a millionth, and Adam divides each gradient by "
    "its size, so that rounding in a gradient near zero moves a weight by a whole learning rate. A change of "
    "the first weights by a millionth grows to 0.006 in ten steps of cgan at a tenth of its learning rates, "
    "which is what is compared, and to 0.2 at its full rates. TF32 has ten bits of mantissa and bf16 seven, "
    "where single precision has 23.")


def agreement_section(o: Options) -> Iterator[dict]:
    device = parts.begin(o)
    yield {"tolerance": REASON, "share_of_learning_rates": RATES}
    for family in FAMILIES: yield {family: agree(family, o, device, 3 if o.rehearse else 10)}


def agree(family: str, o: Options, device, steps: int) -> dict:
    "Losses of one family on the device against those in fp32 on the CPU."
    cpu = torch.device("cpu")
    images = parts.few_faces(config(family, o))

    def losses(where, precision="fp32", change=0.0) -> np.ndarray:
        game = parts.make_game(config(family, o, RATES, precision=precision), *images, where, eager)
        if change: parts.nudge(game, change)
        return parts.losses(game, steps)

    wanted = losses(cpu)
    growth = parts.loss_difference(losses(cpu, change=1e-6), wanted)
    found = {"losses_on_cpu": wanted.tolist(), "growth_of_a_millionth": growth}
    for kind, tolerance in TOLERANCES.items():
        if kind == "bf16" and family not in WITH_BF16: continue
        parts.set_tf32(kind == "tf32")
        by_step = parts.loss_difference(losses(device, "bf16" if kind == "bf16" else "fp32"), wanted)
        found[kind] = parts.compared(max(by_step), tolerance) | {"by_step": by_step}
    return found


SAME = (
    "1e-3 of the length of a network's weights, or ten times what two equal trainings differ by. With "
    "deterministic kernels all should be exactly equal.")


def cases(o: Options) -> dict[str, RunConfig]:
    "Each family, and cgan in bf16; each step has updates with and without a penalty, so all are replayed."
    common = {"critic_steps": 2, "penalty_every": 2, "critic_first": 2, "measure_every": 0, "decay": 0.0}
    found = {name: config(name, o, RATES, precision="fp32", **common) for name in FAMILIES}
    return found | {"cgan bf16": config("cgan", o, RATES, precision="bf16", **common)}


def graphs_section(o: Options) -> Iterator[dict]:
    device, steps = parts.begin(o, deterministic=True), 5 if o.rehearse else 16
    yield {"steps": steps, "tolerance": SAME}
    for name, cfg in cases(o).items():
        images, states, losses = parts.few_faces(cfg), [], []
        for recorder in (eager, eager, graphs(o)):
            game = parts.make_game(cfg, *images, device, recorder)
            losses.append(parts.losses(game, steps))
            states.append(game.state())
        wanted, again, replayed = states
        yield {name: parts.same_state(replayed, wanted, again) | {
            "all_recorded": all(step.replay is not None for step in game.steps.values()),
            "losses_by_step": parts.loss_difference(losses[2], losses[0])}}


def resume_section(o: Options) -> Iterator[dict]:
    device, steps = parts.begin(o, deterministic=True), 4 if o.rehearse else 24
    yield {"steps": steps, "tolerance": SAME}
    plans = {"wanted": [steps], "again": [steps], "resumed": [steps // 2, steps]}
    for name, cfg in cases(o).items():
        images = parts.few_faces(cfg)
        with tempfile.TemporaryDirectory() as place:
            state = {kind: trained(cfg, images, Path(place, kind), plan, device, graphs(o))
                     for kind, plan in plans.items()}
        yield {name: parts.same_state(state["resumed"], state["wanted"], state["again"])}


def trained(cfg: RunConfig, images: tuple, folder: Path, sittings: list[int], device, recorder) -> dict:
    "The state after a training that is stopped after each of these steps and resumed from its checkpoint."
    for steps in sittings:
        game = parts.make_game(cfg, *images, device, recorder)
        parts.train_gan(game, StepFolder(folder), steps)
    return game.state()


def rates_section(o: Options) -> Iterator[dict]:
    began, device = time.perf_counter(), parts.begin(o)
    peaks = read_report(o)["sections"].get("device", {}).get("peak_tflops", {})
    images, rows, skipped = parts.few_faces(config("cgan", o), 2048), [], []
    yield {"counted": parts.COUNTED}
    for batch in (4,) if o.rehearse else (32, 256, 1024, 64):
        for name in (*FAMILIES, *CLASSIFIERS):
            for mode in MODES:
                if MODES[mode] and name not in WITH_BF16: continue
                if time.perf_counter() - began > RATES_SECONDS:
                    skipped.append(f"{name}, batch {batch}, {mode}: no time was left")
                    continue
                rows.append(parts.rate(name, batch, mode, images, o, device, peaks))
                yield {"rows": rows, "skipped": skipped}
                gc.collect()
                if device.type == "cuda": torch.cuda.empty_cache()
    parts.draw_rates(rows, o.out / "rates.png")
    yield {"rows": rows, "skipped": skipped}


def cgan_config(o: Options) -> RunConfig:
    "The recipe, with intervals for a device that takes hundreds of steps a second."
    if o.rehearse: return config("cgan", o, steps=20, log_every=5, measure_every=10)
    return config("cgan", o, log_every=250, measure_every=5000, sample_every=5000, checkpoint_every=5000)


def cgan_section(o: Options) -> Iterator[dict]:
    device, cfg = parts.begin(o), cgan_config(o)
    data = parts.packed_images(cfg, o)
    images, labels = data.part("train")
    yield {"data": data.source, "training_images": len(labels), "config": to_dict(cfg)}
    wanted = np.random.default_rng(0).choice(labels, 60 if o.rehearse else 2000)
    with tempfile.TemporaryDirectory() as place:
        folders = [StepFolder(Path(place, name)) for name in ("judge", "yardstick", "warmup", "gan")]
        judge, accuracy = parts.train_judge(cfg, data, folders[0], device)
        strong, other = parts.train_judge(parts.strong_judge(cfg), data, folders[1], device)
        yield {"judge_accuracy": accuracy, "yardstick_accuracy": other}
        yardstick = Yardstick(strong, data, device=device, n=len(wanted))

        def measure(sampler) -> dict:
            return yardstick.quick(parts.generated(sampler, wanted[:1000], 1), wanted[:1000])
        gen = parts.warmed_up(cfg, data, judge, folders[2], device)
        game = parts.make_game(cfg, images, labels, device, graphs(o), judge, gen)
        minutes = 0.0 if o.rehearse else max(0.2, (o.deadline - time.time() - MEASURE_SECONDS) / 60)
        parts.train_gan(game, folders[3], cfg.gan.steps, minutes, measure)
        yield training_facts(game, cfg, folders[3].lines(), o)
    found = yardstick.full(parts.generated(game.sampler(), wanted, 2), wanted)
    yield {"measures": {k: v for k, v in found.items() if k != "worst"}}


def training_facts(game: Game, cfg: RunConfig, lines: list[dict], o: Options) -> dict:
    "Write the generator and a grid of its images; return what the log says of the training."
    steps, sampler = lines[-1]["step"], game.sampler()
    notes = {"config": to_dict(cfg), "classes": FIVE_EMOTIONS, "step": steps}
    save_tensors(o.out / "cgan.safetensors", sampler.gen.state_dict(), **notes)
    image_grid(sampler.examples(CLASSES, 12, 0), 12).save(o.out / "faces.png")
    return {
        "steps": steps,
        "critic_images": steps * cfg.gan.batch * cfg.gan.critic_steps,
        "training_seconds": lines[-1]["seconds"],
        "curve": [line for line in lines if "frechet" in line],
        "warnings": [line["warning"] for line in lines if "warning" in line]}


SECTIONS = {
    "device": device_section,
    "agreement": agreement_section,
    "graphs": graphs_section,
    "resume": resume_section,
    "rates": rates_section,
    "cgan": cgan_section}


# Running the sections

def read_report(o: Options) -> dict:
    return json.loads(o.report.read_text())


def write_report(o: Options, report: dict) -> None:
    write_atomic(o.report, json.dumps(report, indent=1) + "\n")


def record(o: Options, name: str, entry: dict) -> None:
    "Put what is known of a section into the report."
    report = read_report(o)
    report["sections"][name] = entry
    write_report(o, report | {"problems": problems(report["sections"])})


def problems(found, where: str = "") -> list[str]:
    "Every place where something failed, has an error or is not within its tolerance."
    if isinstance(found, list): found = dict(enumerate(found))
    if not isinstance(found, dict): return []
    here = [f"{where}{name}" for name in ("ok", "within", "all_recorded") if found.get(name) is False]
    if found.get("error"): here.append(f"{where}error")
    return here + [p for name, value in found.items() for p in problems(value, f"{where}{name}.")]


def run_section(name: str, o: Options) -> None:
    "One section, in a process of its own; its parts are recorded as they come, an error as its traceback."
    entry, began = {"ok": None}, time.perf_counter()

    def seconds() -> float: return round(time.perf_counter() - began, 2)
    try:
        for part in SECTIONS[name](o):
            entry |= part
            record(o, name, entry | {"seconds": seconds()})
        entry["ok"] = True
    except Exception:
        entry |= {"ok": False, "error": traceback.format_exc()}
    record(o, name, entry | {"seconds": seconds()})


def supervise(name: str, o: Options) -> dict:
    "Run one section and wait for it, no longer than its limit; returns what the report then says of it."
    limit, began = max(1.0, min(LIMITS[name], o.deadline - time.time())), time.perf_counter()
    process = multiprocessing.get_context("fork").Process(target=run_section, args=(name, o))
    process.start()
    process.join(limit)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    entry = read_report(o)["sections"].get(name, {"ok": None})
    if entry["ok"] is None:
        why = f"was stopped after {limit:.0f} seconds" if late else f"ended with exit code {process.exitcode}"
        entry |= {"ok": False, "error": f"The process of this section {why}."}
        entry["seconds"] = round(time.perf_counter() - began, 2)
        record(o, name, entry)
    return entry


def run_all(o: Options) -> list[str]:  # the problems
    "All sections, one after the other. This process leaves the GPU alone, or its forks could not use it."
    o.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    write_report(o, {"rehearsal": o.rehearse, "seconds": 0.0, "problems": [], "sections": {}})
    for name in SECTIONS:
        entry = supervise(name, o)
        print(f"{name:<10} {'ok' if entry['ok'] else 'failed'}, {entry['seconds']:.1f} s", flush=True)
        if not entry["ok"]: print(entry["error"], flush=True)
    report = read_report(o)
    write_report(o, report | {"seconds": round(time.time() - began, 1)})
    return report["problems"]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", type=Path, required=True, help="folder of the results; with --pack the file")
    ap.add_argument("--data", type=Path, help="what --pack wrote; drawn faces when left out")
    ap.add_argument("--minutes", type=float, default=7.75, help="the most that all sections may take")
    ap.add_argument("--rehearse", action="store_true", help="small networks and few steps, on the CPU")
    ap.add_argument("--pack", type=Path, help="fer2013.zip, to write its images into one file")
    args = ap.parse_args()
    if args.pack: return print(parts.pack(args.pack, args.out))
    o = Options(args.out, args.rehearse, args.data, time.time() + 60 * args.minutes)
    found = run_all(o)
    print("\n".join(["Problems:", *found]) if found else "No problems.", f"\nSee {o.report}")
    sys.exit(bool(found))


if __name__ == "__main__": main()
