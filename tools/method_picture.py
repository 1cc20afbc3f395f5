"The picture of the method in README, from the recorded run: `python tools/method_picture.py [FILE]`."
import io
import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from fer_synth import figures
from fer_synth.data.load import load_images
from fer_synth.experiment.results import Run
from fer_synth.runtime import image_grid
from fer_synth.selection.pools import read_selection
from fer_synth.widgets.kit import recorded_run

WIDE, HIGH = 10.4, 3.5        # inches
BOX = {"boxstyle": "round,pad=0.02,rounding_size=0.08", "lw": 1.2}


def faces(images: np.ndarray, labels: np.ndarray, columns: int, rows: int) -> np.ndarray:
    "A grid of images with all classes in turn."
    turns = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    mixed = [turn[i] for i in range(rows * columns) for turn in turns if i < len(turn)]
    chosen = images[np.array(mixed)[:rows * columns]]
    return np.asarray(image_grid(chosen, columns, 2))


class Drawing:
    "A figure in inches."
    def __init__(self):
        self.figure = Figure((WIDE, HIGH), dpi=150)
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set(xlim=(0, WIDE), ylim=(0, HIGH))
        self.ax.axis("off")
    def grid(self, picture: np.ndarray, x: float, y: float, wide: float, title: str, colour: str) -> None:
        "Images with a title above and a frame around."
        high = wide * picture.shape[0] / picture.shape[1]
        grey = {"cmap": "gray"} if picture.ndim == 2 else {}
        self.ax.imshow(picture, extent=(x, x + wide, y, y + high), zorder=2, **grey)
        self.ax.add_patch(FancyBboxPatch((x, y), wide, high, ec=colour, fc="none", zorder=3, **BOX))
        self.text(x + wide / 2, y + high + 0.13, title, "bottom", weight="bold")
    def box(self, x: float, y: float, wide: float, high: float, title: str, text: str) -> None:
        "A box with a title and a few words."
        self.ax.add_patch(FancyBboxPatch((x, y), wide, high, ec=figures.BLUE, fc="#EEF4FA", zorder=2, **BOX))
        self.text(x + wide / 2, y + high - 0.12, title, "top", weight="bold")
        self.text(x + wide / 2, y + high - 0.4, text, "top", size=8)
    def text(self, x: float, y: float, text: str, va: str = "center", size: float = 9, **how) -> None:
        self.ax.text(x, y, text, ha="center", va=va, fontsize=size, zorder=4, **how)
    def arrow(self, start: tuple, end: tuple, bend: float = 0.0, **how) -> None:
        style = {"arrowstyle": "-|>", "mutation_scale": 12, "color": figures.GREY, "lw": 1.6, **how}
        self.ax.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", zorder=1, **style))


def forest(d: Drawing, metrics: dict, x: float, y: float, wide: float) -> None:
    "Accuracy of each arm with its interval."
    arms = metrics["arms"]
    low = min(e["interval"]["accuracy"][0] for e in arms.values())
    high = max(e["interval"]["accuracy"][1] for e in arms.values())
    def place(value: float) -> float: return x + 0.1 + (wide - 0.2) * (value - low) / (high - low)
    for i, (arm, entry) in enumerate(arms.items()):
        at, ends = y - 0.34 * i, entry["interval"]["accuracy"]
        d.text(x + wide / 2, at + 0.1, arm, size=7.5)
        d.ax.plot([place(v) for v in ends], [at, at], color=figures.BLUE, lw=1.6, zorder=3)
        d.ax.plot(place(entry["mean"]["accuracy"]), at, "o", color=figures.BLUE, ms=5, zorder=3)


@mpl.rc_context(figures.STYLE)
def draw() -> Figure:
    "The whole picture."
    path = recorded_run()
    run = Run.open(path)
    pool, rows = run.pool(), read_selection(path / "selection.csv")
    last = rows["round"] == pool.round
    kept = rows["decision"][last] == "kept"
    real, labels = load_images(run.cfg.data).part("train")
    metrics = json.loads((path / "metrics.json").read_text())
    d = Drawing()
    d.grid(faces(real, labels, 4, 4), 0.25, 1.35, 1.5, "real training images", figures.GREY)
    words = "warm-up with a\nperceptual loss,\nthen adversarial;\nlearns from training\nrows alone"
    d.box(2.35, 1.35, 1.75, 1.5, "GAN", words)
    d.grid(faces(pool.images, pool.labels, 4, 4), 4.65, 1.35, 1.5, "generated images", figures.GREY)
    for mine, y, title, colour in ((kept, 2.15, "kept or relabelled", figures.BLUE),
                                   (~kept, 0.95, "dropped", figures.RED)):
        d.grid(faces(pool.images[mine], pool.labels[mine], 4, 2), 6.85, y, 1.5, title, colour)
    d.box(8.75, 0.95, 1.5, 1.95, "classifiers", "")
    forest(d, metrics, 8.8, 2.3, 1.4)
    d.text(9.5, 1.03, "accuracy, real test images,\n95 % intervals", "bottom", size=7)
    d.arrow((1.82, 2.1), (2.28, 2.1))
    d.arrow((4.17, 2.1), (4.58, 2.1))
    d.arrow((6.22, 2.1), (6.78, 2.5))
    d.arrow((6.22, 2.1), (6.78, 1.5))
    d.text(6.45, 1.1, "a classifier\njudges", size=8)
    d.arrow((8.42, 2.5), (8.68, 2.35))
    d.arrow((7.6, 3.26), (3.3, 2.98), 0.1, ls="--")
    d.text(5.5, 3.42, "round after round", size=8, style="italic")
    d.arrow((1.0, 1.28), (9.5, 0.88), 0.16)
    d.text(4.0, 0.22, "the same classifiers without generated images, as many steps", size=8)
    return d.figure


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "images/method.png")
    file = io.BytesIO()
    draw().savefig(file)
    Image.open(file).convert("RGB").quantize(64).save(out, optimize=True)
    print(f"Written: {out}")
