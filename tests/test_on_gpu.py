"tools/on_gpu.py, rehearsed on the CPU: its sections, what it imports, what it does when a section breaks."
import ast
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fer_synth.models.samplers import LatentSampler
from fer_synth.recipes import FIVE_EMOTIONS
from fer_synth.runtime import load_tensors

TOOLS = Path(__file__).resolve().parent.parent / "tools"
ALLOWED = {"torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "safetensors", "PIL", "tqdm",
           "fer_synth", "gpu_parts"}
FORBIDDEN = ("tyro", "ipywidgets", "nbdev", "fastcore", "execnb", "seaborn", "jupyterlab", "dask")
WITHOUT = f"""
import runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FORBIDDEN}: raise ModuleNotFoundError(name + " is not to be imported")
sys.meta_path.insert(0, Missing())
sys.path.insert(0, {str(TOOLS)!r})
sys.argv = ["on_gpu.py", *sys.argv[1:]]
runpy.run_path({str(TOOLS / "on_gpu.py")!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def tool():
    "The script as a module."
    sys.path.insert(0, str(TOOLS))
    try:
        import on_gpu
        yield on_gpu
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory) -> tuple[Path, dict, str]:
    "The folder, the report, what was printed; run where libraries that may be missing cannot be imported."
    out = tmp_path_factory.mktemp("gpu") / "out"
    command = [sys.executable, "-c", WITHOUT, "--rehearse", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads((out / "on_gpu.json").read_text()), done.stdout


def test_a_rehearsal_goes_through_every_section(rehearsal, tool):
    _, report, printed = rehearsal
    assert list(report["sections"]) == list(tool.SECTIONS)
    assert all(s["ok"] and s["seconds"] > 0 for s in report["sections"].values())
    assert report["problems"] == []
    assert report["rehearsal"] and report["seconds"] > 0 and "No problems." in printed


def test_two_trainings_agree_in_a_rehearsal(rehearsal, tool):
    sections = rehearsal[1]["sections"]
    for family in tool.FAMILIES:
        found = sections["agreement"][family]
        kinds = {"fp32", "tf32"} | ({"bf16"} if family in tool.WITH_BF16 else set())
        assert kinds == set(found) & set(tool.TOLERANCES) and all(found[kind]["within"] for kind in kinds)
        assert max(found["growth_of_a_millionth"]) < found["fp32"]["tolerance"]
    for name in (*tool.FAMILIES, "cgan bf16"):
        assert sections["graphs"][name]["exactly_equal"] and sections["graphs"][name]["all_recorded"], name
        assert sections["resume"][name]["exactly_equal"], name


def test_speeds_and_measures_are_written(rehearsal, tool):
    out, report, _ = rehearsal
    rates, cgan = report["sections"]["rates"], report["sections"]["cgan"]
    names = (*tool.FAMILIES, *tool.CLASSIFIERS)
    expected = {(name, mode) for name in names for mode, bf16 in tool.MODES.items()
                if not bf16 or name in tool.WITH_BF16}
    assert {(row["network"], row["mode"]) for row in rates["rows"]} == expected and not rates["skipped"]
    assert all(row["images_per_s"] > 0 and 0 < row["share_of_peak"] < 1.5 for row in rates["rows"])
    assert cgan["steps"] == 20 and cgan["data"] == "drawn" and len(cgan["curve"]) == 2
    assert {"frechet", "precision", "recall", "diversity", "near_copies"} <= set(cgan["measures"]["measures"])
    for picture in ("rates.png", "faces.png"): Image.open(out / picture).verify()


def test_the_checkpoint_generates_images(rehearsal, tool):
    out, _, _ = rehearsal
    tensors, notes = load_tensors(out / "cgan.safetensors")
    cfg = tool.cgan_config(tool.Options(out, rehearse=True))
    gen = tool.parts.make_generator(cfg.gan, len(notes["classes"]), cfg.data.size, cfg.data.channels, 0)
    gen.load_state_dict(tensors)
    images = tool.parts.generated(LatentSampler(gen), np.arange(5), 0)
    assert images.shape == (5, 1, cfg.data.size, cfg.data.size) and notes["step"] == 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")      # a process with threads, pytest's, is forked
def test_a_broken_section_is_reported_and_the_rest_goes_on(tool, tmp_path, monkeypatch, capsys):
    def fine(o): yield {"number": 1}

    def raising(o):
        yield {"number": 2}
        raise ValueError("no such kernel")

    def dying(o):
        yield {"number": 3}
        os._exit(7)

    def hanging(o):
        yield {"number": 4}
        time.sleep(60)
    sections = {"first": fine, "raising": raising, "dying": dying, "hanging": hanging, "last": fine}
    monkeypatch.setattr(tool, "SECTIONS", sections)
    monkeypatch.setattr(tool, "LIMITS", dict.fromkeys(sections, 20) | {"hanging": 5})
    o = tool.Options(tmp_path / "out", deadline=time.time() + 60)
    found = tool.run_all(o)
    report = json.loads(o.report.read_text())["sections"]
    assert [s["ok"] for s in report.values()] == [True, False, False, False, True]
    assert [s["number"] for s in report.values()] == [1, 2, 3, 4, 1]        # what came before the end is kept
    error = {name: report[name]["error"] for name in ("raising", "dying", "hanging")}
    assert error["raising"].startswith("Traceback") and "ValueError: no such kernel" in error["raising"]
    assert "exit code 7" in error["dying"] and "stopped after 5 s" in error["hanging"]
    assert found == [f"{name}.{what}" for name in ("raising", "dying", "hanging") for what in ("ok", "error")]
    assert "no such kernel" in capsys.readouterr().out


def test_what_is_outside_of_its_tolerance_is_a_problem(tool):
    compared = tool.parts.compared
    found = {
        "a": {"ok": True, "b": compared(2.0, 1.0)},
        "c": {"rows": [{"error": "text"}, {"x": compared(1.0, 2.0)}]},
        "d": compared(float("nan"), 1.0)}
    assert tool.problems(found) == ["a.b.within", "c.rows.0.error", "d.within"]


def test_a_recorded_step_that_reads_old_inputs_is_noticed(tool, tmp_path):
    class Stale(tool.parts.Rehearsed):
        def __call__(self, inputs):
            if self.replay is None: return super().__call__(inputs)
            self.replay()
            return dict(self.outputs)
    o = tool.Options(tmp_path, rehearse=True)
    cfg = tool.cases(o)["vanilla"]
    images, states = tool.parts.few_faces(cfg), []
    for recorder in (tool.eager, Stale):
        game = tool.parts.make_game(cfg, *images, torch.device("cpu"), recorder)
        tool.parts.losses(game, 8)
        states.append(game.state())
    found = tool.parts.same_state(states[1], states[0], states[0])
    assert not found["within"] and not found["exactly_equal"] and found["unequal_tensors"]


def write_zip(path: Path) -> None:
    "A data set in FER2013's layout: dark training images, bright test images."
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as z:
        for split, bright, each in (("train", 0, 20), ("test", 200, 5)):
            for name in (f"{split}/{emotion}/{i}.png" for emotion in FIVE_EMOTIONS for i in range(each)):
                pixels, picture = random.integers(0, 50, (48, 48)) + bright, io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(picture, "PNG")
                z.writestr(name, picture.getvalue())


def test_only_training_rows_are_packed(tool, tmp_path):
    write_zip(tmp_path / "fer.zip")
    assert "100 images" in tool.parts.pack(tmp_path / "fer.zip", tmp_path / "fer32.npz")
    o = tool.Options(tmp_path, data=tmp_path / "fer32.npz")
    data = tool.parts.packed_images(tool.config("cgan", o), o)
    assert data.images.shape == (100, 1, 32, 32) and data.images.max() < 100 and data.classes == FIVE_EMOTIONS
    assert set(data.split) == {"train", "val"} and np.bincount(data.part("val")[1]).tolist() == [2] * 5


@pytest.mark.parametrize("name", ["on_gpu.py", "gpu_parts.py"])
def test_only_the_allowed_libraries_are_imported(name):
    found = set()
    for node in ast.walk(ast.parse((TOOLS / name).read_text())):
        if isinstance(node, ast.Import): found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom): found.add(node.module.split(".")[0])
    assert found - set(sys.stdlib_module_names) <= ALLOWED
