"""How long does the search for near-duplicates take, and how much memory?

`python tools/near_speed.py [--images 1000000 --distance 12] [--source drawn]` makes images of 48 x 48 from
those of a source. Each is a mix of two of them, so that hashes are as unevenly spread as those of real
images; one in a hundred is a copy of another: saved as JPEG, brightened, moved by a pixel, or mirrored. It
prints seconds for each part, the peak memory of the process, and the share of copies that are in the group of
their original.
"""
import argparse
import io
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fer_synth.config import DataConfig
from fer_synth.data.load import load_images
from fer_synth.data.near import DISTANCE, SIDE, confirm, distinct, group_pairs, hash_all, propose, thumbnail


def as_jpeg(x: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


EDITS = (
    as_jpeg,
    lambda x: np.minimum(x, 215) + np.uint8(40),
    lambda x: np.pad(x, ((0, 0), (1, 0)), "edge")[:, :-1],
    lambda x: np.ascontiguousarray(x[:, ::-1]))


def simulated(base: np.ndarray, n: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    "Thumbnails of `n` mixed images, in a file; rows of the originals of the last hundredth."
    rng = np.random.default_rng(0)
    thumbs = np.lib.format.open_memmap(path, "w+", np.uint8, (n, SIDE, SIDE))
    copies = n // 100
    originals = rng.choice(n - copies, copies, replace=False)
    place = dict(zip(originals.tolist(), range(n - copies, n)))
    for i in range(n - copies):
        a, b = base[rng.integers(len(base), size=2)].astype(np.float32)
        weight = rng.uniform(0.35, 0.65)
        mixed = np.clip((weight * a + (1 - weight) * b - 128) * 1.4 + 128, 0, 255).astype(np.uint8)
        thumbs[i] = thumbnail(mixed)
        if i in place: thumbs[place[i]] = thumbnail(EDITS[i % len(EDITS)](mixed))
    thumbs.flush()
    return np.load(path, mmap_mode="r"), originals


class Clock:
    "Prints the seconds since the last line, and the peak memory so far."

    def __init__(self): self.began = time.perf_counter()

    def __call__(self, what: str) -> None:
        seconds = time.perf_counter() - self.began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
        print(f"{what:50} {seconds:7.1f} s   peak {peak:.2f} GiB", flush=True)
        self.began = time.perf_counter()


def main() -> None:
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    parser.add_argument("--images", type=int, default=36_000)
    parser.add_argument("--source", default="drawn", help="drawn, or a folder, a zip or a CSV file")
    parser.add_argument("--distance", type=int, default=DISTANCE, help="bits in which two hashes may differ")
    options = parser.parse_args()
    base = np.asarray(load_images(DataConfig(source=options.source, size=48)).images)[:, 0]
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        thumbs, originals = simulated(base, options.images, Path(folder) / "thumbs.npy")
        clock("images and their thumbnails")
        first, number = distinct(thumbs)
        clock(f"{len(first):,} different thumbnails")
        hashes, still = hash_all(thumbs, first)
        clock("hashes, features")
        proposed = propose(hashes, still, options.distance)
        clock(f"{proposed.shape[1]:,} proposed pairs")
        pairs = confirm(thumbs, first, proposed)
        clock(f"{len(pairs.rows):,} confirmed pairs")
        group = group_pairs(thumbs, first, pairs.rows)[number]
        sizes = np.bincount(group)
        clock(f"{(sizes > 1).sum():,} groups, the largest of {sizes.max()}")
        found = group[originals] == group[len(group) - len(originals):]
        print(f"{found.mean():.1%} of {len(found):,} copies are in the group of their original")


if __name__ == "__main__": main()
