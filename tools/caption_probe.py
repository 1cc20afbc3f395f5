"""Does a picture show what its caption says? For a run of `caption` on drawn faces.

    python tools/caption_probe.py RUN [--n 500] [--out probe.json]

A probe for each attribute, and one for the emotion, learns from new drawn faces that no GAN has seen. Numbers
for each attribute: how often the probe is right about real faces (the most that can be asked for), how often
it finds in a generated picture what the caption names, and what happens when one word of the caption is
changed and the latent code stays: how often the attribute becomes the new one, how often the others stay.
"""
import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from fer_synth.config import ClassifierConfig, write_atomic
from fer_synth.data.captions import ATTRIBUTES, attribute_values, captions_of
from fer_synth.data.drawn import FIVE, draw_faces, face_numbers
from fer_synth.data.training_set import TrainingSet
from fer_synth.evaluation.features import proportion
from fer_synth.experiment.results import Run
from fer_synth.models.samplers import Request
from fer_synth.records import StepFolder
from fer_synth.runtime import derive, start
from fer_synth.training.classifier import Schedule, predict, train_classifier

PROBE = ClassifierConfig(arch="small_resnet", epochs=4.0, batch=128, lr=4e-3, one_cycle=True, dropout=0.2)


def faces(n: int, seed: int, data) -> tuple[np.ndarray, dict]:  # images, attribute -> values (N,)
    "New drawn faces with what can be said of them; none is in the run's data."
    labels = np.arange(n) % len(FIVE)
    seed = derive(data.split_seed, "probe", seed)
    values = attribute_values(face_numbers(labels, seed, data.difficulty))
    images = draw_faces(labels, seed, data.size, data.difficulty, data.channels)
    return images, {"emotion": labels, **values}


def names(attribute: str) -> tuple[str, ...]:
    "The values of an attribute."
    return FIVE if attribute == "emotion" else ATTRIBUTES[attribute][2]


def probe(attribute: str, train: tuple, val: tuple):
    "A classifier of one attribute."
    sets = [TrainingSet(images, values[attribute], names(attribute)) for images, values in (train, val)]
    with tempfile.TemporaryDirectory() as place:
        folder = StepFolder(Path(place)/"probe", attribute, show=True)
        return train_classifier(PROBE, *sets, Schedule.of(PROBE, len(sets[0])), folder, 0, "cpu")


def sentences(values: dict) -> tuple[str, ...]:
    "Captions for values of all attributes."
    numbers = {}
    for name, (number, ends, _) in ATTRIBUTES.items():
        edges = [ends[0] - 1, *ends, ends[-1] + 1]
        middles = [(a + b) / 2 for a, b in zip(edges, edges[1:])]
        numbers[number] = np.array(middles)[values[name]]
    return captions_of([FIVE[e] for e in values["emotion"]], numbers)


def drawn(sampler, values: dict, seeds) -> np.ndarray:
    "Pictures for captions."
    return sampler.draw(Request(values["emotion"], seeds, captions=sentences(values)))


def swapped(attribute: str, values: dict) -> dict:
    "The same captions with the next value of one attribute."
    return {**values, attribute: (values[attribute] + 1) % len(names(attribute))}


def measure(sampler, probes: dict, test: tuple, n: int, seed: int) -> dict:
    "The numbers for each attribute."
    images, true = test
    values = {name: v[:n] for name, v in true.items()}
    seeds = np.array([derive(seed, "caption probe", i) for i in range(len(values["emotion"]))])
    def seen(x): return {name: predict(net, x, "cpu").argmax(1) for name, net in probes.items()}
    real, made, found = seen(images), seen(drawn(sampler, values, seeds)), {}
    for name in probes:
        wanted = swapped(name, values)
        after = seen(drawn(sampler, wanted, seeds))
        others = np.mean([after[other] == made[other] for other in probes if other != name], 0)
        chance = max(np.bincount(true[name])) / len(true[name])
        right = {"real": real[name] == true[name], "generated": made[name] == values[name],
                 "changed": after[name] == wanted[name]}
        found[name] = {kind: proportion(hits) for kind, hits in right.items()}
        found[name] |= {"others stay": float(others.mean()), "most frequent": float(chance)}
    return found


def table(found: dict) -> str:
    "The numbers in Markdown."
    kinds = "real", "generated", "changed"
    lines = ["| | right about real faces % | finds what the caption says % | changes with its word % "
             "| the others stay % | the most frequent value % |", "| --- | --- | --- | --- | --- | --- |"]
    for name, row in found.items():
        cells = [f"{100 * row[k]['value']:.0f} ({100 * row[k]['low']:.0f} to {100 * row[k]['high']:.0f})"
                 for k in kinds]
        rest = f"{100 * row['others stay']:.0f} | {100 * row['most frequent']:.0f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {rest} |")
    return "\n".join(lines)


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=500, help="captions")
    parser.add_argument("--out", type=Path, default=Path("caption_probe.json"))
    o = parser.parse_args()
    start("cpu")
    run = Run.open(o.run)
    data = run.cfg.data
    train, val, test = (faces(n, i, data) for i, n in enumerate((6000, 1000, max(1000, o.n))))
    probes = {name: probe(name, train, val) for name in ("emotion", *ATTRIBUTES)}
    sampler = run.drawings("cpu")[0].sampler
    found = measure(sampler, probes, test, o.n, run.cfg.seed)
    write_atomic(o.out, json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__": main()
