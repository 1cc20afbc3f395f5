"Widgets take the arrays of any project as they are, and name what cannot be meant."
import numpy as np
import pytest

from fer_synth.settings import UserError
from fer_synth.widgets.browser import ImageBrowser
from fer_synth.widgets.confusion import ConfusionExplorer
from fer_synth.widgets.tuner import ThresholdTuner

RANDOM = np.random.default_rng(0)
NAMES = ("ash", "elm", "oak")
LABELS = np.arange(90) % 3
IMAGES = RANDOM.integers(0, 256, (90, 12, 12, 3)).astype(np.uint8)
LOGITS = RANDOM.normal(0, 1, (90, 3)) + 2 * np.eye(3)[LABELS]
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def test_images_and_labels_are_browsed():
    browser = ImageBrowser(IMAGES, [NAMES[c] for c in LABELS], probs=PROBS, threaded=False)
    assert browser.classes == NAMES and browser.state.table.image(4).shape == (3, 12, 12)
    np.testing.assert_array_equal(browser.state.table.image(4), IMAGES[4].transpose(2, 0, 1))
    browser.filter(label="elm", low=0.5)
    rows = browser.state.list[:, 0]
    assert (LABELS[rows] == 1).all() and (PROBS[rows, 1] >= 0.4999).all() and len(rows)
    grey = ImageBrowser(IMAGES[..., 0] / 255, LABELS, threaded=False)
    shown = grey.state.table.image(0)[0].astype(int)
    assert grey.classes == ("0", "1", "2") and abs(shown - IMAGES[0, ..., 0]).max() <= 1


def test_probabilities_and_labels_are_tuned_without_pictures():
    tuner = ThresholdTuner(PROBS, LABELS, validation=(PROBS, LABELS), classes=NAMES)
    tuner.state.move_all(0.8)
    facts = tuner.state.facts()
    for c, name in enumerate(NAMES):
        assert facts[name]["passed"] == (np.round(PROBS[LABELS == c, c], 6) >= 0.8).sum()
    passing = PROBS[:, 1] >= 0.8
    assert facts["elm"]["val_precision"] == pytest.approx((LABELS[passing] == 1).mean())
    assert tuner.last_error is None and "arrays" in tuner.compare.line.value


def test_true_classes_and_several_classifiers_are_compared():
    other = np.roll(PROBS, 1, 1)
    both = {"mine": PROBS, "turned": other}
    explorer = ConfusionExplorer(LABELS, both, classes=NAMES, n=20, threaded=False)
    assert explorer.classes == NAMES and set(explorer.state.p.arms) == {"mine", "turned"}
    seeds = np.stack([PROBS, other])
    assert len(ConfusionExplorer(LABELS, {"two": seeds}, n=20, threaded=False).state.p.seeds) == 2


@pytest.mark.parametrize("probs, told", [
    (LOGITS, "look like logits"), (PROBS[:9], "has the shape"), (PROBS[:, :2], "add|shape"),
    (np.where(LOGITS > 3, np.nan, PROBS), "are no numbers")])
def test_what_is_no_probability_is_named(probs, told):
    for make in (lambda: ThresholdTuner(probs, LABELS, classes=NAMES),
                 lambda: ConfusionExplorer(LABELS, {"mine": probs}, classes=NAMES),
                 lambda: ImageBrowser(IMAGES, LABELS, probs=probs, classes=NAMES)):
        with pytest.raises(UserError, match=told): make()


def test_what_is_missing_is_named():
    with pytest.raises(UserError, match="class of each image"): ImageBrowser(IMAGES)
    with pytest.raises(UserError, match="dictionary of classifiers"): ConfusionExplorer(LABELS)
    with pytest.raises(UserError, match="'ivy'"): ImageBrowser(IMAGES[:1], ["ivy"], classes=NAMES)
