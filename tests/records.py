"""An invented run folder with every record that a real run leaves, for the rooms that only read records."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_synth.config import RunConfig, save_config
from fer_synth.evaluation.compare import Predictions, compare_arms, write_predictions
from fer_synth.recipes import wgan_gp_drawn32
from fer_synth.runtime import image_grid
from fer_synth.selection.pools import selection_rows, write_selection
from fer_synth.selection.rules import (quotas, select, selection_warnings, summarise, threshold_curve,
                                       thresholds)
from fer_synth.selection.scores import score_pool

FIVE = ("angry", "fear", "happy", "neutral", "sad")


def shapes(rng, labels, size=32, channels=1, noise=12.0):
    "Simple faces, uint8 (N, C, size, size): the mouth's curve and the brows' slant tell the class."
    y, x = np.mgrid[-1:1:size * 1j, -1:1:size * 1j]
    out = np.empty((len(labels), channels, size, size), np.uint8)
    for i, k in enumerate(labels):
        curve, slant = np.cos(2.4 * k + .5), np.sin(1.7 * k)
        dx, dy = rng.normal(0, .04, 2)
        skin = rng.uniform(150, 215)
        u, v = x - dx, y - dy
        head = (u / .72) ** 2 + (v / .9) ** 2 < 1
        picture = np.where(head, skin, rng.uniform(20, 90)) - 25 * u
        for side in (-1, 1):
            across = u - side * .3
            picture[(across / .11) ** 2 + ((v + .2) / .08) ** 2 < 1] = 30                       # eye
            brow = np.abs(v + .42 - side * slant * across * .6) < .045
            picture[(np.abs(across) < .2) & brow] = 50
        mouth = np.abs(v - .45 + curve * (u ** 2 * 2 - .12)) < .06
        picture[(np.abs(u) < .34) & mouth] = 60
        for c in range(channels):
            out[i, c] = np.clip(picture * (1 - .12 * c) + rng.normal(0, noise, picture.shape), 0, 255)
    return out


def softmax(x): return np.exp(x) / np.exp(x).sum(1, keepdims=True)


def predictions(rng, truth, k, skill):
    "Probabilities of a classifier of some skill, float32 (N, K)."
    logits = rng.normal(0, 1.2, (len(truth), k))
    logits[np.arange(len(truth)), truth] += skill
    return softmax(logits).astype(np.float32)


class Log:
    "Lines of stats.jsonl."

    def __init__(self): self.lines, self.seconds = [], 0.0

    def add(self, stage, step, **numbers):
        self.seconds += .8
        numbers = {name: round(float(v), 5) for name, v in numbers.items()}
        self.lines.append({"stage": stage, "step": step, "seconds": round(self.seconds, 2), **numbers})


def log_classifier(log, rng, stage, floor):
    "Twelve epochs of a classifier that overfits after seven."
    for e in range(1, 13):
        overfit = .012 * max(0, e - 7)
        log.add(stage, e * 59,
                loss=1.6 * .86 ** e + .15,
                val_loss=floor + .6 * .7 ** e + overfit + rng.normal(0, .01),
                val_accuracy=.62 - .4 * .7 ** e + rng.normal(0, .006))


def log_gan(log, rng, stage, steps, start):
    "A GAN whose critic's logit gap falls and settles."
    for i in range(10, steps + 1, 10):
        gap = start * .99 ** i + 1.6 + rng.normal(0, .25)
        penalty = 2.5 * .97 ** i + .12 + abs(rng.normal(0, .02))
        log.add(stage, i,
                loss_critic=penalty - gap,
                loss_gen=-2 + gap / 3 + rng.normal(0, .2),
                logit_gap=gap,
                penalty=penalty,
                grad_critic=2 + penalty,
                grad_gen=.4 + .1 * rng.random(),
                images_per_s=900 + rng.normal(0, 20))


def curves(rng, cfg: RunConfig, classes, arms, rounds):
    "The text of stats.jsonl."
    log = Log()
    suffixes = [f"-{c}" for c in classes] if cfg.gan.per_class else [""]
    for suffix in suffixes if rounds else ():
        for i in range(10, 301, 10):
            decay = .985 ** i
            log.add(f"warmup-1{suffix}", i,
                    loss=.2 + .5 * decay, perceptual=.12 + .3 * decay, pixel=.08 + .2 * decay)
    log_classifier(log, rng, "judge-0", .95)
    for r in range(1, rounds + 1):
        steps, start = (cfg.gan.steps, 9) if r == 1 else (cfg.gan.later_steps, 4)
        for suffix in suffixes: log_gan(log, rng, f"gan-{r}{suffix}", steps, start)
        if r < rounds: log_classifier(log, rng, f"judge-{r}", .9)
    for seed in range(cfg.compare.seeds):
        for arm in arms:
            floor = {"real": .95, "balanced": .92, "augmented": .9}[arm]
            log_classifier(log, rng, f"compare-{arm}-{seed}", floor)
    return "".join(json.dumps(line) + "\n" for line in log.lines)


def make_pool(rng, cfg, classes, made, quality, round, size, channels):
    "Images, labels and the judge's probabilities of one round; class 1 is the hard one."
    labels = np.repeat(np.arange(len(classes)), made)
    skill = np.full(len(classes), quality + .4 * round)
    skill[1 % len(classes)] -= 2
    logits = rng.normal(0, 1.2, (len(labels), len(classes)))
    logits[np.arange(len(labels)), labels] += skill[labels]
    return shapes(rng, labels, size, channels, noise=22), labels, softmax(logits)


def write_samples(folder, cfg, rng, classes, rounds):
    "The sample grids of each stage: noise that turns into faces."
    k, size, channels = len(classes), cfg.data.size, cfg.data.channels
    rows = np.repeat(np.arange(k), 8)
    moments = [("warmup-1", 150, .8), ("warmup-1", 300, .7)]
    for step in range(50, cfg.gan.steps + 1, 50): moments.append(("gan-1", step, .6 * .6 ** (step / 50)))
    for r in range(2, rounds + 1): moments.append((f"gan-{r}", cfg.gan.later_steps, .03))
    latents = shapes(np.random.default_rng(5), rows, size, channels, noise=4).astype(float)
    for stage, step, blur in moments if rounds else ():
        noise = 110 + rng.normal(0, 45, latents.shape)
        now = np.clip(latents * (1 - blur) + blur * noise, 0, 255).astype(np.uint8)
        parts = {"": now}
        if cfg.gan.per_class: parts = {f"-{c}": now[i * 8:i * 8 + 8] for i, c in enumerate(classes)}
        for suffix, images in parts.items():
            image_grid(images, 8).save(folder / "samples" / f"{stage}{suffix}-{step:06d}.png")
    image_grid(shapes(rng, rows, size, channels), 8).save(folder / "samples" / "real.png")


def data_report(cfg, classes, counts):
    "What data.json holds."
    test = {c: 120 for c in classes}
    return {
        "source": cfg.data.source, "size": cfg.data.size, "channels": cfg.data.channels,
        "classes": list(classes),
        "counts": {"train": counts, "val": {c: 60 for c in classes}, "test": test},
        "found": {"train": {c: n + 63 for c, n in counts.items()}, "test": test},
        "duplicates": {"groups": 14, "images": 31, "across_splits": 4, "conflicting": 2},
        "dropped": {c: i for i, c in enumerate(classes)},
        "blank": 2, "blank_names": ["train/sad/0007.png", "train/sad/0011.png"],
        "skipped": 0, "skipped_names": [],
        "limited": {c: 0 for c in classes}, "fingerprint": "5f3a9c0d1e7b2468"}


ENV = {
    "python": "3.11.2", "torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.3.1", "fer_synth": "0.1.0",
    "platform": "Linux-6.1-x86_64", "cpu": "Invented CPU @ 2.10GHz", "cores": 2, "threads": 2,
    "device": "cpu", "gpu": None, "git_commit": None}


def write_rounds(folder, cfg, rng, classes, counts, rounds, made, val_truth):
    "Pool and selection of each round; returns what metrics.json holds of them, and the last threshold curve."
    val_probs = predictions(rng, val_truth, len(classes), 1.6)
    tables, summaries, warnings, curve = [], [], [], {}
    for r in range(1, rounds + 1):
        images, labels, probs = make_pool(rng, cfg, classes, made, 1.4, r, cfg.data.size, cfg.data.channels)
        if r == 1: images[3] = 128
        rows, generator = np.arange(len(labels), dtype=np.int64) + 1000 * r, f"9a{r}f"
        np.savez(folder / "pool" / f"round-{r}.npz", images=images, labels=labels, seeds=rows,
                 probs=probs.astype(np.float32), generator=np.full(len(labels), generator), round=r)
        scores, blank = score_pool(probs, labels), images.max((1, 2, 3)) == images.min((1, 2, 3))
        least = thresholds(cfg.selection, classes, val_probs, val_truth)
        wanted = quotas(cfg.selection, classes, counts)
        kept, reasons = select(scores, labels, least, wanted, classes, "made", blank)
        tables.append(selection_rows(r, labels, rows, generator, scores, kept, reasons, classes))
        summary = summarise(scores, labels, reasons, least, wanted, counts, classes)
        summaries.append({"round": r, "classes": summary})
        warnings += [f"Round {r}: {w}" for w in selection_warnings(summary, scores, labels, blank)]
        curve = threshold_curve(scores, labels, val_probs, val_truth, classes, blank)
    if rounds: write_selection(folder / "selection.csv", tables, classes)
    return {"rounds": summaries, "warnings": warnings}, curve


def compared(rng, classes, arms, seeds, truth, gain):
    "Predictions of the compared classifiers; they share what is hard about an image."
    k = len(classes)
    val, test = np.arange(k * 60).astype("U16"), np.arange(k * 60, k * 180).astype("U16")
    p = Predictions(tuple(classes), tuple(arms), tuple(range(seeds)), val, truth["val"], test, truth["test"])
    skill = {"real": 1.2, "balanced": 1.23, "augmented": 1.23 + gain}
    for split, t in truth.items():
        hard = rng.normal(0, 1, (len(t), k))
        for arm in arms:
            for s in p.seeds:
                logits = hard + rng.normal(0, .6, hard.shape)
                logits[np.arange(len(t)), t] += skill[arm] + rng.normal(0, .04)
                p.probs[f"{arm}/{s}/{split}"] = softmax(logits).astype(np.float32)
    return p


def invented_config(source, size, channels, threshold, rounds, arms, seeds, per_class):
    "The config of an invented run."
    cfg = wgan_gp_drawn32()
    return replace(
        cfg,
        data=replace(cfg.data, source=source, size=size, channels=channels),
        selection=replace(cfg.selection, threshold=threshold),
        rounds=replace(cfg.rounds, count=max(1, rounds)),
        compare=replace(cfg.compare, arms=arms, seeds=seeds, bootstrap=300),
        gan=replace(cfg.gan, per_class=per_class, steps=250, later_steps=80, sample_every=50),
        clf=replace(cfg.clf, epochs=12., batch=256))


def make_records(
    folder,                                  # run folder to make
    classes=FIVE,                            # class names
    rounds=2,                                # rounds of the GAN; 0 for a run of the classifier alone
    arms=("real", "balanced", "augmented"),  # compared classifiers
    seeds=3,                                 # paired seeds
    channels=1,                              # 1 grey, 3 RGB
    size=32,                                 # pixels
    source="drawn",                          # "drawn" or a path
    threshold=.5,                            # 1.0 keeps no image at all
    gain=.12,                                # how much better `augmented` is
    made=70,                                 # candidates of each class and round
    per_class=False,                         # one GAN for each class
) -> Path:
    "Write a complete run folder of invented records; the same arguments give the same bytes."
    folder, rng, k = Path(folder), np.random.default_rng(len(classes)), len(classes)
    if "augmented" not in arms: rounds = 0
    for name in ("checkpoints", "samples", "pool", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cfg = invented_config(source, size, channels, threshold, rounds, arms, seeds, per_class)
    counts = {c: (60, 45, 110, 80, 70)[i % 5] for i, c in enumerate(classes)}
    save_config(cfg, folder / "config.json")
    (folder / "env.json").write_text(json.dumps(ENV))
    (folder / "data.json").write_text(json.dumps(data_report(cfg, classes, counts)))
    (folder / "stats.jsonl").write_text(curves(rng, cfg, classes, arms, rounds))
    write_samples(folder, cfg, rng, classes, rounds)
    truth = {split: np.repeat(np.arange(k), n) for split, n in (("val", 60), ("test", 120))}
    selection, curve = write_rounds(folder, cfg, rng, classes, counts, rounds, made, truth["val"])
    p = compared(rng, classes, arms, seeds, truth, gain)
    write_predictions(folder / "predictions.npz", p)
    stages = {"judge-0": 8.1, "compare": 41.7}
    if rounds: stages |= {"warmup-1": 9.5, "gan-1": 102.0, "pool-1": 4.2}
    resources = {"seconds": round(sum(stages.values()), 1), "peak_memory_gib": 1.274, "stages": stages}
    metrics = {"classes": list(classes), **compare_arms(p, "test", n=300), "selection": selection,
               "threshold_curve": curve, "resources": resources}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder
