"A run whose classifiers learn from a teacher's labels: what each arm gets, and what the report says."
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_synth import report, words
from fer_synth.data.load import load_images
from fer_synth.experiment import runs
from fer_synth.experiment.results import Run
from fer_synth.experiment.work import Job, arm_data, trained_classifier
from fer_synth.recipes import get_recipe
from fer_synth.selection.pools import Pool
from fer_synth.training.classifier import predict

ARMS = ("real", "augmented", "distilled", "soft", "distilled+soft")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "A finished run of one seed, and a job to look into it."
    cfg = get_recipe("tiny_wgan_gp")
    cfg = replace(cfg, teacher=replace(cfg.teacher, arch="simple_cnn", dropout=0.0, epochs=3.0, batch=32),
                  compare=replace(cfg.compare, arms=ARMS, seeds=1, bootstrap=50, hard_share=0.25))
    run = Run.open(runs.run(cfg, tmp_path_factory.mktemp("taught") / "run", show=False))
    return run, Job(run.cfg, run.plan, run.store, load_images(cfg.data), torch.device("cpu"), False)


def learned(found, arm):
    "What the student of an arm learned from."
    run, job = found
    return arm_data(job, run.plan[f"student-{arm}-0"], 0)


def teacher_of(found):
    run, job = found
    return trained_classifier(run.store.folder(run.plan["teacher"]), run.cfg.teacher, job.real)


def test_real_rows_get_their_class_and_the_teachers_answer(found):
    real = found[1].real
    data, extra = learned(found, "distilled")
    expected = 0.25 * np.eye(5)[real.labels] + 0.75 * predict(teacher_of(found), real.images)
    np.testing.assert_allclose(data.soft, expected, atol=1e-6)
    assert extra == 0 and len(data) == len(real)


@pytest.mark.parametrize("arm", ["soft", "distilled+soft"])
def test_no_generated_image_is_dropped_and_the_teacher_labels_all(found, arm):
    run, job = found
    pool = Pool.load(run.store.folder(run.plan["pool-2"]) / "pool.npz")
    data, extra = learned(found, arm)
    assert extra == len(pool.labels) and len(data) == len(job.real) + extra
    np.testing.assert_array_equal(np.asarray(data.images[-extra:]), pool.images)
    np.testing.assert_allclose(data.soft[-extra:], predict(teacher_of(found), pool.images), atol=1e-6)
    is_hard = np.array_equal(data.soft[:-extra], np.eye(5, dtype=np.float32)[job.real.labels])
    assert is_hard == (arm == "soft")


def test_arms_that_share_a_training_set_in_part_begin_alike(found):
    run = found[0]
    steps = {run.plan[f"student-{arm}-0"].settings["seed"] for arm in ARMS}
    lengths = [run.store.folder(run.plan[f"student-{arm}-0"]).lines()[-1]["step"] for arm in ARMS]
    assert len(steps) == 1 and len(set(lengths)) == 1


def test_the_report_names_every_use(found):
    run = found[0]
    page = report.make_report(run.folder.path).read_text()
    for text in ("the teacher&#39;s labels", "distilled+soft", "What to try next", "fer-synth study"):
        assert text in page, text
    metrics = run.folder.read("metrics.json")
    pairs = {(d["arm"], d["against"]) for d in metrics["differences"]}
    assert ("distilled+soft", "distilled") in pairs and ("soft", "real") in pairs
    marked = metrics["unfinished"]
    assert set(marked) <= set(ARMS) and all(n == 1 for n in marked.values())
    assert bool(words.unfinished_sentence(metrics)) == bool(marked)
