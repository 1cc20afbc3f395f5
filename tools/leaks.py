"""What the leaks of the published original are worth: the same classifier and steps, with and without each.

    python tools/leaks.py --data fer2013.zip --run RUN [--seeds 5] [--epochs 12] [--out leaks.json]

RUN is a finished run on the same data; its kept generated images are what the original would have joined to
its file. Protocols, all with as many real training rows and as many optimiser steps:

- official: the split of the data set, copies of validation and test images dropped from training
- apart: all rows in one file, split at random, but all near-duplicates of an image on one side
- pooled: all rows in one file, split at random; duplicates straddle the splits, as in the original
- fakes: the same with the generated images joined before the split, so that some are test images

The record (JSON) holds the scores of each seed; a seed is a split, an order and first weights.
"""
import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_synth.config import ClassifierConfig, DataConfig, write_atomic
from fer_synth.data.load import load_images, read_source_images
from fer_synth.data.training_set import TrainingSet
from fer_synth.evaluation.metrics import scores
from fer_synth.experiment.results import Run
from fer_synth.experiment.work import Job, kept_images
from fer_synth.recipes import FIVE_EMOTIONS
from fer_synth.records import StepFolder
from fer_synth.runtime import start
from fer_synth.training.classifier import Schedule, predict, train_classifier

WORDS = {
    "official": "official split, copies dropped",
    "apart": "one file split at random, near-duplicates on one side",
    "pooled": "one file split at random, duplicates straddle",
    "fakes": "the same, generated images joined before the split; scored on all its test images",
    "fakes, real test": "the same classifiers, scored on the real test images alone",
}


def random_split(groups: np.ndarray, seed: int) -> np.ndarray:  # text (N,)
    "60, 20 and 20 % of the groups as 'train', 'val' and 'test'."
    names, group = np.unique(groups, return_inverse=True)
    place = np.random.default_rng(seed).random(len(names))
    return np.select([place < 0.6, place < 0.8], ["train", "val"], "test")[group]


def generated_of(run_folder: Path) -> TrainingSet:
    "The images that the last selection of a run has kept."
    run = Run.open(run_folder)
    images = load_images(run.cfg.data)
    job = Job(run.cfg, run.plan, run.store, images, "cpu", False)
    return replace(kept_images(job, run.newest("select")), origin=None)


def trained(train: TrainingSet, val: TrainingSet, n: int, epochs: float, seed: int, device):
    "A classifier of `n` random rows of a training set."
    rows = np.random.default_rng(seed).permutation(len(train))[:n]
    cfg = ClassifierConfig(epochs=epochs)
    some, schedule = train.pick(np.sort(rows)), Schedule.of(cfg, n)
    with tempfile.TemporaryDirectory() as place:
        folder = StepFolder(Path(place) / "clf")
        return train_classifier(cfg, some, val, schedule, folder, seed, device)


def scored(clf, data: TrainingSet, device) -> dict:
    "Accuracy and macro F1."
    found = scores(data.labels, predict(clf, data.images, device), data.classes)
    return {name: found[name] for name in ("accuracy", "macro_f1")}


def protocols(official, whole, generated: TrainingSet, seed: int) -> dict:
    "By protocol: rows, and the split of each."
    pooled = TrainingSet(whole.images, whole.labels, tuple(whole.classes))
    joined = pooled.join(generated)
    rows = TrainingSet(official.images, official.labels, official.classes)
    return {
        "official": (rows, official.split),
        "apart": (pooled, random_split(np.asarray(whole.near), seed)),
        "pooled": (pooled, random_split(np.arange(len(pooled)), seed)),
        "fakes": (joined, random_split(np.arange(len(joined)), seed))}


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=12.0)
    parser.add_argument("--out", type=Path, default=Path("nbs/results/records/leaks.json"))
    args = parser.parse_args()
    device = start("auto", 0)
    cfg = DataConfig(source=args.data, classes=FIVE_EMOTIONS)
    generated = generated_of(args.run)
    official, whole = load_images(cfg), read_source_images(replace(cfg, dedup="near"))
    found = {name: [] for name in WORDS}
    for seed in range(args.seeds):
        cases = protocols(official, whole, generated, seed)
        n = int(0.6 * len(cases["pooled"][0]) * 0.98)     # what every protocol has
        for name, (rows, split) in cases.items():
            parts = {s: rows.pick(np.flatnonzero(split == s)) for s in ("train", "val", "test")}
            clf = trained(parts["train"], parts["val"], n, args.epochs, seed, device)
            found[name].append(scored(clf, parts["test"], device))
            if name == "fakes":
                real = np.flatnonzero(split == "test")
                real = real[real < len(rows) - len(generated)]
                found["fakes, real test"].append(scored(clf, rows.pick(real), device))
            print(seed, name, len(parts["train"]), found[name][-1], flush=True)
    record = {"words": WORDS, "scores": found, "training_rows": n, "epochs": args.epochs,
              "generated": len(generated), "data": Path(args.data).name,
              "command": (f"python tools/leaks.py --data {Path(args.data).name} --run RUN "
                          f"--seeds {args.seeds} --epochs {args.epochs:g}")}
    write_atomic(args.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__": main()
