"""How fast do the widgets answer? `python benchmarks/widgets.py [--repeats 9]` writes benchmarks/WIDGETS.md.

Each number is the time from setting a control's value to the pictures being handed over, medians and the worst of several; the way through
the kernel's messages to the page is not in it.
"""
import argparse
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from fer_synth.runtime import cpu_name
from fer_synth.widgets.browser import FaceBrowser, invented_faces
from fer_synth.widgets.confusion import ConfusionExplorer, from_answers
from fer_synth.widgets.tuner import ThresholdTuner

POOLS, SIDE = (1_000, 20_000, 100_000), 48


def took(change, values) -> list[float]:
    "Milliseconds of `change(value)` for each value, the first left out."
    times = []
    for v in values:
        began = time.perf_counter()
        change(v)
        times.append(1000 * (time.perf_counter() - began))
    return times[1:]


def browser_times(n: int, repeats: int) -> dict:
    b = FaceBrowser(invented_faces(n), per_page=SIDE, threaded=False)
    b.draw.seconds = 0
    def narrow(v): b.filters.range.value = (v, 1)
    return {"face browser: page turn, 48 faces": took(lambda _: b.pages.next.click(), range(repeats + 1)),
            "face browser: score filter": took(narrow, np.linspace(.1, .6, repeats + 1).round(2).tolist())}


def tuner_times(n: int, repeats: int) -> dict:
    faces = invented_faces(n)
    rng, k = np.random.default_rng(0), len(faces.classes)
    probs = rng.dirichlet(np.ones(k), 2_000)
    t = ThresholdTuner(faces, validation=(probs, rng.integers(k, size=len(probs))))
    t.redraw.seconds = 0
    slider = t.sliders[faces.classes[0]]
    def move(v): slider.value = v
    return {"threshold tuner: slider to chart, faces and table": took(move, np.linspace(.2, .8, repeats + 1).round(2).tolist())}


def confusion_times(n: int, repeats: int) -> dict:
    rng, k, names = np.random.default_rng(0), 5, [f"class {i}" for i in range(5)]
    arms = {a: rng.dirichlet(np.ones(k), (3, n)) for a in ("real", "augmented")}
    x = ConfusionExplorer(from_answers(rng.integers(k, size=n), arms, names), images=np.zeros((n, 1, 32, 32), np.uint8), n=20, threaded=False)
    cells = list(x.grids[2].buttons.values())
    def seed(v): x.controls.seed.value = v
    return {"confusion explorer: cell to faces": took(lambda i: cells[i % 25].click(), range(repeats + 1)),
            "confusion explorer: seed to matrices": took(seed, [("0", "1", "2")[i % 3] for i in range(repeats + 1)])}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--repeats", type=int, default=9)
    repeats = options.parse_args().repeats
    found = {n: browser_times(n, repeats) | tuner_times(n, repeats) | confusion_times(n, repeats) for n in POOLS}
    rows = [f"| {name} | " + " | ".join(f"{statistics.median(found[n][name]):.0f} ({max(found[n][name]):.0f})" for n in POOLS) + " |"
            for name in found[POOLS[0]]]
    text = "\n".join([f"Milliseconds from an event to the new pictures, median (worst) of {repeats}; {cpu_name()}, Python {platform.python_version()},",
                      "one thread. Rows of the confusion explorer are test rows. Made by `python benchmarks/widgets.py`.", "",
                      "| event | " + " | ".join(f"{n:,} faces" for n in POOLS) + " |", "| --- | --- | --- | --- |", *rows, ""])
    Path(__file__).with_name("WIDGETS.md").write_text(text)
    print(text)


if __name__ == "__main__": main()
