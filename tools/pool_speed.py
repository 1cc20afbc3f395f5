"""How long does it take to score and select a large pool, and how much memory?

`python tools/pool_speed.py [--images 100000 --real 25000 --size 32 --threads 2]` makes smooth random images,
asks every selector about all of them, and prints for each the seconds of the wall clock, those of the
processor, and how far the peak memory of the process is above what it was when the images were there.
"""
import argparse
import resource
import time

import numpy as np
import torch

from fer_synth.config import ClassifierConfig
from fer_synth.models.classifier import make_classifier
from fer_synth.runtime import start
from fer_synth.selection.candidates import BATCH, Candidates, judge_probs, probs_and_features
from fer_synth.selection.selectors import Quota, chain_words, select_chain

# every selector that costs something sees all images; the shares come last
CHAIN = ("confidence>=0", "calibrated>=0", "margin>=-1", "entropy:0-1", "committee:1", "density>=0",
         "novelty:0-1", "views>=0", "diverse:0.5", "hard:0.9", "critic:0.9", "random:0.9")


def smooth_images(n: int, size: int, seed: int) -> np.ndarray:
    "Random images without edges, uint8 (n, 1, size, size)."
    gen, images = torch.Generator().manual_seed(seed), np.empty((n, 1, size, size), np.uint8)
    for i in range(0, n, 4096):
        coarse = torch.rand(min(4096, n - i), 1, 6, 6, generator=gen)
        fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", antialias=True)
        images[i:i + 4096] = (255 * fine).to(torch.uint8).numpy()
    return images


def peak_mib() -> float: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Clock:
    "Prints the seconds since the last line, and the peak memory above that of the start."

    def __init__(self):
        self.base, self.total = peak_mib(), np.zeros(2)
        self.began = self.now()

    def now(self) -> np.ndarray: return np.array([time.perf_counter(), time.process_time()])

    def __call__(self, what: str) -> None:
        took = self.now() - self.began
        self.total += took
        self.line(what, took)
        self.began = self.now()

    def line(self, what: str, seconds: np.ndarray) -> None:
        wall, processor = seconds
        print(f"{what:34} {wall:7.1f} s  {processor:7.1f} s of a processor   "
              f"peak + {peak_mib() - self.base:4.0f} MiB", flush=True)


def main() -> None:
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--real", type=int, default=25_000, help="real training images")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    n, classes = options.images, ("a", "b", "c", "d", "e")
    start("cpu", options.threads)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = make_classifier(ClassifierConfig(), len(classes), options.size, 1).eval()
    images, real = smooth_images(n, options.size, 0), smooth_images(options.real, options.size, 1)
    gen = np.random.default_rng(0)
    labels, val_labels = np.arange(n) % 5, np.arange(2000) % 5
    probs_and_features(judge, images[:BATCH])     # what the first call allocates is no cost of the pool
    student = gen.dirichlet(np.ones(5), n).astype(np.float32)
    c = Candidates(images=images, labels=labels, classes=classes, judge=judge, answers={"teacher": student},
                   real_images=real, real_labels=np.arange(len(real)) % 5, student=student,
                   critic=gen.standard_normal(n), val_labels=val_labels,
                   val_probs=gen.dirichlet(np.ones(5), len(val_labels)))
    clock = Clock()
    judge_probs(c, np.arange(n))
    clock("the judge: answers and features")
    for text in CHAIN:
        select_chain(c, (text,))
        clock(text)
    clock.line("together", clock.total)
    chosen = select_chain(c, CHAIN, Quota(1000, "random"))
    clock("the chain once more, with a quota")
    print(f"{chosen.kept.sum():,} of {n:,} images kept: {chain_words(CHAIN[-4:])}")
    clock.line("all", clock.total)


if __name__ == "__main__": main()
