"""Students: what a stop, a longer training and another place of the images do not change, and what several
students in one wide network share with single ones."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_synth.config import ClassifierConfig
from fer_synth.data.drawn import draw_faces
from fer_synth.data.rows import Rows
from fer_synth.data.training_set import TrainingSet
from fer_synth.experiment.work import trained_classifier
from fer_synth.records import StepFolder, Stopped, StopRequest
from fer_synth.settings import UserError
from fer_synth.training import classifier, together
from fer_synth.training.classifier import Schedule, predict
from fer_synth.training.students import (
    CHOICES,
    can_lengthen,
    convergence,
    generated_in_batch,
    student_batches,
    train_student,
)
from fer_synth.training.together import train_together

CLASSES, STEPS, EVERY = ("a", "b", "c"), 8, 4


def faces(n: int, seed: int, **columns) -> TrainingSet:
    "Drawn faces of 16 pixels, in three uneven classes."
    labels = np.arange(n) % 5 % 3
    return TrainingSet(draw_faces(labels, seed, 16), labels, CLASSES, **columns)


REAL, VAL = faces(30, 0), faces(20, 1)
EXTRA = faces(24, 2, weights=np.linspace(0.5, 1.5, 24, dtype=np.float32))
EXTRA = replace(EXTRA, soft=np.random.default_rng(0).dirichlet(np.ones(3), 24).astype(np.float32))

WAYS = [*({"transform": transform} for transform in CHOICES["transform"]),
        *({"schedule": schedule} for schedule in CHOICES["schedule"][1:]),
        {"balance": "repeated"}, {"balance": "weights", "transform": "cutmix", "soft_share": 0.3}]


def arch_of(way: dict) -> str:
    return "small_resnet" if way.get("schedule") == "separate_norms" else "simple_cnn"


def rates(steps=STEPS, **settings) -> Schedule:
    return Schedule(steps, EVERY, 2e-3, **settings)


def go(folder: StepFolder, way: dict, schedule: Schedule | None = None, seed=0):
    "Train a student on real and generated faces."
    schedule = schedule or rates()
    batches = student_batches(REAL, EXTRA, 8, schedule.steps, seed, **way)
    return train_student(ClassifierConfig(arch=arch_of(way)), batches, VAL, schedule, folder, seed)


def log(folder: StepFolder) -> list[dict]:
    "The log without the time and the name of the folder."
    return [{k: v for k, v in line.items() if k not in ("seconds", "stage")} for line in folder.lines()]


def assert_equal_trainings(one: StepFolder, two: StepFolder) -> None:
    "Last weights, best weights and optimiser are equal bit for bit, and so are the logs."
    (tensors, notes), (others, same_notes) = one.load(), two.load()
    assert notes == same_notes and tensors.keys() == others.keys()
    for name in tensors: assert torch.equal(tensors[name], others[name]), name
    assert log(one) == log(two)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_stop_changes_nothing(tmp_path, monkeypatch, way):
    "Stopped between two validations and resumed, a training equals one that never stopped."
    whole, asked = StepFolder(tmp_path / "whole"), StepFolder(tmp_path / "asked").make()
    go(whole, way)
    update = classifier.update

    def asks(state, batches, step, rate):
        if step == 4: StopRequest(asked.path).ask()
        return update(state, batches, step, rate)

    monkeypatch.setattr(classifier, "update", asks)
    with pytest.raises(Stopped): go(asked, way)
    assert asked.load()[1]["step"] == 5
    monkeypatch.undo()
    go(asked, way)
    assert_equal_trainings(whole, asked)


LENGTHENED = [way for way in WAYS if can_lengthen(rates(), way.get("schedule", "mixed"))]


@pytest.mark.parametrize("way", LENGTHENED, ids=str)
def test_a_longer_training_equals_one_that_was_as_long_at_once(tmp_path, way):
    once, longer = StepFolder(tmp_path / "once"), StepFolder(tmp_path / "longer")
    go(once, way)
    go(longer, way, rates(EVERY))
    go(longer, way)
    assert_equal_trainings(once, longer)


@pytest.mark.parametrize("way", ["ramp", "pretrain", "one cycle"])
def test_what_cannot_be_lengthened_comes_out_otherwise(tmp_path, way):
    "Where `can_lengthen` says no, the longer training is another one."
    settings, cycle = {} if way == "one cycle" else {"schedule": way}, way == "one cycle"
    assert not can_lengthen(rates(one_cycle=cycle), settings.get("schedule", "mixed"))
    once, longer = StepFolder(tmp_path / "once"), StepFolder(tmp_path / "longer")
    go(once, settings, rates(one_cycle=cycle))
    go(longer, settings, rates(EVERY, one_cycle=cycle))
    go(longer, settings, rates(one_cycle=cycle))
    assert log(once)[0] != log(longer)[0]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_images_in_a_file_give_the_same_batches(tmp_path, way):
    np.save(tmp_path / "real.npy", REAL.images)
    on_disk = replace(REAL, images=Rows(np.load(tmp_path / "real.npy", mmap_mode="r")))
    memory, disk = (student_batches(real, EXTRA, 8, STEPS, 3, **way) for real in (REAL, on_disk))
    for step in range(STEPS):
        for a, b in zip(memory[step], disk[step]): assert torch.equal(a, b)
        a, b = memory.weights(step), disk.weights(step)
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1, 2, 3])
def test_each_batch_has_its_share_of_generated_images(ratio):
    for batch in (8, 128, 256):
        n = generated_in_batch("mixed", 0, 10, batch, ratio)
        assert abs(n / (batch - n) - ratio) < ratio * 0.55 * (1 + ratio) / (batch * ratio / (1 + ratio))
    batches = student_batches(REAL, EXTRA, 8, STEPS, 0, ratio=ratio)
    n = generated_in_batch("mixed", 0, STEPS, 8, ratio)
    for step in range(STEPS):
        rows = batches.rows(step)
        assert len(rows) == 8 and (rows >= len(REAL)).tolist() == [False] * (8 - n) + [True] * n


def test_arms_of_a_seed_are_shown_the_same_real_images():
    "As many real images of a batch are the same, whatever is mixed in."
    alone = student_batches(REAL, None, 4, STEPS, 7)
    mixed = student_batches(REAL, EXTRA, 8, STEPS, 7)
    for step in range(STEPS): assert torch.equal(alone[step][0], mixed[step][0][:4])


def test_the_main_norms_see_real_images_only(tmp_path):
    "At a learning rate of zero, their statistics are those of a training with the real half of each batch."
    cfg, still = ClassifierConfig(arch="small_resnet"), Schedule(3, 3, 0.0)
    inverted = replace(EXTRA, images=255 - EXTRA.images)
    both = student_batches(REAL, inverted, 8, 3, 0, schedule="separate_norms")
    half = student_batches(REAL, None, 4, 3, 0)
    folders = [StepFolder(tmp_path / name) for name in ("both", "half")]
    for batches, folder in zip((both, half), folders): train_student(cfg, batches, VAL, still, folder, 0)
    tensors, others = (folder.load()[0] for folder in folders)
    for name in (k for k in others if k.startswith("clf/")):
        torch.testing.assert_close(tensors[name], others[name], atol=1e-6, rtol=1e-5)
    auxiliary = [k for k in tensors if "auxiliary.running_mean" in k]
    assert auxiliary and not any(k.startswith("best/") for k in auxiliary)
    first = "clf/blocks.0.norm1.running_mean"
    assert not torch.allclose(tensors[first.replace("running", "auxiliary.running")], tensors[first])


def test_weights_of_classes_equal_repetition_in_expectation():
    "Over one pass of all images, each class has the same sum of weights."
    batches = student_batches(REAL, None, 30, 1, 0, balance="weights")
    weights, y = batches.weights(0), batches[0][1]
    sums = torch.stack([weights[y == c].sum() for c in range(3)])
    torch.testing.assert_close(sums, torch.full((3,), 10.0))


# ---- together --------------------------------------------------------------------------------------

ARMS = [{}, {"transform": "trivial", "ratio": 3.0}, {"transform": "mixup", "balance": "weights"},
        {"schedule": "pretrain"}]


@pytest.mark.parametrize("one_cycle", [False, True])
def test_students_together_are_as_they_are_alone(tmp_path, one_cycle):
    "Last probabilities within 1e-4 after 8 steps: rounding alone, as a wrong step would change them by 1e-2."
    cfg = ClassifierConfig()
    folders = [StepFolder(tmp_path / f"together-{i}") for i in range(4)]
    all_batches = [student_batches(REAL, EXTRA, 8, STEPS, i, **arm) for i, arm in enumerate(ARMS)]
    schedule = rates(one_cycle=one_cycle)
    trained = train_together(cfg, all_batches, VAL, schedule, folders, [0, 1, 2, 3])
    for i, (batches, folder, clf) in enumerate(zip(all_batches, folders, trained)):
        single = StepFolder(tmp_path / f"single-{i}")
        alone = train_student(cfg, batches, VAL, schedule, single, i)
        np.testing.assert_allclose(predict(clf, VAL.images), predict(alone, VAL.images), atol=1e-4)
        loaded = trained_classifier(folder, cfg, VAL)
        assert np.array_equal(predict(loaded, VAL.images), predict(clf, VAL.images))
        for a, b in zip(log(folder), log(single)):
            assert a["step"] == b["step"] and abs(a["loss"] - b["loss"]) < 1e-3
        assert convergence(folder)["steps"] == STEPS


def test_patience_ends_for_each_student_by_itself(tmp_path, monkeypatch):
    "At a rate of zero no loss falls after the first; the second student is made to be patient."
    schedule = Schedule(6, 1, 0.0, patience=2)
    batches = [student_batches(REAL, EXTRA, 8, 6, seed) for seed in range(3)]
    folders = [StepFolder(tmp_path / f"{i}") for i in range(3)]
    validate = together.validate

    def second_is_patient(state, val, folder):
        validate(state, val, folder)
        if folder is folders[1]: state.stale = 0

    monkeypatch.setattr(together, "validate", second_is_patient)
    train_together(ClassifierConfig(), batches, VAL, schedule, folders, [0, 1, 2])
    assert [len(log(folder)) for folder in folders] == [3, 6, 3]


def test_what_cannot_be_trained_together_is_refused(tmp_path):
    folders = [StepFolder(tmp_path / f"{i}") for i in range(2)]
    one, other = (student_batches(REAL, None, batch, STEPS, 0) for batch in (8, 4))
    apart = student_batches(REAL, EXTRA, 8, STEPS, 0, schedule="separate_norms")
    resnet = ClassifierConfig(arch="small_resnet", dropout=0.5)
    for cfg, batches, words in (
            (ClassifierConfig(), [one, other], "batches of [4, 8] images"),
            (ClassifierConfig(), [one], "one of each for each student"),
            (ClassifierConfig(arch="small_resnet"), [apart, apart], "separate_norms"),
            (resnet, [one, one], "dropout")):
        with pytest.raises(UserError) as error:
            train_together(cfg, batches, VAL, rates(), folders, [0, 1])
        assert words in str(error.value)
    assert not any(folder.path.exists() for folder in folders)
    with pytest.raises(UserError) as error:
        train_student(ClassifierConfig(), one, VAL, rates(STEPS + 1), folders[0], 0)
    assert "9 steps" in str(error.value)
