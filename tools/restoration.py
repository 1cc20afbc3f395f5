"""How well `pix2pix` puts back what was taken away, on images that it was not trained on.

    python tools/restoration.py [--data drawn] [--steps 1500] [--tasks inpaint sr2 ...] [--out DIR]

For each task: what is left of the image itself (a small image enlarged bilinearly, a grey hole), the network
trained with the L1 distance alone, and pix2pix with its critic, by the same steps. PSNR in decibels and SSIM
of validation images (scikit-image); PSNR of holes is that of the pixels inside. A grid for each task shows
what is left, L1 alone, pix2pix, and the image. All is kept in --out and goes on where it was stopped.
"""
import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

from fer_synth.config import RunConfig, write_atomic
from fer_synth.data.batches import to_float, to_uint8
from fer_synth.data.pairs import TASKS, condition, pair_draws
from fer_synth.experiment.generators import load_sampler
from fer_synth.experiment.plan import plan_run
from fer_synth.experiment.runs import execute, prepare
from fer_synth.experiment.work import Job
from fer_synth.families.pix2pix import psnr
from fer_synth.recipes import get_recipe
from fer_synth.records import RunFolder
from fer_synth.runtime import cpu_name, image_grid
from fer_synth.steps import Store, up_to

KINDS = {"L1 alone": 0.0, "pix2pix": None}     # weight of the critic's loss; None: the recipe's


def config(data: str, task: str, steps: int, adversarial: float | None) -> RunConfig:
    "One training: a task, with or without the critic."
    cfg = get_recipe("pix2pix_drawn32")
    gan = replace(cfg.gan, task=task, steps=steps, measure_every=0)
    if adversarial is not None: gan = replace(gan, adversarial=adversarial)
    return replace(cfg, gan=gan, data=replace(cfg.data, source=data), rounds=replace(cfg.rounds, count=1))


def trained(cfg: RunConfig, store: Store, images, device) -> torch.nn.Module:
    "The averaged generator of a training, which is not done twice."
    plan = plan_run(cfg, images)
    gan = plan.of("gan")[0]
    job = Job(cfg, up_to(gan), store, images, device)
    execute(job)
    return load_sampler(store.folder(gan), cfg, job.member(gan), device, job.sources).gen


def similarity(found: torch.Tensor, true: torch.Tensor) -> float:
    "Mean SSIM of images in [-1, 1], (N, C, H, W), with Gaussian windows (Wang et al. 2004)."
    how = {"channel_axis": 0, "data_range": 2.0, "gaussian_weights": True, "sigma": 1.5,
           "use_sample_covariance": False}
    pairs = zip(found.clamp(-1, 1).numpy(), true.numpy())
    return float(np.mean([structural_similarity(a, b, **how) for a, b in pairs]))


def scores(task: str, found: torch.Tensor, true: torch.Tensor, left: torch.Tensor) -> dict:
    "PSNR and SSIM of restored images."
    hole = (left[:, -1:] < 0).float() if task == "inpaint" else None
    return {"psnr": psnr(found, true, hole), "ssim": similarity(found, true)}


def task_scores(task: str, x: torch.Tensor, nets: dict) -> tuple[dict, list]:
    "Every kind of a task on the same images: its scores, and the rows of a grid."
    left = condition(x, task, pair_draws(range(len(x))))
    found = {"what is left": left[:, :-1]}
    with torch.no_grad(): found |= {kind: net(left) for kind, net in nets.items()}
    return {kind: scores(task, y, x, left) for kind, y in found.items()}, [*found.values(), x]


def table(found: dict) -> str:
    "The scores in Markdown."
    lines = ["| task | network | PSNR, dB | SSIM |", "| --- | --- | --- | --- |"]
    for task, kinds in found.items():
        lines += [f"| {task} | {kind} | {s['psnr']:.2f} | {s['ssim']:.3f} |" for kind, s in kinds.items()]
    return "\n".join(lines)


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--data", default="drawn")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--out", type=Path, default=Path("runs/restoration"))
    o = parser.parse_args()
    first = config(o.data, o.tasks[0], o.steps, None)
    images, device = prepare(first)
    o.out.mkdir(parents=True, exist_ok=True)
    store, found = Store(RunFolder(o.out), show=True), {}
    x = to_float(torch.as_tensor(np.asarray(images.part("val")[0])))
    for task in o.tasks:
        nets = {kind: trained(config(o.data, task, o.steps, weight), store, images, device)
                for kind, weight in KINDS.items()}
        found[task], rows = task_scores(task, x, nets)
        image_grid(np.concatenate([to_uint8(row[:12]).numpy() for row in rows]), 12).save(o.out/f"{task}.png")
        head = f"{o.steps} steps each, {len(x)} validation images, {cpu_name()}, one seed"
        write_atomic(o.out/"restoration.md", f"{head}\n\n{table(found)}\n")
        write_atomic(o.out/"restoration.json", json.dumps(found, indent=1) + "\n")
        print(table(found), flush=True)


if __name__ == "__main__": main()
