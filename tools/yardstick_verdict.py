"""The verdict of the yardstick on the generators of finished runs, beside that of each run's first judge.

    python tools/yardstick_verdict.py RUN [RUN ...] [--n 1000] [--out yardstick-verdict]

Writes `verdict.md`, and for each run a grid of new images, twelve of each class (`NAME.png`, a row a class)
with as many real ones beside it (`NAME-real.png`), to see whether the numbers agree with the eye."""
import argparse
from pathlib import Path

import numpy as np

from fer_synth.data.images import ImageSet
from fer_synth.data.load import load_images
from fer_synth.evaluation.generators import Yardstick
from fer_synth.experiment.generators import fresh_images
from fer_synth.experiment.results import Run
from fer_synth.runtime import derive, image_grid, start
from fer_synth.words import COLUMNS, measure_cells

COLUMN = 12     # images of each class in a grid


def grid(images: np.ndarray, labels: np.ndarray):
    "Twelve images of each class, a row a class."
    rows = [np.flatnonzero(labels == c)[:COLUMN] for c in np.unique(labels)]
    return image_grid(images[np.concatenate(rows)], COLUMN)


def rows_of(path: Path, n: int, out: Path, device) -> list[list[str]]:
    "A row for each network and set of images: generated ones, and the real reference."
    run = Run.open(path)
    images: ImageSet = load_images(run.cfg.data)
    real, labels = images.part("train")
    counts = np.bincount(labels, minlength=len(images.classes))
    drawn = fresh_images(run.drawings(device, images), counts, n, run.cfg.seed, "measure")
    grid(*drawn).save(out / f"{path.name}.png")
    grid(real, labels).save(out / f"{path.name}-real.png")
    rows = []
    judges = {"first judge": run.judge(0, device), "yardstick": run.yardstick(images, device)}
    for name, clf in judges.items():
        yard = Yardstick(clf, images, derive(run.cfg.seed, "yardstick"), device, n)
        found = yard.full(*drawn)
        right = f"{name}, {100 * found['yardstick_accuracy']:.0f} % right"
        numbers = {m: e["real"] for m, e in found["measures"].items()}
        rows.append([path.name, right, "generated", *measure_cells(found["measures"])])
        rows.append([path.name, right, "real", *measure_cells(numbers)])
    return rows


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("runs", nargs="+", type=Path)
    ap.add_argument("--n", type=int, default=1000, help="images to draw")
    ap.add_argument("--out", type=Path, default=Path("yardstick-verdict"))
    o = ap.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    device = start("auto", 0)
    titles = [t.replace("yardstick agreement", "agreement") for t in COLUMNS.values()]
    head = ["run", "measured by", "images", *titles]
    table = [head, ["---"] * len(head)]
    for path in o.runs: table += rows_of(path, o.n, o.out, device)
    text = "\n".join(f"| {' | '.join(row)} |" for row in table)
    (o.out / "verdict.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__": main()
