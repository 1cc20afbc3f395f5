"What the notebooks of the audit do not show: other kinds of input, sizes, the small network, odd cases."
import warnings

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fer_synth.audit import audit
from fer_synth.data.drawn import draw_faces
from fer_synth.data.images import ImageSet
from fer_synth.data.training_set import TrainingSet
from fer_synth.evaluation.memorisation import memorisation
from fer_synth.evaluation.robustness import CORRUPTIONS, corrupt
from fer_synth.experiment.audit import (audit_data, as_fit, arm_rows, cnn_fit, row_budget, run_audit, verdict,
                                        with_random_state)
from fer_synth.settings import UserError

QUICK = {"corruptions": (), "check_labels": False}


def faces(n, seed, size=16, channels=1):
    labels = np.arange(n) % 5
    return draw_faces(labels, seed, size, .2, channels), labels


def sets(size=16, channels=1):
    return [faces(n, seed, size, channels) for n, seed in ((60, 1), (50, 2), (100, 3))]


@pytest.mark.parametrize("size, channels", [(16, 1), (16, 3), (64, 1), (64, 3)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_at_every_size(name, size, channels):
    images = faces(12, 5, size, channels)[0]
    worse = [corrupt(images, name, s, seed=1) for s in range(6)]
    far = [np.square(w.astype(float) - images).mean() for w in worse]
    assert far[0] == 0 and (np.diff(far) > 0).all(), far
    assert all(w.dtype == np.uint8 and w.shape == images.shape for w in worse)
    assert (corrupt(images[3:4], name, 4, seed=1) == worse[4][3:4]).all()


def test_an_image_set_gives_its_splits_and_names():
    images, labels = faces(200, 1)
    split = np.repeat(["train", "val", "test"], (100, 50, 50))
    whole = ImageSet.from_arrays(images, labels, classes=("a", "b", "c", "d", "e"), split=split, size=16)
    data = audit_data(whole, None, None, faces(20, 9))
    assert data.classes == ("a", "b", "c", "d", "e") and len(data.val) == 50
    assert (data.train.images == whole.part("train")[0]).all()
    other = TrainingSet(*faces(20, 9), classes=("b", "a", "c", "d", "e"))
    with pytest.raises(UserError, match="one order"): audit_data(whole, None, None, other)


def test_floats_of_all_sets_are_read_by_one_rule_and_bytes_stay():
    train, val, test = sets()
    halved = (train[0] / 510, train[1])                  # up to 0.5 only
    data = audit_data(halved, val, (test[0] / 255, test[1]), faces(20, 9))
    assert (data.test.images == test[0]).all() and (data.val.images == val[0]).all()
    assert np.abs(data.train.images - train[0] / 2).max() <= .5


@pytest.mark.parametrize("generated, reason", [
    ((faces(20, 9)[0],), "pair of images and labels"),
    (faces(20, 9, 32), "bring all to one size"),
    ((faces(20, 9)[0], np.full(20, 7)), "has the label '7'"),
    ((faces(20, 9)[0], np.arange(19) % 5), "20 images and 19 labels"),
    ((faces(20, 9)[0], np.full((20, 5), .3)), "do not add up to 1"),
    (None, "There are no generated images"),
])
def test_generated_images_that_do_not_fit(generated, reason):
    with pytest.raises(UserError, match=reason): audit(*sets(), generated, LogisticRegression(), **QUICK)


def test_seeds_and_sets_must_agree():
    with pytest.raises(UserError, match="one for each seed"):
        audit(*sets(), [faces(20, 9), faces(20, 10)], LogisticRegression(), seeds=3, **QUICK)


def test_a_mirrored_or_noised_test_image_is_not_refused_but_said():
    train, val, test = sets()
    noise = np.random.default_rng(0).normal(0, 2, test[0].shape)
    generated = np.clip(test[0] + noise, 0, 255).astype(np.uint8), test[1]
    found = audit(train, val, test, generated, DummyClassifier(), **QUICK)
    words = "100 of 100 generated images are near-copies of test images"
    assert any(words in text for text in found.study["warnings"])


def test_exact_copies_of_training_images_are_named():
    train, val, test = sets()
    more = faces(20, 9)
    generated = np.concatenate([more[0], train[0][7:9]]), np.concatenate([more[1], train[1][7:9]])
    always = DummyClassifier(strategy="constant", constant=0)
    found = audit(train, val, test, generated, always, **QUICK)
    assert any("2 generated images are exact copies of training images (rows 20, 21)" in w
               for w in found.study["warnings"])
    assert any("same answers for every seed" in w for w in found.study["warnings"])
    assert found.verdict == "not shown"


def test_estimators_get_the_seed_and_may_lack_probabilities():
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    assert with_random_state(pipe, 2 ** 33 + 5).get_params()["logisticregression__random_state"] == 5
    data = audit_data(*sets(), faces(20, 9))
    probs = as_fit(LinearSVC(), data)[0](data.train.images, np.eye(5)[data.train.labels], 0)(data.test.images)
    assert set(np.unique(probs)) == {0, 1} and (probs.sum(1) == 1).all()


def test_a_classifier_that_gives_no_probabilities_is_named_with_its_arm():
    def broken(images, labels, seed): return lambda new: np.full((len(new), 5), .5)
    with pytest.raises(UserError, match="Arm 'real', seed 0, val"):
        audit(*sets(), faces(20, 9), broken, **QUICK)


def test_the_small_network_takes_soft_labels_and_says_where_it_was_best():
    data = audit_data(*sets(), (faces(20, 9)[0], np.full((20, 5), .2)))
    rows = arm_rows("generated", data, 0, row_budget(data))
    answer = cnn_fit(data.val, steps=20, batch=16)(rows.images, rows.targets, 1)
    assert answer(data.test.images).shape == (100, 5) and answer.best_step in range(1, 21)
    fit = cnn_fit(data.val, steps=10, batch=16)
    study, _ = run_audit(data, fit, seeds=1, **QUICK)
    assert study["steps"] == 10 and len(study["convergence"]) == len(study["arms"])
    assert verdict(study) in ("helps", "harms", "not shown")


def test_training_sets_far_apart_in_rows_have_equal_budgets():
    train, val, test = sets()
    rare = np.r_[np.flatnonzero(train[1] < 4), np.flatnonzero(train[1] == 4)[:1]]
    data = audit_data((train[0][rare], train[1][rare]), val, test, faces(7, 9))
    budget = row_budget(data)
    counts = {name: arm_rows(name, data, 0, budget).counts for name in ("real", "balanced", "generated")}
    assert {c.sum() for c in counts.values()} == {budget} and np.ptp(counts["balanced"]) == 0
    assert budget == 60                     # five classes of twelve


def test_copies_of_flat_or_tiny_images_do_not_break_the_search():
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (40, 1, 8, 8), np.uint8)
    train[0] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = memorisation(train[:3], train, random.integers(0, 256, (20, 1, 8, 8), np.uint8))
    assert found["near_copies"] == 3 and found["trusted"]
