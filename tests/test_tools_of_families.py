"The commands that measure image-to-image and caption families give the numbers that they promise."
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_synth.data.captions import ATTRIBUTES, attribute_values
from fer_synth.data.drawn import face_numbers
from fer_synth.recipes import get_recipe

TOOLS = Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture(scope="module")
def restoration():
    pytest.importorskip("skimage")
    return runpy.run_path(str(TOOLS / "restoration.py"))


def test_an_image_that_is_given_back_whole_scores_best(restoration):
    x = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    nets = {"perfect": lambda left: x, "grey": lambda left: torch.zeros_like(x)}
    for task in ("sr2", "inpaint"):
        found, rows = restoration["task_scores"](task, x, nets)
        assert found["perfect"]["ssim"] == pytest.approx(1) and found["perfect"]["psnr"] == np.inf
        assert found["grey"]["ssim"] < 0.2 and len(rows) == 4
    true = torch.full((2, 1, 32, 32), 0.2)
    found = restoration["scores"]("sr2", true * 0, true, true)
    assert found["psnr"] == pytest.approx(20)       # 10 log10(4 / 0.04)


def test_captions_of_values_say_these_values():
    tool = runpy.run_path(str(TOOLS / "caption_probe.py"))
    labels = np.arange(40) % 5
    values = {"emotion": labels, **attribute_values(face_numbers(labels, 3, 0.5))}
    said = tool["sentences"](values)
    for name, (_, _, words) in ATTRIBUTES.items():
        assert all(words[v] in text for v, text in zip(values[name], said))
    other = tool["swapped"]("gaze", values)
    again = tool["sentences"](other)
    pairs = [set(a.split(", ")) ^ set(b.split(", ")) for a, b in zip(said, again)]
    assert all(len(pair) == 2 and all("looking" in part for part in pair) for pair in pairs)


def test_the_probe_measures_a_painter_that_reads_and_one_that_does_not():
    tool = runpy.run_path(str(TOOLS / "caption_probe.py"))
    images, values = tool["faces"](60, 5, get_recipe("tiny_caption").data)
    assert sorted(values) == sorted(["emotion", *ATTRIBUTES]) and len(images) == 60
    places = {name: i for i, name in enumerate(values)}

    def paint(values):      # an attribute's value is the grey level of a pixel of its own
        out = np.zeros((len(values["emotion"]), 1, 16, 16), np.uint8)
        for name, i in places.items(): out[:, 0, 0, i] = values[name]
        return out

    class Probe(torch.nn.Module):
        def __init__(self, i, k):
            super().__init__()
            self.i, self.k = i, k

        def forward(self, x):
            value = ((x[:, 0, 0, self.i] + 1) * 127.5).round().long()
            return torch.nn.functional.one_hot(value, self.k).float() * 9

    probes = {name: Probe(i, len(tool["names"](name))) for name, i in places.items()}
    measure = tool["measure"]
    parts = measure.__globals__
    parts["drawn"] = lambda sampler, values, seeds: paint(values)
    found = measure(None, probes, (paint(values), values), 40, 0)
    assert all(row[kind]["value"] == 1 for row in found.values() for kind in ("real", "generated", "changed"))
    assert all(row["others stay"] == 1 for row in found.values())
    parts["drawn"] = lambda sampler, values, seeds: paint({name: v * 0 for name, v in values.items()})
    blind = measure(None, probes, (paint(values), values), 40, 0)
    assert blind["emotion"]["generated"]["value"] == pytest.approx(0.2)
    assert blind["emotion"]["real"]["value"] == 1
