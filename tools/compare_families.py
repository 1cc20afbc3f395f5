"""Which GAN makes the better faces in the same time? One at a time, each for so many minutes, measured by one judge that none of them has met.

    python tools/compare_families.py --data fer2013.zip --minutes 40 [--only cgan wgan_gp ...] [--out runs/families]
    python tools/compare_families.py --data fer2013.zip --minutes 10 --table ablations --seeds 0 1 --no-cas
    python tools/compare_families.py --data digits --steps 600 --table gamma --no-cas      # equal steps instead, where the machine's speed changes
    python tools/compare_families.py --curves runs/fer32 [more runs of the same data]      # only draws what was measured on the way
    python tools/compare_families.py --data fer2013.zip --judge runs/fer32 [more]          # only measures finished runs of that data, by the same judge

What is finished is not trained again, and what was stopped goes on, so that the hours may be spread over several sittings. Writes
the table (`families.json`, `families.md`) and a grid of faces for each GAN into the folder, and prints the table.

The tables: `families` against each other; `ablations`, the workhorse with one thing changed; `tuning`, how its batch and rates were found;
`gamma`, the workhorse with that weight of R1 and R2 which it takes by itself, and with smaller and larger ones.
"""
import argparse
import json
import math
import shutil
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from torch import nn

from fer_synth import plots
from fer_synth.config import GanConfig, RunConfig, WarmupConfig, to_dict
from fer_synth.evaluation.generators import Yardstick, classification_accuracy_score, measures_table, stratified
from fer_synth.families.cgan import CGan, ProjectionCritic
from fer_synth.families.known import FAMILIES
from fer_synth.losses import default_gamma
from fer_synth.recipes import cgan_drawn32, cgan_fer32, wgan_gp_drawn32, wgan_gp_fer32
from fer_synth.runtime import RunFolder, Stats, cpu_name, derive, image_grid, load_tensors, save_tensors


class DeepCritic(ProjectionCritic):
    "The critic of cgan with one more residual block, at its finest resolution."
    def __init__(self, n_classes: int = 5, width: int = 32, *more):
        super().__init__(n_classes, width, *more)
        self.fine = nn.Sequential(nn.LeakyReLU(.2), nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(.2), nn.Conv2d(width, width, 3, 1, 1))
        self.first.register_forward_hook(lambda _, __, out: out + self.fine(out))


class Deep(CGan):
    @staticmethod
    def make_critic(cfg, n_classes, size, channels): return DeepCritic(n_classes, cfg.critic_width, size, channels)


FAMILIES |= {"cgan_deep": Deep}
LAST = "without the average"        # an ablation that needs no training: the last weights of cgan's own


def plain(name: str) -> str:
    "A name as a file may have it."
    return "".join(c for c in name.replace(" ", "-") if c.isalnum() or c in "-_.")


def entries(fer: bool) -> dict[str, RunConfig]:
    "The GANs that are compared."
    wgan, cgan = (wgan_gp_fer32(), cgan_fer32()) if fer else (wgan_gp_drawn32(), cgan_drawn32())
    dcgan = replace(wgan, gan=replace(wgan.gan, family="vanilla", critic_steps=1, critic_first=0, lr_gen=2e-4, lr_critic=2e-4, penalty_every=4),
                    warmup=replace(wgan.warmup, mode="none"))
    each = replace(wgan, gan=replace(wgan.gan, per_class=True), warmup=replace(wgan.warmup, steps=wgan.warmup.steps // 5))
    return {"wgan_gp for each class": each, "wgan_gp": wgan, "cgan": cgan, "vanilla": dcgan}


def ablations(base: RunConfig) -> dict[str, RunConfig]:
    "cgan, and what is left when one thing is taken from it or changed."
    change = lambda **gan: replace(base, gan=replace(base.gan, **gan))
    return {"cgan": base, "without augmentation": change(augment="none"), "with augmentation, fixed": change(augment="fixed"),
            "without R2": change(r2=False), LAST: base, "without warm-up": replace(base, warmup=replace(base.warmup, mode="none")),
            "relativistic": change(loss="relativistic"), "without the judge's maps": change(projected=False), "as it began": as_it_began(base),
            "non-saturating": change(loss="nonsaturating"), "classes as they occur": change(even=False), "without decay": change(decay=0.0)}


def as_it_began(base: RunConfig) -> RunConfig:
    "cgan with the loss and the critic that it had first: relativistic, no view of the judge's maps, no augmentation."
    return replace(base, gan=replace(base.gan, loss="relativistic", projected=False, augment="none"))


def tuning(base: RunConfig) -> dict[str, RunConfig]:
    "Batch and rates, from where cgan began to where it is, and what did not help; with the loss and the critic that it had then."
    base = as_it_began(base)
    change = lambda **gan: replace(base, gan=replace(base.gan, **gan))
    first = change(batch=64, lr_gen=1.5e-4, lr_critic=5e-4)
    return {"batch 64, rates 1.5e-4 and 5e-4": first, "the same without warm-up": replace(first, warmup=replace(base.warmup, mode="none")),
            "batch 64, rates 3e-4 and 1e-3": change(batch=64), "batch 32, rates 3e-4 and 1e-3": base, "rates fall from the start": change(decay=1.0),
            "so, critic's rate 5e-4": change(decay=1.0, lr_critic=5e-4), "so, beta1 0.5": change(decay=1.0, beta1=0.5),
            "so, deeper critic": change(decay=1.0, family="cgan_deep")}


def gammas(cfg: RunConfig) -> dict[str, RunConfig]:
    "cgan with its own gamma for these images, and with multiples of it."
    images, labels = experiment.prepare(cfg)[0].part("train")
    own = default_gamma(math.prod(images.shape[1:]), len(labels))
    name = lambda times: f"gamma {own * times:.3g}" + " (default)" * (times == 1)
    return {name(times): replace(cfg, gan=replace(cfg.gan, gamma=own * times)) for times in (1, .3, .1, 10)}


def base(data: str, out: Path) -> dict[str, RunConfig]:
    "The families on this data set: FER2013's recipes for any path, those of drawn faces for 'drawn' and for 'digits' (scikit-learn's)."
    if data in ("drawn", "digits"): rows = entries(False)
    else: rows = entries(True)
    source = write_digits(out/"digits") if data == "digits" else data
    if data == "digits":        # a mirrored digit is none
        rows = {n: replace(c, data=replace(c.data, size=16), clf=replace(c.clf, epochs=20.0), gan=replace(c.gan, mirror=False)) for n, c in rows.items()}
    return {name: replace(cfg, data=replace(cfg.data, source=str(source))) for name, cfg in rows.items()}


def write_digits(folder: Path) -> Path:
    "scikit-learn's handwritten digits, 8x8 pixels, as a folder of pictures."
    from PIL import Image
    from sklearn.datasets import load_digits
    digits = load_digits()
    for i, (pixels, digit) in enumerate(zip(digits.images, digits.target)):
        (folder/str(digit)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(folder/str(digit)/f"{i}.png")
    return folder


def opened(path: Path) -> experiment.Job:
    "The job of a run folder that is there."
    folder, cfg = RunFolder.open(path)
    faces, device = experiment.prepare(cfg)
    return experiment.Job(cfg, folder, Stats(folder), faces, device)


def train(cfg: RunConfig, out: Path, judges: Path) -> experiment.Job:
    "Begin or go on: judge for the warm-up (one for all GANs of a seed), warm-up, GAN; no selection and no classifiers."
    job = opened(out) if (out/"config.json").exists() else experiment.begin(cfg, out, True)
    cfg = job.cfg
    known, mine = judges/f"judge-{cfg.seed}.safetensors", job.run.checkpoint("judge-0")
    if known.exists() and not mine.exists():
        tensors, notes = load_tensors(known)
        save_tensors(mine, tensors, **{**notes, "config": to_dict(cfg)})
    judge = experiment.train_judge(job, 0)
    if not known.exists(): shutil.copy(mine, known)
    for member in experiment.members(cfg, job.classes): experiment.train_member(job, member, judge, 1, None)
    return job


def images_of(job: experiment.Job, n: int, what: str, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
    "Fresh faces of a run's generators, `n` in all, the classes as often as among the real ones; with `last`, of their last weights and not of the average."
    gans = experiment.members(job.cfg, job.classes)
    for member in gans:
        number = experiment.load_member(job.run, job.cfg, member, job.device)
        if not last: continue
        tensors, _ = experiment.load_stage(job.run, f"gan-{number}{member.suffix}", job.cfg)
        member.gen.load_state_dict({k.removeprefix("gen/"): v for k, v in tensors.items() if k.startswith("gen/")})
    return experiment.fresh_images(job, gans, n, what)


def measure(job: experiment.Job, yard: Yardstick, cas: RunConfig | None, last: bool = False) -> dict:
    "All measures of one run's generator, CAS where its config is given."
    found = yard.full(*images_of(job, yard.n, "measure", last))
    if cas: found["cas"] = classification_accuracy_score(cas, *images_of(job, len(job.real[1]), "cas", last), job.faces, device=job.device)
    last = {l["stage"]: l["step"] for l in job.stats.read() if l["stage"].startswith("gan-")}      # of each GAN
    found["critic_images"] = sum(last.values()) * job.cfg.gan.batch * job.cfg.gan.critic_steps
    return {k: v for k, v in found.items() if k != "worst"}


def grid(job: experiment.Job, path: Path, last: bool = False, each: int = 12) -> None:
    "Faces of every class, a row each, as they come."
    images, labels = images_of(job, 100 * len(job.classes), "grid", last)
    image_grid(np.concatenate([images[labels == c][:each] for c in range(len(job.classes))]), each).save(path)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--data", default="drawn", help="a data set as for fer-synth run, or 'digits'; drawn faces when left out")
    ap.add_argument("--minutes", type=float, default=40.0, help="time of each GAN, warm-up included")
    ap.add_argument("--steps", type=int, help="generator steps of each GAN instead of minutes: for rows whose steps cost the same, on a machine with other work")
    ap.add_argument("--seeds", type=int, nargs="+", default=[0])
    ap.add_argument("--only", nargs="+", help="some of the rows")
    ap.add_argument("--table", choices=("families", "ablations", "tuning", "gamma"), default="families")
    ap.add_argument("--no-cas", action="store_true", help="leave out the classifiers that are trained on generated faces")
    ap.add_argument("--out", type=Path, default=Path("runs/families"))
    ap.add_argument("--pictures", type=Path, help="folder for the grids and curves; that of --out when left out")
    ap.add_argument("--curves", type=Path, nargs="+", help="run folders; draw their measures against the images seen (curves.png), and train nothing")
    ap.add_argument("--judge", type=Path, nargs="+", help="run folders; measure their last generators as the rows of a table are measured, and train nothing else")
    o = ap.parse_args()
    o.pictures = o.pictures or (o.curves[0]/"figures" if o.curves else o.out)
    o.pictures.mkdir(parents=True, exist_ok=True)
    if o.curves: return curves({path.name: opened(path) for path in o.curves}, o.pictures/"curves.png")
    o.out.mkdir(parents=True, exist_ok=True)
    families, found, jobs, steps, yard = base(o.data, o.out), {}, {}, {}, None
    budget = f"{o.steps} steps" if o.steps else f"{o.minutes:g} minutes"
    settle = lambda cfg, seed=0: replace(cfg, seed=seed, rounds=replace(cfg.rounds, count=1), gan=replace(
        cfg.gan, steps=o.steps or cfg.gan.steps, minutes=0.0 if o.steps else o.minutes, measure_every=0 if cfg.gan.per_class else 250))
    own = settle(families["cgan"])
    rows = {"families": lambda _: families, "ablations": ablations, "tuning": tuning, "gamma": gammas}[o.table](own)
    unknown = set(o.only or ()) - set(rows)
    if unknown: raise SystemExit(f"There is no row '{unknown.pop()}'; the rows are: {', '.join(rows)}.")
    strong = strong_judge(own, o.data)
    if o.judge: return print(measures_table(judged({path.name: opened(path) for path in o.judge}, strong, o)))
    for seed in o.seeds:
        for name in o.only or rows:
            key = f"{name}, seed {seed}" if len(o.seeds) > 1 else name
            last, record = name == LAST, "measures-last.json" if name == LAST else "measures.json"
            job = train(settle(rows[name], seed), o.out/f"{plain('cgan' if last else name)}-{seed}-{budget.replace(' minutes', 'min').replace(' ', '-')}", o.out)
            if not last: jobs[key] = job
            yard = yard or make_yard(strong, job, o.out/"yardstick")
            if not (job.run/record).exists():
                job.run.json(record, measure(job, yard, None if o.no_cas else strong_cas(strong), last))
            found[key] = job.run.read(record)
            grid(job, o.pictures/f"{o.table}-{plain(key)}.png", last)
            steps[key] = found[key]["critic_images"] // (job.cfg.gan.batch * job.cfg.gan.critic_steps)
            text = measures_table(found) + over_seeds(found, o.seeds) + "\n\n" + "\n".join(
                f"{k}: {n:,} generator steps, {found[k]['critic_images'] / 1e6:.2f} million real images through the critic" for k, n in steps.items())
            (o.out/f"{o.table}.json").write_text(json.dumps(found, indent=1) + "\n")
            (o.out/f"{o.table}.md").write_text(f"{budget} each, {cpu_name()}, seeds {o.seeds}\n\n```\n{text}\n```\n")
            print(text, flush=True)
            curves(jobs, o.pictures/f"{o.table}-curves.png")


def over_seeds(found: dict[str, dict], seeds: list[int]) -> str:
    "A second table, where there is more than one seed: the mean over the seeds, and half their range."
    if len(seeds) == 1: return ""
    rows = {}
    for key, r in found.items(): rows.setdefault(key.rpartition(", seed ")[0], []).append(r["measures"])
    def joined(entries):
        values, real = [e["value"] for e in entries], [e["real"] for e in entries]
        return {"value": float(np.mean(values)), "low": min(values), "high": max(values), "real": real[0]}
    means = {name: {"measures": {m: joined([r[m] for r in runs]) for m in runs[0]}} for name, runs in rows.items() if len(runs) == len(seeds)}
    return "\n\nMeans over the seeds, with half their range:\n\n" + measures_table(means) if means else ""


def on_the_way(job: experiment.Job) -> list[dict]:
    "The lines of the log with measures, and the real images seen by then as \"seen\", over all rounds."
    found, before = [], {}
    for line in job.stats.read():
        if "frechet" not in line: continue
        steps = line["step"] + sum(n for stage, n in before.items() if stage != line["stage"])
        found.append(line | {"seen": steps * job.cfg.gan.batch * job.cfg.gan.critic_steps})
        before[line["stage"]] = line["step"]
    return found


@lru_cache
def quick_real_reference(path: Path) -> dict[str, float]:
    "What training faces score in the measures on the way, by the judge of a run's warm-up."
    job = opened(path)
    yard = Yardstick(experiment.train_judge(job, 0), job.faces, derive(job.cfg.seed, "yardstick"), job.device)
    share = job.cfg.gan.measure_images / len(job.real[1])
    rows = stratified(job.real[1], np.round(np.bincount(job.real[1]) * min(1, share)).astype(int), 0)
    return yard.quick(job.real[0][rows], job.real[1][rows])


@mpl.rc_context(plots.STYLE)
def curves(jobs: dict[str, experiment.Job], path: Path) -> None:
    "What was measured on the way, in the features of the judge of the warm-up, against the real images that the critic has seen; a dashed line where a round ends."
    logs = {name: on_the_way(job) for name, job in jobs.items()}
    logs = {name: lines for name, lines in logs.items() if lines}
    if not logs: return
    real = quick_real_reference(jobs[next(iter(logs))].run.path)
    rows, looks = list(dict.fromkeys(name.rpartition(", seed ")[0] or name for name in logs)), {}
    for name in logs:                # the seeds of a row look alike and have one line in the legend
        row = name.rpartition(", seed ")[0] or name
        i = rows.index(row)
        first = row not in (label for _, _, label in looks.values())
        looks[name] = (plots.BLUE, plots.RED, plots.GREEN, plots.ORANGE)[i % 4], ("-", "--", ":")[i // 4 % 3], row if first else None
    fig, axes = plots.panels(6, plots.WIDE, 2.8, 2.1, 3)
    for ax, (key, title) in zip(axes, {"frechet": "Frechet distance", "judge_agreement": "Judge agrees", "diversity": "Diversity, real = 1",
                                       "precision": "Precision", "recall": "Recall", "coverage": "Coverage"}.items()):
        for name, lines in logs.items():
            colour, style, label = looks[name]
            ax.plot([l["seen"] / 1e6 for l in lines], [l[key] for l in lines], style, color=colour, lw=1.3, label=label)
            for a, b in pairwise(lines):            # where a round ends
                if a["stage"] != b["stage"]: ax.axvline(a["seen"] / 1e6, color=colour, lw=.7, ls=(0, (4, 3)), alpha=.6)
        ax.axhline(real[key], color=plots.GREY, lw=1, ls=(0, (1, 1)), label="training faces")
        ax.set_title(title)
        if key == "frechet":
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in axes[3:]: ax.set_xlabel("million real images seen")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    fig.savefig(path)


def judged(jobs: dict[str, experiment.Job], strong: RunConfig, o: argparse.Namespace) -> dict[str, dict]:
    "The measures of the last generators of runs of the same data, and a grid of the faces of each among the pictures."
    yard = make_yard(strong, next(iter(jobs.values())), o.out/"yardstick")
    for name, job in jobs.items(): grid(job, o.pictures/f"faces-{plain(name)}.png")
    return {name: measure(job, yard, None if o.no_cas else strong_cas(strong)) for name, job in jobs.items()}


def strong_judge(cfg: RunConfig, data: str) -> RunConfig:
    "The config of what all GANs are measured by."
    clf = replace(cfg.clf, arch="small_resnet", epochs={"drawn": 12.0, "digits": 60.0}.get(data, 8.0), mirror=data != "digits", shift=2, one_cycle=True, dropout=.2)
    return replace(cfg, recipe="yardstick", gan=GanConfig(), warmup=WarmupConfig(), clf=clf)


def make_yard(cfg: RunConfig, job: experiment.Job, path: Path) -> Yardstick:
    "What all GANs are measured by: a stronger classifier than that of the warm-up, trained once."
    judging = experiment.Job(cfg, RunFolder.open(path)[0] if path.exists() else RunFolder.create(path, cfg, {}), None, job.faces, job.device)
    judging.stats = Stats(judging.run)
    return Yardstick(experiment.train_judge(judging, 0), job.faces, device=job.device)


def strong_cas(cfg: RunConfig) -> RunConfig:
    "CAS trains the original's small classifier, for ten passes."
    return replace(cfg, clf=replace(cfg.clf, arch="simple_cnn", epochs=10.0, one_cycle=False, dropout=0.0))


if __name__ == "__main__": main()
