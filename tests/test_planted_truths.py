"The audit on data whose right answer is known, once each; tools/planted_truths.py does it many times."
import importlib.util
from pathlib import Path

import numpy as np
import pytest

spec = importlib.util.spec_from_file_location(
    "planted_truths", Path(__file__).parent.parent / "tools" / "planted_truths.py")
planted_truths = importlib.util.module_from_spec(spec)
spec.loader.exec_module(planted_truths)

pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed to converge")


@pytest.mark.parametrize("truth", planted_truths.TRUTHS)
def test_a_planted_truth_comes_out_right(truth):
    right, answer = planted_truths.repetition(truth, 0)
    assert right, answer


def test_what_is_planted_is_what_is_said():
    sets = planted_truths.cut(3)
    (train, train_labels), _, (tests, _), spare = sets
    made = {t: planted_truths.plant(t, sets, np.random.default_rng(0)) for t in planted_truths.TRUTHS}
    known = {image.tobytes(): label for image, label in zip(train, train_labels)}
    test_rows = {image.tobytes() for image in tests}
    for images, _ in spare:
        assert not any(image.tobytes() in known or image.tobytes() in test_rows for image in images)
    for g, (images, labels) in enumerate(made["wrong labels"]):
        assert (images == spare[g][0]).all() and (labels != spare[g][1]).all()
    for g, (_, labels) in enumerate(made["shuffled labels"]):
        assert (np.sort(labels) == np.sort(spare[g][1])).all() and (labels != spare[g][1]).mean() > .7
    for images, labels in made["copies of training rows"]:
        first = [known.get(image.tobytes()) for image in images[:75]]
        assert first == labels[:75].tolist()
    for images, _ in made["copies of test rows"]:
        assert sum(image.tobytes() in test_rows for image in images) == 3


def test_a_repetition_that_comes_out_wrong_is_counted_as_wrong(monkeypatch):
    "Held-back real images passed off as copies of training rows: not named as copies, so not right."
    honest = planted_truths.plant
    def swapped(truth, sets, random):
        return honest("held-back real images", sets, random)
    monkeypatch.setattr(planted_truths, "plant", swapped)
    assert not planted_truths.repetition("copies of training rows", 0)[0]
