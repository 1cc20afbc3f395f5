"""Which measure of a generator sees which planted fault, on drawn faces or on a data set of one's own.

    python tools/measure_degradations.py [--data fer2013.zip] [--n 600]

Writes `tools/results/degradations-NAME.md`. Real images that neither the yardstick nor its reference knows
are made worse in seven ways and at three strengths. On drawn faces they are new ones; of a data set as many
training images are kept apart, before the yardstick is trained on the others. Test images are not read."""
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_synth.data.drawn import draw_faces
from fer_synth.data.images import ImageSet
from fer_synth.data.load import load_images
from fer_synth.data.rows import pick_rows
from fer_synth.evaluation.degradations import FAULTS, contradicted, degradation_table
from fer_synth.evaluation.generators import Yardstick
from fer_synth.recipes import cgan_drawn32, cgan_fer32
from fer_synth.runtime import start
from fer_synth.training.yardstick import yardstick_of

RESULTS = Path(__file__).parent / "results"


def without(images: ImageSet, gone: np.ndarray) -> ImageSet:
    "All rows but some."
    left = np.setdiff1d(np.arange(len(images.labels)), gone)
    kept = {name: getattr(images, name)[left] for name in ("labels", "split", "hashes")}
    return replace(images, images=pick_rows(images.images, left), **kept)


def held_apart(data: str, n: int) -> tuple[ImageSet, np.ndarray, np.ndarray]:
    "The images that yardstick and reference know; images that they do not know, and their classes."
    if not data:
        cfg = cgan_drawn32().data
        labels = np.arange(n) % 5
        return load_images(cfg), draw_faces(labels, 12345, cfg.size, cfg.difficulty), labels
    images = load_images(replace(cgan_fer32().data, source=data))
    train = np.flatnonzero(images.split == "train")
    rows = np.sort(np.random.default_rng(0).permutation(train)[:n])
    return without(images, rows), np.asarray(pick_rows(images.images, rows)), images.labels[rows]


def number(value: float) -> str:
    "Three digits."
    return f"{value:.3g}"


def lines(table: dict) -> list[str]:
    "The two tables: what is seen, and the numbers."
    out = ["| measure | " + " | ".join(FAULTS) + " |", "| --- |" + " --- |" * len(FAULTS)]
    for measure, faults in table.items():
        marks = [str(f["seen"] or "–") + ("" if f["monotone"] else " ~") for f in faults.values()]
        out.append(f"| {measure} | {' | '.join(marks)} |")
    out += ["", "| measure | real reference | fault | none | 1 | 2 | 3 |", "| --- |" + " --- |" * 6]
    for measure, faults in table.items():
        for fault, f in faults.items():
            values = " | ".join(map(number, f["values"]))
            out.append(f"| {measure} | {number(f['real'])} | {fault} | {values} |")
    return out


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--data", default="", help="a data set with FER2013's five emotions; none: drawn faces")
    ap.add_argument("--n", type=int, default=600, help="images to make worse")
    o = ap.parse_args()
    device, name = start("auto", 0), Path(o.data).stem or "drawn"
    known, images, labels = held_apart(o.data, o.n)
    yard = Yardstick(yardstick_of(known, device, show=True), known, device=device, n=o.n)
    seen = yard.reference.seen
    accuracy = 100 * (seen.y_pred == seen.labels).mean()
    table = degradation_table(yard, images, labels)
    strengths = "; ".join(f"{k} {', '.join(map(str, s))}" for k, (_, s) in FAULTS.items())
    given = f" --data {Path(o.data).name}" if o.data else ""
    text = [f"# Planted degradations, {name}", "",
            f"`python tools/measure_degradations.py{given} --n {o.n}`; "
            f"the yardstick is right about {accuracy:.0f} % of the validation images.", "",
            f"Strengths: {strengths}. The number is the weakest strength (1 to 3) from which on the measure "
            "is worse than the intervals of the real reference and of the undisturbed images; – means that "
            "it sees none of them, ~ that it is not monotone.", "", *lines(table), ""]
    wrong = contradicted(table)
    text.append("Seen here, although `BLIND_SPOTS` says that it is not: "
                + (", ".join(f"{f} by {m}" for m, f in wrong) or "nothing") + ".")
    (RESULTS / f"degradations-{name}.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__": main()
