"""An invented run folder with every record that a real run leaves, for the rooms that only read records."""
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fer_synth.config import RunConfig, save_config
from fer_synth.evaluation.compare import Predictions, compare_arms, write_predictions
from fer_synth.experiment.plan import plan_run
from fer_synth.recipes import wgan_gp_drawn32
from fer_synth.records import RunFolder
from fer_synth.runtime import image_grid
from fer_synth.selection.pools import Pool, selection_rows, write_selection, write_validation
from fer_synth.selection.rules import (quotas, select, selection_warnings, summarise, threshold_curve,
                                       thresholds)
from fer_synth.selection.scores import score_pool
from fer_synth.steps import Plan, Step, Store, file_hashes

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
    "The lines that a step logs."

    def __init__(self, stage): self.stage, self.lines, self.seconds = stage, [], 0.0

    def add(self, step, **numbers):
        self.seconds += .8
        numbers = {name: round(float(v), 5) for name, v in numbers.items()}
        self.lines.append({"stage": self.stage, "step": step, "seconds": round(self.seconds, 2), **numbers})

    @property
    def text(self): return "".join(json.dumps(line) + "\n" for line in self.lines)


def log_warmup(log):
    "A warm-up whose losses fall evenly."
    for i in range(10, 301, 10):
        decay = .985 ** i
        log.add(i, loss=.2 + .5 * decay, perceptual=.12 + .3 * decay, pixel=.08 + .2 * decay)


def log_classifier(log, rng, floor):
    "Twelve epochs of a classifier that overfits after seven."
    for e in range(1, 13):
        overfit = .012 * max(0, e - 7)
        log.add(e * 59,
                loss=1.6 * .86 ** e + .15,
                val_loss=floor + .6 * .7 ** e + overfit + rng.normal(0, .01),
                val_accuracy=.62 - .4 * .7 ** e + rng.normal(0, .006))


def log_gan(log, rng, steps, start):
    "A GAN whose critic's logit gap falls and settles."
    for i in range(10, steps + 1, 10):
        gap = start * .99 ** i + 1.6 + rng.normal(0, .25)
        penalty = 2.5 * .97 ** i + .12 + abs(rng.normal(0, .02))
        log.add(i,
                loss_critic=penalty - gap,
                loss_gen=-2 + gap / 3 + rng.normal(0, .2),
                logit_gap=gap,
                penalty=penalty,
                grad_critic=2 + penalty,
                grad_gen=.4 + .1 * rng.random(),
                images_per_s=900 + rng.normal(0, 20))


FLOORS = {"real": .95, "balanced": .92, "augmented": .9}     # about the least validation loss of each arm


def log_step(log: Log, rng, step: Step):
    "What a step of the plan logs; nothing where it trains nothing."
    round = step.settings.get("round")
    if step.kind == "warmup": log_warmup(log)
    if step.kind == "judge": log_classifier(log, rng, .9 if round else .95)
    if step.kind == "gan": log_gan(log, rng, step.settings["steps"], 9 if round == 1 else 4)
    if step.kind == "student": log_classifier(log, rng, FLOORS[step.settings["arm"]])


@dataclass
class Invented:
    "The run folder that is being written."
    cfg: RunConfig
    classes: tuple
    counts: dict               # training images of each class
    run: RunFolder
    plan: Plan
    rng: np.random.Generator

    @property
    def store(self): return Store(self.run)

    def folder(self, name): return self.store.folder(self.plan[name]).make()

    def publish(self, step, *names):
        "Copy files of a step to the top of the run folder."
        for name in names: shutil.copyfile(self.folder(step) / name, self.run / name)


def write_logs(made: Invented):
    "The log of every step that trains something."
    for step in made.plan:
        log = Log(step.name)
        log_step(log, made.rng, step)
        if log.lines: (made.folder(step.name) / "stats.jsonl").write_text(log.text)


def make_pool(rng, cfg, classes, made, quality, round, size, channels):
    "Images, labels and the judge's probabilities of one round; class 1 is the hard one."
    labels = np.repeat(np.arange(len(classes)), made)
    skill = np.full(len(classes), quality + .4 * round)
    skill[1 % len(classes)] -= 2
    logits = rng.normal(0, 1.2, (len(labels), len(classes)))
    logits[np.arange(len(labels)), labels] += skill[labels]
    return shapes(rng, labels, size, channels, noise=22), labels, softmax(logits)


def sample_moments(cfg, rounds):
    "When sheets of samples were drawn: kind and settings of the step, training step, share of noise."
    moments = [("warmup", {}, 150, .8), ("warmup", {}, 300, .7)]
    for at in range(50, cfg.gan.steps + 1, 50):
        moments.append(("gan", {"round": 1}, at, .6 * .6 ** (at / 50)))
    for r in range(2, rounds + 1): moments.append(("gan", {"round": r}, cfg.gan.later_steps, .03))
    return moments if rounds else []


def write_samples(made: Invented, rounds):
    "The sheets of samples of each step, noise that turns into faces, and the sheet of real images."
    k, size, channels = len(made.classes), made.cfg.data.size, made.cfg.data.channels
    rows = np.repeat(np.arange(k), 8)
    latents = shapes(np.random.default_rng(5), rows, size, channels, noise=4).astype(float)
    for kind, settings, at, blur in sample_moments(made.cfg, rounds):
        noise = 110 + made.rng.normal(0, 45, latents.shape)
        now = np.clip(latents * (1 - blur) + blur * noise, 0, 255).astype(np.uint8)
        for step in made.plan.of(kind, **settings):
            mine = np.isin(rows, step.settings["classes"])
            made.folder(step.name).save_sample(at, image_grid(now[mine], 8))
    image_grid(shapes(made.rng, rows, size, channels), 8).save(made.folder("data") / "real.png")


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


def write_round(made: Invented, r, candidates, val_probs, val_truth):
    "Pool and selection of a round; returns its table, and what its selection.json holds."
    cfg, classes = made.cfg, made.classes
    images, labels, probs = make_pool(
        made.rng, cfg, classes, candidates, 1.4, r, cfg.data.size, cfg.data.channels)
    if r == 1: images[3] = 128
    seeds, generators = np.arange(len(labels), dtype=np.int64) + 1000 * r, np.full(len(labels), f"9a{r}f")
    pool = Pool(images, labels, seeds, probs.astype(np.float32), generators, round=r)
    pool.save(made.folder(f"pool-{r}") / "pool.npz")
    write_validation(made.folder(f"pool-{r}") / "validation.npz", val_probs, val_truth)

    scores, blank = score_pool(probs, labels), images.max((1, 2, 3)) == images.min((1, 2, 3))
    least = thresholds(cfg.selection, classes, val_probs, val_truth)
    wanted = quotas(cfg.selection, classes, made.counts)
    kept, reasons = select(scores, labels, least, wanted, classes, "made", blank)
    table = selection_rows(r, labels, seeds, generators, scores, kept, reasons, classes)
    summary = summarise(scores, labels, reasons, least, wanted, made.counts, classes)
    selection = {"round": r, "classes": summary,
                 "warnings": selection_warnings(summary, scores, labels, blank),
                 "curve": threshold_curve(scores, labels, val_probs, val_truth, classes, blank)}
    folder = made.folder(f"select-{r}")
    np.save(folder / "kept.npy", kept)
    write_selection(folder / "selection.csv", table, classes)
    folder.write_json("selection.json", selection)
    return table, selection


def write_rounds(made: Invented, rounds, candidates, val_truth):
    "Pool and selection of each round; returns what metrics.json holds of them."
    val_probs = predictions(made.rng, val_truth, len(made.classes), 1.6)
    written = [write_round(made, r, candidates, val_probs, val_truth) for r in range(1, rounds + 1)]
    if written: write_selection(made.run / "selection.csv", [table for table, _ in written], made.classes)
    found = [selection for _, selection in written]
    return {
        "selection": {"rounds": [{"round": s["round"], "classes": s["classes"]} for s in found],
                      "warnings": [f"Round {s['round']}: {w}" for s in found for w in s["warnings"]]},
        "threshold_curve": found[-1]["curve"] if found else {}}


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


SECONDS = {"judge": 8.1, "warmup": 9.5, "gan": 102.0, "pool": 4.2, "student": 4.6, "compare": .3}


def resources(plan: Plan):
    "What metrics.json holds of time and memory."
    stages = {}
    for step in plan:
        if step.kind in SECONDS: stages[step.group] = round(stages.get(step.group, 0) + SECONDS[step.kind], 2)
    return {"seconds": round(sum(stages.values()), 1), "peak_memory_gib": 1.274, "stages": stages}


def write_comparison(made: Invented, p: Predictions, selection):
    "Predictions and metrics."
    folder = made.folder("compare")
    write_predictions(folder / "predictions.npz", p)
    metrics = {"classes": list(made.classes), **compare_arms(p, "test", n=300), **selection,
               "resources": resources(made.plan)}
    folder.write_json("metrics.json", metrics)
    made.publish("compare", "predictions.npz", "metrics.json")


def begin(folder, cfg, classes, counts) -> Invented:
    "The run folder with its plan, before any step is done."
    run, facts = RunFolder(folder), data_report(cfg, classes, counts)
    (run / "steps").mkdir(parents=True, exist_ok=True)
    (run / "figures").mkdir(exist_ok=True)
    plan = plan_run(cfg, facts=facts)
    save_config(cfg, run / "config.json")
    for name, value in (("env.json", ENV), ("data.json", facts), ("plan.json", plan.to_list())):
        run.json(name, value)
    made = Invented(cfg, tuple(classes), counts, run, plan, np.random.default_rng(len(classes)))
    made.folder("data").write_json("facts.json", facts)
    return made


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
    if "augmented" not in arms: rounds = 0
    k, candidates = len(classes), made
    cfg = invented_config(source, size, channels, threshold, rounds, arms, seeds, per_class)
    counts = {c: (60, 45, 110, 80, 70)[i % 5] for i, c in enumerate(classes)}
    made = begin(folder, cfg, classes, counts)
    write_logs(made)
    write_samples(made, rounds)
    truth = {split: np.repeat(np.arange(k), n) for split, n in (("val", 60), ("test", 120))}
    selection = write_rounds(made, rounds, candidates, truth["val"])
    write_comparison(made, compared(made.rng, classes, arms, seeds, truth, gain), selection)
    for step in made.plan:
        files = file_hashes(made.folder(step.name).path)
        made.store.write_note(step, state="done", made=ENV, seconds=SECONDS.get(step.kind, 0.0), files=files)
    return made.run.path
