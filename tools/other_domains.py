"""Two small data sets that are no faces, from what scikit-learn carries, for `r8_other_domains.ipynb`.

    python tools/other_domains.py DIR

writes `DIR/digits.npz`, handwritten digits whose classes 8 and 9 have twenty training rows each, and
`DIR/patches`, a folder of RGB pictures: pieces of two photographs, of which one class is rare. Pieces of
training, validation and test come from different parts of a photograph.
"""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from fer_synth.data.images import ImageSet

RARE = 20                                               # training rows of a rare digit
PARTS = {"train": (0.0, 0.6), "val": (0.6, 0.75), "test": (0.75, 1.0)}   # of a photograph's width
PIECES = {"train": {"flower": 600, "temple": 60}, "val": {"flower": 100, "temple": 100},
          "test": {"flower": 300, "temple": 300}}
PHOTOGRAPHS = {"flower": "flower.jpg", "temple": "china.jpg"}
SIDE = 48                                               # pixels of a piece


def make_digits(path: Path) -> None:
    "Digits with two rare classes."
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(labels))
    split = np.full(len(labels), "train", "<U5")
    split[order[:300]], split[order[300:800]] = "val", "test"
    keep = np.ones(len(labels), bool)
    for c in (8, 9):
        rows = np.flatnonzero((labels == c) & (split == "train"))
        keep[random.permutation(rows)[RARE:]] = False
    digits = ImageSet.from_arrays(images[keep], labels[keep], split=split[keep], value_range=(0, 16), size=16)
    digits.save(path)


def make_patches(folder: Path) -> None:
    "Pieces of two photographs as PNG files in class folders."
    random = np.random.default_rng(0)
    for name, file in PHOTOGRAPHS.items():
        photograph = load_sample_image(file)
        height, width = photograph.shape[:2]
        for split, (left, right) in PARTS.items():
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(PIECES[split][name]):
                x = random.integers(int(left * width), int(right * width) - SIDE)
                y = random.integers(0, height - SIDE)
                Image.fromarray(photograph[y:y + SIDE, x:x + SIDE]).save(place / f"{i:04d}.png")


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    make_digits(folder / "digits.npz")
    make_patches(folder / "patches")
    print(f"Written: {folder}")


if __name__ == "__main__": main()
