"""Which images of a source show the same photograph?

`python tools/near_pairs.py SOURCE` prints how many groups of exact and of near duplicates a folder, a zip
or a CSV file holds, how many of them join two splits or several classes, and the names of a few pairs.
"""
import argparse
import sys

import numpy as np

from fer_synth.config import DataConfig, UserError
from fer_synth.data.images import find_duplicates
from fer_synth.data.pixels import decode
from fer_synth.data.near import Pairs, near_groups, near_pairs, thumbnail
from fer_synth.data.reading import content_hash, list_images


def read(source: str):
    "Thumbnails, content hashes, splits, labels and names of all images."
    listing = list_images(DataConfig(source=source))
    thumbs, hashes = [], []
    for item in listing.items:
        pixels = decode(item.load())
        thumbs.append(thumbnail(pixels))
        hashes.append(content_hash(pixels))
    splits, labels, names = zip(*((i.split, i.label, i.name) for i in listing.items))
    return np.stack(thumbs), np.array(hashes), np.array(splits), np.array(labels), names


def show_groups(title: str, group: np.ndarray, splits: np.ndarray, labels: np.ndarray) -> None:
    "One line for the groups of a kind."
    counts = find_duplicates(group, splits, labels)
    print(f"{title:17} {counts['groups']:6,} groups, {counts['images']:6,} images; "
          f"{counts['across_splits']:,} across splits, {counts['conflicting']:,} with several labels; "
          f"the largest has {np.unique(group, return_counts=True)[1].max():,}")


def show_pairs(pairs: Pairs, splits: np.ndarray, labels: np.ndarray, names, n: int) -> None:
    "Counts of pairs that are not exact copies, and the names of some."
    a, b = pairs.rows.T
    across, conflicting = splits[a] != splits[b], labels[a] != labels[b]
    print(f"{len(a):,} near pairs that are no exact copies: {pairs.mirrored.sum():,} mirrored, "
          f"{across.sum():,} across splits, {conflicting.sum():,} of two labels")
    for k in np.random.default_rng(0).permutation(len(a))[:n]:
        mirrored = " mirrored" if pairs.mirrored[k] else ""
        print(f"  {pairs.similarity[k]:.3f} {names[a[k]]} {names[b[k]]}{mirrored}")


def main() -> None:
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    parser.add_argument("source", help="a folder, a zip or a CSV file")
    parser.add_argument("--names", type=int, default=10, help="print the names of so many pairs")
    options = parser.parse_args()
    try: thumbs, hashes, splits, labels, names = read(options.source)
    except UserError as e: sys.exit(str(e))
    pairs = near_pairs(thumbs)
    show_groups("exact duplicates", hashes, splits, labels)
    show_groups("near duplicates", near_groups(thumbs, pairs), splits, labels)
    a, b = pairs.rows.T
    keep = hashes[a] != hashes[b]
    near = Pairs(pairs.rows[keep], pairs.similarity[keep], pairs.mirrored[keep])
    show_pairs(near, splits, labels, names, options.names)


if __name__ == "__main__": main()
