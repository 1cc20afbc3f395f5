"What a study is good for afterwards: a classifier for use, in ONNX too, and images that can be shared."
import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_repository import ROOT

from fer_synth import cli, zoo
from fer_synth.data.shared import SharedImages
from fer_synth.evaluation.statistics import read_answers
from fer_synth.experiment import runs, studies
from fer_synth.experiment.results import Run
from fer_synth.experiment.study_config import tiny_study
from fer_synth.families.packaged import load_generator
from fer_synth.models.packaged import load_classifier
from fer_synth.recipes import get_recipe
from fer_synth.selection.pools import Pool


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    "A study of all rows, with a GAN that a teacher guides beside one that none does."
    cfg = replace(tiny_study(), arms=("soft", "guided"), fractions=(1.0,), robust_images=0)
    return studies.run_study(cfg, tmp_path_factory.mktemp("products") / "study", show=False)


@pytest.fixture(scope="module")
def model(study):
    "The folder of the classifier of the arm 'guided'."
    out = study.parent / "model"
    assert cli.main(["train-best", str(study), "--out", str(out), "--arm", "guided", "--onnx"]) == 0
    return out


def rows_of_test(study):
    "Images and labels of the test rows."
    images = studies.reopen_study(study, show=False).images
    return np.asarray(images.part("test")[0]), images.part("test")[1]


def test_guided_and_unguided_generators_differ_in_nothing_else(study):
    plan = studies.reopen_study(study, show=False).plan()
    guided = [step for step in plan.of("gan") if "guidance" in step.settings["gan"]]
    plain = [step for step in plan.of("gan") if step not in guided]
    assert len(guided) == len(plain) == 2
    for one, other in zip(guided, plain):
        assert {i.kind for i in one.inputs} - {i.kind for i in other.inputs} == {"teacher"}
        settings = dict(one.settings["gan"])
        assert settings.pop("guidance") == 0.5 and settings.pop("guide") == "teacher"
        assert settings == other.settings["gan"]
    store = studies.reopen_study(study, show=False).store
    logged = [line for line in store.folder(guided[0]).lines() if "loss_gen" in line]
    assert logged and all(line["guidance"] > 0 for line in logged)
    assert not any("guidance" in line for line in store.folder(plain[0]).lines())


def test_the_newest_judge_can_guide_the_rounds_of_a_run(tmp_path):
    cfg = get_recipe("tiny_wgan_gp")
    cfg = replace(cfg, gan=replace(cfg.gan, guidance=1.0, guide="judge"),
                  compare=replace(cfg.compare, seeds=1, bootstrap=50))
    found = Run.open(runs.run(cfg, tmp_path / "run", show=False))
    gans = found.plan.of("gan")
    assert [sum(i.kind == "judge" for i in gan.inputs) for gan in gans] == [1, 2]
    for gan in gans:
        lines = [line for line in found.store.folder(gan).lines() if "loss_gen" in line]
        assert lines and all(line["guidance"] > 0 for line in lines)


def test_the_classifier_scores_what_the_study_says(study, model):
    told = json.loads((model / "scores.json").read_text())
    answers = read_answers(study / "answers" / "test-100.npz")
    in_study = answers.probs[answers.arms.index("guided"), told["seed"], 0]
    images, labels = rows_of_test(study)
    probs = load_classifier(model).probabilities(images)
    np.testing.assert_allclose(probs, in_study, atol=1e-6)
    assert told["test"]["accuracy"] == (in_study.argmax(1) == labels).mean()
    record = json.loads((study / "study.json").read_text())
    per_seed = next(s["per_seed"] for s in record["scores"]
                    if (s["arm"], s["metric"]) == ("guided", "accuracy"))
    assert told["test"]["accuracy"] == pytest.approx(per_seed[told["seed"]])


def test_onnx_gives_the_same_logits(study, model):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model / "model.onnx")
    images = rows_of_test(study)[0]
    for n in (1, 7, len(images)):
        logits = session.run(["logits"], {"images": images[:n]})[0]
        expected = load_classifier(model)(torch.as_tensor(images[:n])).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_predict_answers_for_files(study, model, tmp_path, capsys):
    images = rows_of_test(study)[0][:6]
    for i, image in enumerate(images): Image.fromarray(image[0]).save(tmp_path / f"{i}.png")
    out = tmp_path / "answers.csv"
    assert cli.main(["predict", str(model), str(tmp_path), "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    clf = load_classifier(model)
    probs = clf.probabilities(images)
    assert [row["file"] for row in rows] == [f"{i}.png" for i in range(6)]
    assert [row["class"] for row in rows] == [clf.classes[c] for c in probs.argmax(1)]
    found = [[float(row[f"p {c}"]) for c in clf.classes] for row in rows]
    np.testing.assert_allclose(found, probs, atol=1e-6)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    before = out.read_bytes()
    assert cli.main(["predict", str(model), str(tmp_path), "--out", str(out)]) == 2
    assert "broken.png does not decode" in capsys.readouterr().err and out.read_bytes() == before
    assert cli.main(["predict", str(model), str(tmp_path), "--out", str(out), "--skip-bad"]) == 0
    assert out.read_bytes() == before


def test_a_colour_photograph_is_prepared_as_the_training_images_were(model, tmp_path):
    from fer_synth.config import DataConfig
    from fer_synth.data.load import load_images
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    for i, place in enumerate(f"{split}/{name}" for split in ("train", "val", "test") for name in "ab"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(photo + np.uint8(i)).save(tmp_path / place / "photo.png")
    read = load_images(DataConfig(source=str(tmp_path), size=16))
    ready = load_classifier(model).prepare(tmp_path / "test" / "b" / "photo.png")
    np.testing.assert_array_equal(ready, read.part("test")[0][1])


def test_shared_images(study, capsys):
    out = study.parent / "shared"
    words = ["export", str(study), "--out", str(out), "--n", "40", "--arm", "guided", "--students", "0"]
    assert cli.main(words) == 0
    data = SharedImages(out)
    assert len(data) == 40 and data[0][0].shape == (1, 16, 16) and data[0][1].sum() == pytest.approx(1)
    real = studies.reopen_study(study, show=False).images
    known = {image.tobytes() for image in np.asarray(real.images)}
    assert not any(image.tobytes() in known for image in data.data.images)
    assert "40 generated images of 5 classes" in capsys.readouterr().out
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert cli.main(words) == 2 and "exists already" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    again = [*words[:3], str(study.parent / "again"), *words[4:]]
    assert cli.main(again) == 0
    np.testing.assert_array_equal(SharedImages(study.parent / "again").data.images, data.data.images)


def test_a_study_without_generated_images_has_nothing_to_share(tmp_path, capsys):
    cfg = replace(tiny_study(), arms=("flips",), fractions=(1.0,), seeds=1, robust_images=0)
    studies.run_study(cfg, tmp_path / "study", show=False)
    assert cli.main(["export", str(tmp_path / "study"), "--out", str(tmp_path / "x")]) == 2
    assert "no arm with generated images" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_generator_of_a_study_is_published(study):
    out = study.parent / "generator"
    assert cli.main(["publish", str(study), "--out", str(out), "--arm", "guided", "--n", "60"]) == 0
    draw = studies.reopen_study(study, show=False).plan().of("draw")
    guided = next(step for step in draw if step.seed == 0 and "guidance" in step.input("gan").settings["gan"])
    model = load_generator(out)
    assert model.facts.gan.guidance == 0.5
    pool = Pool.load(study / "steps" / guided.folder / "pool.npz")
    mine = pool.labels == 1
    seeds = pool.seeds[mine][:5]
    again = [model.draw(model.classes[1], 1, int(seed))[0] for seed in seeds]
    assert abs(np.stack(again).astype(int) - pool.images[mine][:5]).max() <= 1     # half precision
    card = (out / "README.md").read_text()
    assert "fer-synth study" not in card or str(study.parent) not in card.split("## Use")[0]
    assert json.loads((out / "measures.json").read_text())["memorisation"]["trusted"]
    assert (study.parent / "generator-nearest.png").exists()


def test_pretrained_models_are_small_and_have_cards():
    names = zoo.pretrained_names()
    assert {"cgan_drawn32", "cgan_fer32", "judge_fer32", "teacher_fer32"} <= set(names)
    sizes = {name: sum(f.stat().st_size for f in (zoo.SHIPPED / name).iterdir()) for name in names}
    assert max(sizes.values()) <= 4e6 and sum(sizes.values()) <= 14e6
    for name in names:
        card = zoo.pretrained_card(name)
        assert card.startswith(f"# {name}\n") and "Limits" in card.title()
        assert not re.search(r"/(work|tmp|home|root)/", card), name


THREE_LINES = """
import socket
def refuse(*args, **more): raise OSError("no network here")
socket.socket.connect = refuse
from fer_synth import pretrained
gan = pretrained("cgan_fer32")
gan.grid(8).save("faces.png")
import fer_synth
print(fer_synth.__file__)
"""


def test_the_wheel_draws_faces_in_three_lines_without_network(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-index", "--no-deps"]
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", source], check=True)
    built = [*pip, "wheel", *offline, "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(built, check=True, cwd=tmp_path)
    wheel = next(tmp_path.glob("fer_synth-*.whl"))
    place = tmp_path / "site"
    subprocess.run([*pip, "install", *offline, "--target", place, wheel], check=True)
    own = {**os.environ, "PYTHONPATH": str(place)}
    got = subprocess.run([sys.executable, "-c", THREE_LINES], cwd=tmp_path, env=own, text=True,
                         capture_output=True)
    assert got.returncode == 0, got.stderr
    assert Path(got.stdout.strip()).is_relative_to(place)
    faces = np.asarray(Image.open(tmp_path / "faces.png").convert("L"))
    assert faces.shape[1] == 2 * (8 * 34 - 2) and faces.std() > 30
