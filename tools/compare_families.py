"""Which GAN generates the better images in the same time? Each is trained alone, and all are measured by one
judge that none of them has met.

    python tools/compare_families.py --data fer2013.zip --minutes 40 [--only cgan wgan_gp ...]
    python tools/compare_families.py --data fer2013.zip --minutes 10 --table ablations --seeds 0 1 --no-cas
    python tools/compare_families.py --data digits --steps 600 --table gamma --no-cas
    python tools/compare_families.py --curves runs/fer32 [more runs of the same data]
    python tools/compare_families.py --data fer2013.zip --judge runs/fer32 [more runs of that data]

--steps gives all GANs the same number of steps in the place of minutes, for a machine whose speed changes.
--curves only draws what was measured during the training of finished runs; --judge only measures the newest
generators of finished runs, as the rows of a table are measured.

All rows are steps in one folder (--out): what two rows share (the judge, a warm-up) is computed once, what is
finished is not computed again, and what was stopped goes on. The table (families.json, families.md) and a
grid of images for each GAN are written into the folder, and the table is printed.

The tables: `families` against each other; `ablations`, cgan with one thing changed; `tuning`, how its batch
and rates were found; `gamma`, cgan with its own weight of R1 and R2, and with smaller and larger ones.
"""
import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from PIL import Image
from torch import nn

from fer_synth import figures, plots
from fer_synth.config import ClassifierConfig, RunConfig, WarmupConfig, check_config
from fer_synth.data.images import ImageSet
from fer_synth.evaluation.generators import Yardstick, classification_accuracy_score, stratified
from fer_synth.experiment.generators import fresh_images, newest_drawings
from fer_synth.experiment.plan import plan_run
from fer_synth.experiment.results import Run
from fer_synth.experiment.runs import execute, prepare
from fer_synth.experiment.work import WORK, Job, trained_classifier
from fer_synth.families.cgan import CGan, ProjectionCritic
from fer_synth.families.known import FAMILIES
from fer_synth.family_settings import FAMILY_SETTINGS, CganConfig, change_family
from fer_synth.losses import default_gamma
from fer_synth.recipes import (NEW_FAMILIES, RECIPES, cgan_drawn32, cgan_fer32, get_recipe, wgan_gp_drawn32,
                               wgan_gp_fer32)
from fer_synth.records import RunFolder, StepFolder
from fer_synth.runtime import cpu_name, derive, image_grid
from fer_synth.settings import result_fields
from fer_synth.steps import Plan, Step, Store, up_to
from fer_synth.training.classifier import with_prefix
from fer_synth.training.yardstick import load_yardstick
from fer_synth.words import measures_table

Rows = dict[str, RunConfig]
LAST = "without the average"    # an ablation that needs no training: the last weights of cgan itself


class DeepCritic(ProjectionCritic):
    "The critic of cgan with one more residual block, at its finest resolution."
    def __init__(self, n_classes: int = 5, width: int = 32, *more):
        super().__init__(n_classes, width, *more)
        layers = [layer for _ in range(2) for layer in (nn.LeakyReLU(.2), nn.Conv2d(width, width, 3, 1, 1))]
        self.fine = nn.Sequential(*layers)
        self.first.register_forward_hook(self.refine)
    def refine(self, module, given, out): return out + self.fine(out)


class Deep(CGan):
    @staticmethod
    def make_critic(cfg, n_classes, size, channels):
        return DeepCritic(n_classes, cfg.critic_width, size, channels)


FAMILIES["cgan_deep"], FAMILY_SETTINGS["cgan_deep"] = Deep, CganConfig


# ---- the rows of each table ------------------------------------------------------------------------

def with_gan(cfg: RunConfig, **changes) -> RunConfig:
    return replace(cfg, gan=replace(cfg.gan, **changes))


def without_warmup(cfg: RunConfig) -> RunConfig:
    return replace(cfg, warmup=replace(cfg.warmup, mode="none"))


def known_families(real_faces: bool) -> Rows:
    "The families, with FER2013's recipes or those of the drawn faces."
    wgan, cgan = (wgan_gp_fer32(), cgan_fer32()) if real_faces else (wgan_gp_drawn32(), cgan_drawn32())
    each = with_gan(wgan, per_class=True)
    each = replace(each, warmup=replace(wgan.warmup, steps=wgan.warmup.steps // 5))
    size = {name: getattr(wgan.gan, name) for name in ("z", "gen_width", "critic_width", "ema")}
    plain = replace(change_family(wgan.gan, "vanilla"), lr_gen=2e-4, lr_critic=2e-4, **size)
    vanilla = without_warmup(replace(wgan, gan=plain))
    rows = {"wgan_gp for each class": each, "wgan_gp": wgan, "cgan": cgan, "vanilla": vanilla}
    data = "fer32" if real_faces else "drawn32"
    return rows | {name: get_recipe(f"{name}_{data}") for name in NEW_FAMILIES if f"{name}_{data}" in RECIPES}


def write_digits(folder: Path) -> Path:
    "scikit-learn's handwritten digits, 8x8 pixels, as a folder of pictures."
    from sklearn.datasets import load_digits
    digits = load_digits()
    for i, (pixels, digit) in enumerate(zip(digits.images, digits.target)):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(folder / str(digit) / f"{i}.png")
    return folder


def for_digits(cfg: RunConfig) -> RunConfig:
    "Smaller images, a longer training of the judge, and no mirror: a mirrored digit is none."
    smaller = replace(cfg, data=replace(cfg.data, size=16), clf=replace(cfg.clf, epochs=20.0))
    return with_gan(smaller, mirror=False)


def families(data: str, out: Path) -> Rows:
    "The families on a data set: a path, 'drawn', or 'digits'."
    rows = known_families(real_faces=data not in ("drawn", "digits"))
    source = write_digits(out / "digits") if data == "digits" else data
    if data == "digits":    # which have no captions
        rows = {name: for_digits(cfg) for name, cfg in rows.items() if name != "caption"}
    return {name: replace(cfg, data=replace(cfg.data, source=str(source))) for name, cfg in rows.items()}


def as_it_began(base: RunConfig) -> RunConfig:
    "cgan with its first loss and critic: relativistic, no projected critic, no augmentation."
    return with_gan(base, loss="relativistic", projected=False, augment="none")


def ablations(base: RunConfig, images: ImageSet) -> Rows:
    "cgan, and what is left when one thing is taken from it or changed."
    return {
        "cgan": base,
        "without augmentation": with_gan(base, augment="none"),
        "with augmentation, fixed": with_gan(base, augment="fixed"),
        "without R2": with_gan(base, r2=False),
        LAST: base,
        "without warm-up": without_warmup(base),
        "relativistic": with_gan(base, loss="relativistic"),
        "without projected critic": with_gan(base, projected=False),
        "as it began": as_it_began(base),
        "non-saturating": with_gan(base, loss="nonsaturating"),
        "classes as they occur": with_gan(base, even=False),
        "without decay": with_gan(base, decay=0.0)}


def tuning(base: RunConfig, images: ImageSet) -> Rows:
    "Batch and rates, from cgan's first ones to its own, and what did not help."
    base = as_it_began(base)
    first, falling = with_gan(base, batch=64, lr_gen=1.5e-4, lr_critic=5e-4), with_gan(base, decay=1.0)
    return {
        "batch 64, rates 1.5e-4 and 5e-4": first,
        "the same without warm-up": without_warmup(first),
        "batch 64, rates 3e-4 and 1e-3": with_gan(base, batch=64),
        "batch 32, rates 3e-4 and 1e-3": base,
        "rates fall from the start": falling,
        "so, critic's rate 5e-4": with_gan(falling, lr_critic=5e-4),
        "so, beta1 0.5": with_gan(falling, beta1=0.5),
        "so, deeper critic": with_gan(falling, family="cgan_deep")}


def gammas(base: RunConfig, images: ImageSet) -> Rows:
    "cgan with its own gamma for these images, and with multiples of it."
    pixels, labels = images.part("train")
    own, rows = default_gamma(math.prod(pixels.shape[1:]), len(labels)), {}
    for times in (1, .3, .1, 10):
        name = f"gamma {own * times:.3g}" + " (default)" * (times == 1)
        rows[name] = with_gan(base, gamma=own * times)
    return rows


TABLES: dict[str, Callable[[RunConfig, ImageSet], Rows]] = {
    "ablations": ablations, "tuning": tuning, "gamma": gammas}


# ---- training and measuring ------------------------------------------------------------------------

def settled(cfg: RunConfig, o: argparse.Namespace, seed: int = 0) -> RunConfig:
    "A row's config with the budget and the seed of the command line, and one round."
    steps, minutes = (o.steps, 0.0) if o.steps else (cfg.gan.steps, o.minutes)
    every = 0 if cfg.gan.per_class else 250
    cfg = with_gan(cfg, steps=steps, minutes=minutes, measure_every=every)
    return check_config(replace(cfg, seed=seed, rounds=replace(cfg.rounds, count=1)))


def strong_judge(cfg: RunConfig, data: str) -> RunConfig:
    "The config of the judge of all GANs: a stronger classifier than the one that they trained with."
    epochs = {"drawn": 12.0, "digits": 60.0}.get(data, 8.0)
    clf = replace(cfg.clf, arch="small_resnet", epochs=epochs, mirror=data != "digits", shift=2,
                  one_cycle=True, dropout=.2)
    return replace(cfg, recipe="yardstick", warmup=WarmupConfig(), clf=clf)


def of_cas(clf: ClassifierConfig) -> ClassifierConfig:
    "CAS trains the original's small classifier, for ten epochs."
    return replace(clf, arch="simple_cnn", epochs=10.0, one_cycle=False, dropout=0.0)


def generated(job: Job, n: int, what: str, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
    "About `n` new images of a job's GANs and their classes; `last`: of the last weights, not the average."
    drawings = newest_drawings(job.cfg, job.plan, job.store, job.device, job.sources)
    for drawing in drawings if last else []:
        gan = job.plan.of("gan", member=drawing.member.suffix)[-1]
        drawing.sampler.gen.load_state_dict(with_prefix("gen/", job.store.folder(gan).load()[0]))
    return fresh_images(drawings, job.real.counts, n, job.cfg.seed, what)


def images_seen(job: Job) -> int:
    "Real images that the critics of a job have been shown."
    logs = [job.store.folder(gan).lines() for gan in job.plan.of("gan")]
    return sum(log[-1]["step"] for log in logs if log) * job.cfg.gan.batch * job.cfg.gan.critic_steps


def measured(job: Job, yard: Yardstick, cas: ClassifierConfig | None, last: bool = False) -> dict:
    "All measures of a job's GANs; CAS where its classifier is given."
    found = yard.full(*generated(job, yard.n, "measure", last))
    if cas:
        drawn = generated(job, len(job.real), "cas", last)
        found["cas"] = classification_accuracy_score(cas, *drawn, job.images, device=job.device)
    del found["worst"]
    return {**found, "critic_images": images_seen(job)}


def grid(job: Job, path: Path, last: bool = False, each: int = 12) -> None:
    "Images of every class, a row each, as they come."
    images, labels = generated(job, 100 * len(job.classes), "grid", last)
    rows = [images[labels == c][:each] for c in range(len(job.classes))]
    image_grid(np.concatenate(rows), each).save(path)


class Study:
    "All rows in one folder, and the judge that measures them."
    def __init__(self, o: argparse.Namespace):
        self.rows = families(o.data, o.out)
        self.base = settled(self.rows["cgan"], o)
        self.images, self.device = prepare(self.base)
        self.store = Store(RunFolder(o.out), show=True)
        if o.table in TABLES: self.rows = TABLES[o.table](self.base, self.images)
        strong = strong_judge(self.base, o.data)
        self.cas = None if o.no_cas else of_cas(strong.clf)
        judge = plan_run(strong, self.images)["judge-0"]
        self.judge = replace(judge, name="yardstick", title="judge of all rows")
        judging = self.job(strong, self.judge)
        execute(judging)
        clf = trained_classifier(self.store.folder(self.judge), strong.clf, judging.real, self.device)
        self.yard = Yardstick(clf, self.images, device=self.device)
        WORK["quality"] = self.work_quality

    def job(self, cfg: RunConfig, *steps: Step) -> Job:
        return Job(cfg, up_to(*steps), self.store, self.images, self.device)

    def quality(self, plan: Plan, last: bool) -> Step:
        "The step that measures the GANs of a plan."
        cas = result_fields(self.cas) if self.cas else None
        settings = {"images": self.yard.n, "cas": cas, "last": last}
        inputs = (plan["data"], self.judge, *plan.of("gan"))
        return Step("quality", "quality", settings, inputs, title="measures of the generator")

    def work_quality(self, job: Job, step: Step, folder: StepFolder) -> None:
        folder.write_json("quality.json", measured(job, self.yard, self.cas, step.settings["last"]))

    def row(self, cfg: RunConfig, last: bool = False) -> tuple[Job, dict]:
        "Train and measure a row, or go on with it: its job, and what was measured."
        step = self.quality(plan_run(cfg, self.images), last)
        job = self.job(cfg, step)
        execute(job)
        return job, self.store.folder(step).read_json("quality.json")


def opened(path: Path) -> Job:
    "The job of a run folder."
    run = Run.open(path)
    images, device = prepare(run.cfg)
    return Job(run.cfg, run.plan, run.store, images, device)


# ---- what was measured, as a table and as curves ---------------------------------------------------

def row_of(key: str) -> str:
    "The name of a row without its seed."
    return key.rpartition(", seed ")[0] or key


def joined(entries: list[dict]) -> dict:
    "One measure of several seeds: mean and range."
    values, real = [entry["value"] for entry in entries], entries[0]["real"]
    return {"value": float(np.mean(values)), "low": min(values), "high": max(values), "real": real}


def over_seeds(found: dict[str, dict], seeds: list[int]) -> str:
    "A second table, where there is more than one seed: the mean over the seeds, and half their range."
    if len(seeds) == 1: return ""
    rows, means = {}, {}
    for key, result in found.items(): rows.setdefault(row_of(key), []).append(result["measures"])
    for name, results in rows.items():
        if len(results) < len(seeds): continue
        means[name] = {"measures": {m: joined([result[m] for result in results]) for m in results[0]}}
    return "\n\nMeans over the seeds, with half their range:\n\n" + measures_table(means) if means else ""


def steps_and_images(key: str, job: Job) -> str:
    seen, gan = images_seen(job), job.cfg.gan
    steps = seen // (gan.batch * gan.critic_steps)
    return f"{key}: {steps:,} generator steps, {seen / 1e6:.2f} million real images through the critic"


def measured_in_training(job: Job) -> list[dict]:
    "The lines of the log with measures, and the real images seen by then as \"seen\", over all rounds."
    gan, found, before = job.cfg.gan, [], 0
    for step in job.plan.of("gan"):
        log = job.store.folder(step).lines()
        for line in log:
            seen = (before + line["step"]) * gan.batch * gan.critic_steps
            if "frechet" in line: found.append(line | {"seen": seen})
        if log: before += log[-1]["step"]
    return found


def quick_real_reference(job: Job) -> dict[str, float]:
    "What training images score in the measures of a training, by the yardstick."
    clf = load_yardstick(job.store.folder(job.plan["yardstick"]), job.images, job.device)
    yard = Yardstick(clf, job.images, derive(job.cfg.seed, "yardstick"), job.device)
    share = min(1, job.cfg.gan.measure_images / len(job.real))
    rows = stratified(job.real.labels, np.round(job.real.counts * share).astype(int), 0)
    some = job.real.pick(rows)
    return yard.quick(some.images, some.labels)


COLOURS, STYLES = (figures.BLUE, figures.RED, figures.GREEN, figures.ORANGE), ("-", "--", ":")
CURVES = {
    "frechet": "Frechet distance", "yardstick_agreement": "Yardstick agreement",
    "diversity": "Diversity, real = 1",
    "precision": "Precision", "recall": "Recall", "coverage": "Coverage"}


def draw_log(ax, lines: list[dict], key: str, number: int, label: str | None) -> None:
    "One measure of one training, with a dashed line where a round ends."
    colour, style = COLOURS[number % 4], STYLES[number // 4 % 3]
    seen, values = [line["seen"] / 1e6 for line in lines], [line[key] for line in lines]
    ax.plot(seen, values, style, color=colour, lw=1.3, label=label)
    for x, (a, b) in zip(seen, pairwise(lines)):
        if a["stage"] != b["stage"]: ax.axvline(x, color=colour, lw=.7, ls=(0, (4, 3)), alpha=.6)


@mpl.rc_context(figures.STYLE)
def curves(jobs: dict[str, Job], path: Path) -> None:
    "What was measured during training, by the yardstick, against the real images that the critic has seen."
    logs = {key: measured_in_training(job) for key, job in jobs.items()}
    logs = {key: lines for key, lines in logs.items() if lines}
    if not logs: return
    real = quick_real_reference(jobs[next(iter(logs))])
    names = list(dict.fromkeys(map(row_of, logs)))      # the seeds of a row look alike
    fig, axes = plots.panels(len(CURVES), figures.WIDE, 2.8, 2.1, 3)
    for ax, (measure, title) in zip(axes, CURVES.items()):
        labels = set(names)                             # one entry in the legend for each row
        for key, lines in logs.items():
            name = row_of(key)
            draw_log(ax, lines, measure, names.index(name), name if name in labels else None)
            labels.discard(name)
        ax.axhline(real[measure], color=figures.GREY, lw=1, ls=(0, (1, 1)), label="training images")
        ax.set_title(title)
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    for ax in axes[3:]: ax.set_xlabel("million real images seen")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    fig.savefig(path)


# ---- the command -----------------------------------------------------------------------------------

def options(args: list[str] | None = None) -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", default="drawn", help="as for fer-synth run, or 'digits' (drawn faces)")
    ap.add_argument("--minutes", type=float, default=40.0, help="time of each GAN, warm-up included")
    ap.add_argument("--steps", type=int, help="generator steps of each GAN, in the place of minutes")
    ap.add_argument("--seeds", type=int, nargs="+", default=[0])
    ap.add_argument("--only", nargs="+", help="some of the rows")
    ap.add_argument("--table", choices=("families", *TABLES), default="families")
    ap.add_argument("--no-cas", action="store_true", help="train no classifiers on generated images")
    ap.add_argument("--out", type=Path, default=Path("runs/families"))
    ap.add_argument("--pictures", type=Path, help="folder for grids and curves (default: --out)")
    ap.add_argument("--curves", type=Path, nargs="+", help="run folders; only draw their curves")
    ap.add_argument("--judge", type=Path, nargs="+", help="run folders; only measure their generators")
    o = ap.parse_args(args)
    o.pictures = o.pictures or (o.curves[0] / "figures" if o.curves else o.out)
    for folder in (o.out, o.pictures): folder.mkdir(parents=True, exist_ok=True)
    return o


def compare(study: Study, o: argparse.Namespace) -> None:
    "Train and measure all rows; the table is written and printed after each."
    unknown = set(o.only or ()) - set(study.rows)
    if unknown: raise SystemExit(f"There is no row '{unknown.pop()}'; the rows are: {', '.join(study.rows)}.")
    jobs, found = {}, {}
    for seed in o.seeds:
        for name in o.only or study.rows:
            key = f"{name}, seed {seed}" if len(o.seeds) > 1 else name
            jobs[key], found[key] = study.row(settled(study.rows[name], o, seed), last=name == LAST)
            file_name = "".join(c for c in key.replace(" ", "-") if c.isalnum() or c in "-_.")
            grid(jobs[key], o.pictures / f"{o.table}-{file_name}.png", last=name == LAST)
            write_table(found, jobs, o)
            trained = {k: job for k, job in jobs.items() if row_of(k) != LAST}
            curves(trained, o.pictures / f"{o.table}-curves.png")


def write_table(found: dict[str, dict], jobs: dict[str, Job], o: argparse.Namespace) -> None:
    budget = f"{o.steps} steps" if o.steps else f"{o.minutes:g} minutes"
    details = "\n".join(steps_and_images(key, job) for key, job in jobs.items())
    text = f"{measures_table(found)}{over_seeds(found, o.seeds)}\n\n{details}"
    (o.out / f"{o.table}.json").write_text(json.dumps(found, indent=1) + "\n")
    head = f"{budget} each, {cpu_name()}, seeds {o.seeds}"
    (o.out / f"{o.table}.md").write_text(f"{head}\n\n```\n{text}\n```\n")
    print(text, flush=True)


def main() -> None:
    o = options()
    if o.curves: return curves({path.name: opened(path) for path in o.curves}, o.pictures / "curves.png")
    study = Study(o)
    if not o.judge: return compare(study, o)
    jobs = {path.name: opened(path) for path in o.judge}
    for name, job in jobs.items(): grid(job, o.pictures / f"images-{name}.png")
    print(measures_table({name: measured(job, study.yard, study.cas) for name, job in jobs.items()}))


if __name__ == "__main__": main()
