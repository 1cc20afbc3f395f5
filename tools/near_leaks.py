"""What do near-duplicates between training and test do to the accuracy of a run?

`python tools/near_leaks.py RUN ...` prints for each run (of `fer-synth baseline` or `run`) how often its
classifiers are right on the test images that have a near-duplicate among the run's training images, and how
often on the others. It reads the source of the run once more.
"""
import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_synth.config import UserError, load_config
from fer_synth.data.load import load_images, read_source_images
from fer_synth.evaluation.compare import read_predictions


def test_rows_with_copies(run: Path) -> dict[str, bool]:
    "Content hash of each test image -> whether a training image of the run shows the same photograph."
    cfg = load_config(run/"config.json").data
    source, used = read_source_images(replace(cfg, dedup="near")), load_images(cfg)
    group = dict(zip(source.names, source.near))
    train = {group[name] for name, split in zip(used.names, used.split) if split == "train"}
    rows = zip(used.names, used.hashes, used.split)
    return {digest: group[name] in train for name, digest, split in rows if split == "test"}


def show(run: Path) -> None:
    "A line for each arm of a run: means over its seeds."
    has_copy, found = test_rows_with_copies(run), read_predictions(run/"predictions.npz")
    copies = np.array([has_copy[digest] for digest in found.test_hash.tolist()])
    for arm in found.arms:
        right = [found.get(arm, seed, "test").argmax(1) == found.test_truth for seed in found.seeds]
        right = np.array(right)
        seen = f"{100 * right[:, copies].mean():.1f} %" if copies.any() else "-"
        others = f"{100 * right[:, ~copies].mean():.1f} %"
        print(f"{run} {arm}: right on {seen} of the {copies.sum()} test images with a copy in training, "
              f"on {others} of the other {(~copies).sum()} ({len(right)} seeds)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for run in parser.parse_args().runs:
        try: show(run)
        except UserError as e: sys.exit(str(e))


if __name__ == "__main__": main()
