"""Which GAN makes the better faces in the same time? One at a time, each for so many minutes, measured by one judge that none of them has met.

    python benchmarks/families.py --data fer2013.zip --minutes 40 [--only cgan wgan_gp ...] [--out runs/families]
    python benchmarks/families.py --data fer2013.zip --minutes 10 --ablations --seeds 0 1

What is finished is not trained again, and what was stopped goes on, so that the hours may be spread over several sittings. Writes
`families.json`, `families.md` and a grid of faces for each GAN into the folder, and prints the table.
"""
import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_synth import experiment
from fer_synth.config import RunConfig
from fer_synth.evaluation.generators import Yardstick, classification_accuracy_score, measures_table
from fer_synth.recipes import cgan_drawn32, cgan_fer32, wgan_gp_drawn32, wgan_gp_fer32
from fer_synth.runtime import RunFolder, Stats, cpu_name, image_grid


def entries(fer: bool) -> dict[str, RunConfig]:
    "The GANs that are compared."
    wgan, cgan = (wgan_gp_fer32(), cgan_fer32()) if fer else (wgan_gp_drawn32(), cgan_drawn32())
    plain = replace(wgan, gan=replace(wgan.gan, family="vanilla", critic_steps=1, critic_first=0, lr_gen=2e-4, lr_critic=2e-4, penalty_every=4),
                    warmup=replace(wgan.warmup, mode="none"))
    each = replace(wgan, gan=replace(wgan.gan, per_class=True), warmup=replace(wgan.warmup, steps=wgan.warmup.steps // 5))
    return {"wgan_gp for each class": each, "wgan_gp": wgan, "cgan": cgan, "vanilla": plain}


def ablations(fer: bool) -> dict[str, RunConfig]:
    "cgan, and what is left when one thing is taken from it or changed."
    base = entries(fer)["cgan"]
    change = lambda **gan: replace(base, gan=replace(base.gan, **gan))
    return {"cgan": base, "with augmentation, adaptive": change(augment="adaptive"), "with augmentation, fixed": change(augment="fixed"),
            "without R2": change(r2=False), "without the average": change(ema=0.0), "without warm-up": replace(base, warmup=replace(base.warmup, mode="none")),
            "hinge": change(loss="hinge"), "non-saturating": change(loss="nonsaturating"), "classes as they occur": change(even=False),
            "without decay": change(decay=0.0)}


def train(cfg: RunConfig, out: Path) -> experiment.Job:
    "Begin or go on: judge for the warm-up, warm-up, GAN; no selection and no classifiers."
    if (out/"config.json").exists():
        folder, cfg = RunFolder.open(out)
        faces, device = experiment.prepare(cfg)
        job = experiment.Job(cfg, folder, Stats(folder), faces, device)
    else: job = experiment.begin(cfg, out, True)
    judge = experiment.train_judge(job, 0)
    for member in experiment.members(cfg, job.classes): experiment.train_member(job, member, judge, 1, None)
    return job


def faces_of(job: experiment.Job, n: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    "Fresh faces of a run's generators, `n` in all, the classes as often as among the real ones."
    gans = experiment.members(job.cfg, job.classes)
    for member in gans: experiment.load_member(job.run, job.cfg, member, job.device)
    return experiment.fresh_faces(job, gans, n, what)


def measure(name: str, job: experiment.Job, yard: Yardstick, clf: RunConfig, out: Path) -> dict:
    "All measures of one run's generator, CAS included, and its grid."
    images, labels = faces_of(job, yard.n, "measure")
    found = yard.full(images, labels)
    found["cas"] = classification_accuracy_score(clf, *faces_of(job, len(job.real[1]), "cas"), job.faces, device=job.device)
    found["critic_images"] = sum(l["step"] for l in last_lines(job)) * job.cfg.gan.batch * job.cfg.gan.critic_steps
    grid = np.concatenate([images[labels == c][:12] for c in range(len(job.classes))])
    image_grid(grid, 12).save(out/f"{name.replace(' ', '-').replace(',', '')}.png")
    return {k: v for k, v in found.items() if k != "worst"}


def last_lines(job: experiment.Job) -> list[dict]:
    "The last line of each GAN's log."
    return list({l["stage"]: l for l in job.stats.read() if l["stage"].startswith("gan-")}.values())


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--data", default="drawn", help="a data set as for fer-synth run; drawn faces when left out")
    ap.add_argument("--minutes", type=float, default=40.0, help="time of each GAN, warm-up included")
    ap.add_argument("--seeds", type=int, nargs="+", default=[0])
    ap.add_argument("--only", nargs="+", help="some of the rows")
    ap.add_argument("--ablations", action="store_true", help="cgan with one thing changed at a time")
    ap.add_argument("--out", type=Path, default=Path("runs/families"))
    o = ap.parse_args()
    fer, found = o.data != "drawn", {}
    rows = (ablations if o.ablations else entries)(fer)
    unknown = set(o.only or ()) - set(rows)
    if unknown: raise SystemExit(f"There is no row '{unknown.pop()}'; the rows are: {', '.join(rows)}.")
    o.out.mkdir(parents=True, exist_ok=True)
    settle = lambda cfg, seed: replace(cfg, seed=seed, data=replace(cfg.data, source=o.data), rounds=replace(cfg.rounds, count=1),
                                       gan=replace(cfg.gan, minutes=o.minutes, measure_every=0 if cfg.gan.per_class else 250))
    first = settle(next(iter(rows.values())), 0)
    strong = replace(first, recipe="yardstick", clf=replace(first.clf, arch="small_resnet", epochs=8.0 if fer else 6.0, mirror=True, shift=2, one_cycle=True, dropout=.2),
                     compare=replace(first.compare, arms=("real",)))
    yard = None
    for seed in o.seeds:
        for name in o.only or rows:
            job = train(settle(rows[name], seed), o.out/f"{name.replace(' ', '-').replace(',', '')}-{seed}-{o.minutes:g}min")
            if yard is None:
                path = o.out/"yardstick"
                judging = experiment.Job(strong, RunFolder.open(path)[0] if path.exists() else RunFolder.create(path, strong, {}), None, job.faces, job.device)
                judging.stats = Stats(judging.run)
                yard = Yardstick(experiment.train_judge(judging, 0), job.faces, device=job.device)
            key = f"{name}, seed {seed}" if len(o.seeds) > 1 else name
            done = job.run/"measures.json"
            if not done.exists(): job.run.json("measures.json", measure(name, job, yard, strong_cas(strong), o.out))
            found[key] = job.run.read("measures.json")
            found[key]["millions"] = found[key]["critic_images"] / 1e6
            text = measures_table(found) + "\n\nreal images through the critic, millions: " + ", ".join(f"{k} {v['millions']:.2f}" for k, v in found.items())
            (o.out/"families.json").write_text(json.dumps(found, indent=1) + "\n")
            (o.out/"families.md").write_text(f"{o.minutes:g} minutes each, {cpu_name()}, seeds {o.seeds}\n\n```\n{text}\n```\n")
            print(text, flush=True)


def strong_cas(cfg: RunConfig) -> RunConfig:
    "CAS trains the original's small classifier, for ten passes."
    return replace(cfg, clf=replace(cfg.clf, arch="simple_cnn", epochs=10.0, one_cycle=False, dropout=0.0))


if __name__ == "__main__": main()
