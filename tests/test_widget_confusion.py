"The confusion explorer: numbers against libraries, the order against a slow one, and every control moved."
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import make_records
from sklearn.metrics import confusion_matrix

from fer_synth.config import UserError
from fer_synth.evaluation.compare import compare_arms, read_predictions
from fer_synth.widgets import confusion
from fer_synth.widgets.confusion import ConfusionExplorer
from fer_synth.widgets.confusion_state import (ConfusionState, cell_sentence, from_answers, lower_recall,
                                               recall_sentence, recalls, row_order, summary)
from fer_synth.widgets.kit import Cancelled

once = pytest.mark.once


def answers(k: int, rows: int = 120, seeds: int = 3, seed: int = 0):
    "Probabilities of two arms (S, T, K), and the truth."
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=rows)
    def arm(skill):
        logits = rng.normal(0, 1, (seeds, rows, k))
        logits[:, np.arange(rows), truth] += skill
        return np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return truth, {"real": arm(.8), "augmented": arm(1.1)}, [f"class {i}" for i in range(k)]


@pytest.fixture(scope="module")
def run(tmp_path_factory): return make_records(tmp_path_factory.mktemp("records") / "run")


@once
@pytest.mark.parametrize("k", [2, 7, 20])
@pytest.mark.parametrize("seed", [None, 1])
def test_matrices_are_those_of_sklearn(k, seed):
    truth, arms, classes = answers(k)
    state = ConfusionState(from_answers(truth, arms, classes), n=20)
    state.choose(seed=seed)
    parts = range(3) if seed is None else [seed]
    def matrix(p): return sum(confusion_matrix(truth, p[s].argmax(1), labels=range(k)) for s in parts)
    real, augmented = matrix(arms["real"]), matrix(arms["augmented"])
    assert state.arms == ("augmented", "real")
    assert (state.counts("this") == augmented).all() and (state.counts("against") == real).all()
    assert (state.counts("difference") == augmented - real).all()
    rows = real.sum(1, keepdims=True)
    shares = np.where(rows > 0, real / rows.clip(1), 0)
    np.testing.assert_allclose(state.shares("against"), shares, atol=1e-12)


@once
def test_a_class_without_test_rows_has_an_empty_row_and_intervals_all_the_same():
    truth, arms, classes = answers(3)
    state = ConfusionState(from_answers(np.where(truth == 2, 0, truth), arms, classes), n=20)
    state.draw()
    assert state.counts("this")[2].sum() == 0 and recalls(state)[2]["gap"] == (0, 0, 0)


@once
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([.1, .5, .9])), max_size=30))
def test_the_order_of_rows_is_that_of_a_slow_sort(rows):
    def key(i):
        this, against, sure = rows[i]
        return -abs(this - against), this < against, -sure, i
    slow = sorted(range(len(rows)), key=key)
    this, against, sure = zip(*rows) if rows else ((), (), ())
    assert row_order(this, against, np.array(sure, float)).tolist() == slow


@once
def test_the_rows_of_a_cell_are_those_of_its_true_and_predicted_class():
    truth, arms, classes = answers(4, seeds=1)
    state = ConfusionState(from_answers(truth, arms, classes), n=20)
    for which, arm in (("this", "augmented"), ("against", "real")):
        state.choose(cell=(which, classes[1], classes[2]))
        slow = np.flatnonzero((truth == 1) & (arms[arm][0].argmax(1) == 2)).tolist()
        assert sorted(state.decision.rows) == slow
        assert state.decision.hashes == tuple(f"row {i}" for i in state.decision.rows)


@once
def test_numbers_of_a_run_agree_with_the_comparison(run):
    p = read_predictions(run / "predictions.npz")
    state = ConfusionState(p)
    whole = compare_arms(p, "test", n=50)
    for which, arm in (("this", "augmented"), ("against", "real")):
        assert state.counts(which).tolist() == whole["arms"][arm]["confusion"]


def test_every_control_moves_the_view_and_nothing_is_rebuilt(run):
    x = ConfusionExplorer(run, n=50, threaded=False)
    def widgets(w): return [w, *(d for c in getattr(w, "children", ()) for d in widgets(c))]
    before, seen = widgets(x.view), set()
    for button in x.grids[2].buttons.values():
        button.click()
        assert button.description.startswith("[") and "fer-chosen" in button._dom_classes
        seen.add(x.sentence.value)
    assert len(seen) == len(x.grids[2].buttons)
    def numbers(): return [b.description for g in x.grids for b in g.buttons.values()]
    for control, value in ((x.controls.seed, "1"), (x.controls.mode, "counts"),
                           (x.controls.against, "balanced"), (x.controls.split, "val")):
        old = numbers()
        control.value = value
        assert numbers() != old, control.description
    x.controls.true.value, x.controls.predicted.value = "sad", "angry"
    assert x.decision.cell[1:] == ("sad", "angry") and x.decision.seed == 1 and x.decision.split == "val"
    assert x.last_error is None and widgets(x.view) == before and x.picture().size[0] > 400


def test_without_images_the_rows_are_listed_and_with_them_the_images_are_shown():
    truth, arms, classes = answers(3)
    images = np.random.default_rng(0).integers(0, 256, (len(truth), 3, 16, 16), np.uint8)
    p = from_answers(truth, arms, classes)
    plain, rich = (ConfusionExplorer(p, images=given, n=20, threaded=False) for given in (None, images))
    for x in (plain, rich): x.grids[0].buttons[classes[0], classes[0]].click()
    row = plain.decision.rows[0]
    assert plain.decision == rich.decision and f"row {row}" in plain.images.table.value
    assert rich.images.grid.layout.display == "flex" and len(set(b.value for b in rich.images.boxes)) > 1
    assert plain.last_error is rich.last_error is None


def test_a_choice_can_be_saved_and_loaded_and_a_bad_file_is_named(tmp_path):
    p = from_answers(*answers(3))
    x = ConfusionExplorer(p, n=20, threaded=False)
    x.controls.seed.value = "2"
    x.grids[1].buttons["class 2", "class 0"].click()
    x.save(tmp_path / "choice.json")
    y = ConfusionExplorer(p, n=20, threaded=False)
    y.load(tmp_path / "choice.json")
    assert y.decision == x.decision and y.decision.rows
    (tmp_path / "bad.json").write_text("{")
    other = ConfusionState(from_answers(*answers(2)), n=20)
    for state, file in ((y, "bad.json"), (y, "none.json"), (other, "choice.json")):
        with pytest.raises(UserError, match=file): state.load(tmp_path / file)


def test_many_classes_are_shown_one_matrix_at_a_time():
    truth, arms, classes = answers(20, rows=400)
    x = ConfusionExplorer(from_answers(truth, arms, classes), n=20, threaded=False)
    assert len(x.grids) == 1
    first = [b.description for b in x.grids[0].buttons.values()]
    x.controls.matrix.value = "difference"
    assert [b.description for b in x.grids[0].buttons.values()] != first and x.last_error is None


@once
def test_intervals_are_those_of_the_comparison(run):
    p = read_predictions(run / "predictions.npz")
    state = ConfusionState(p, n=400)
    state.draw()
    whole = compare_arms(p, "test", ("augmented", "real"), n=400)
    gaps = {d["metric"]: (d["mean"], d["low"], d["high"]) for d in whole["differences"]}
    for r in recalls(state):
        np.testing.assert_allclose(r["gap"], gaps[f"recall_{r['name']}"], atol=1e-6)
        for side, arm in (("this", "augmented"), ("against", "real")):
            interval = whole["arms"][arm]["interval"][f"recall_{r['name']}"]
            np.testing.assert_allclose(r[side][1:], interval, atol=1e-6)
    mean, low, high = (f"{100 * v:+.1f}".replace("-", "−") for v in gaps["accuracy"])
    assert f"{mean} points [95 % interval {low} to {high}]" in summary(state)


@once
def test_the_interval_of_a_cell_on_the_diagonal_is_that_of_the_recall(run):
    state = ConfusionState(read_predictions(run / "predictions.npz"), n=200)
    assert "not computed yet" in cell_sentence_of(state, "sad", "sad")
    state.draw()
    for seed in (None, 2):
        state.choose(seed=seed)
        low, high = (printed(v) for v in recalls(state)[4]["gap"][1:])
        assert f"[95 % interval {low} to {high}]" in cell_sentence_of(state, "sad", "sad")


def printed(share):
    "A share in points: a real minus, and no sign where it is zero."
    return f"{100 * share:+.1f}".replace("-", "−").replace("−0.0", "0.0").replace("+0.0", "0.0")


def cell_sentence_of(state, true, predicted):
    state.choose(cell=("difference", true, predicted))
    return cell_sentence(state)


def planted(seeds):
    "400 rows of each class: `new` loses 60 rows of 'a' and 2 of 'b' that `old` has right, and gains at 'c'."
    truth, arms = np.repeat([0, 1, 2], 400), {}
    for arm, wrong in (("old", (40, 40, 100)), ("new", (100, 42, 40))):
        predicted = truth.copy()
        for k, n in enumerate(wrong): predicted[400 * k:400 * k + n] = (k + 1) % 3
        arms[arm] = np.stack([np.eye(3)[predicted]] * seeds)
    state = ConfusionState(from_answers(truth, arms, "abc"), n=300)
    state.draw()
    return state


@once
def test_a_class_with_lower_recall_is_named_and_fewer_than_five_seeds_are_too_few():
    state = planted(5)
    assert state.arms == ("new", "old")
    assert lower_recall(recalls(state)) == (["a"], ["b"])       # two rows are absent from one draw in seven
    assert recall_sentence(state) == ("Recall is lower (whole interval of the difference below 0): a. "
                                      "It may be lower (the interval reaches 0): b.")
    few = recall_sentence(planted(3))
    assert few.startswith("Lower recall: a (whole interval below 0); b (")
    assert "3 seeds: too few for a conclusion" in few
    state.choose(seed=0)
    assert "1 seed: too few for a conclusion" in recall_sentence(state)
    state.choose(this="old", against="old")
    assert "same arm" in recall_sentence(state)


@once
def test_over_seeds_the_rows_come_in_the_order_of_a_slow_sort():
    truth, arms, classes = answers(3, rows=200)
    arms = {a: (np.round(p * 64) / 64)[..., :2] for a, p in arms.items()}
    # Exact in binary, so that sums have no order.
    arms = {a: np.concatenate([p, 1 - p.sum(2, keepdims=True)], 2) for a, p in arms.items()}
    state = ConfusionState(from_answers(truth, arms, classes), n=20)
    state.choose(cell=("difference", classes[0], classes[1]))
    predicted = {a: p.astype(np.float32).argmax(2) for a, p in arms.items()}
    def key(r):
        this, against = (sum(int(predicted[a][s][r] == truth[r]) for s in range(3))
                         for a in ("augmented", "real"))
        sure = max(sum(float(arms[a][s][r][1]) for s in range(3)) / 3 for a in arms)
        return -abs(this - against), this < against, -sure, r
    def in_cell(r): return truth[r] == 0 and any(predicted[a][s][r] == 1 for a in arms for s in range(3))
    slow = sorted((r for r in range(200) if in_cell(r)), key=key)
    assert list(state.decision.rows) == slow and len(slow) > 20


def test_images_are_found_by_hash_and_a_missing_one_is_mentioned():
    truth, arms, classes = answers(2, rows=40)
    p = from_answers(truth, arms, classes, hashes=[f"h{i:02d}" for i in range(40)])
    kept = np.random.default_rng(1).permutation(np.arange(0, 40, 2))
    images = np.full((20, 1, 8, 8), kept[:, None, None, None], np.uint8)
    given = SimpleNamespace(hashes=np.array([f"h{i:02d}" for i in kept]), images=images)
    x = ConfusionExplorer(p, images=given, n=20, threaded=False)
    for i in range(40):
        image = x.pictures.of("test", i)
        assert (image is None) if i % 2 else (image == i).all()
    x.grids[0].buttons[classes[0], classes[0]].click()
    for row, box, caption in zip(x.decision.rows, x.images.boxes, x.images.captions):
        assert (f"no image: h{row:02d}" in caption.value) == (box.value == confusion.BLANK) == bool(row % 2)
    assert x.last_error is None


def test_a_run_whose_source_is_not_here_lists_its_rows(tmp_path):
    run = make_records(tmp_path / "run", source="nowhere.zip")
    x = ConfusionExplorer(run, n=20, threaded=False)
    x.grids[0].buttons["sad", "sad"].click()
    pool = x.images
    assert x.pictures.tried and "rows are listed" in pool.words.value and pool.table.layout.display == "block"
    assert all(h in pool.table.value for h in x.decision.hashes[:24]) and x.last_error is None


def test_pages_are_turned_within_their_bounds():
    truth, arms, classes = answers(2, rows=300)
    p, images = from_answers(truth, arms, classes), np.zeros((300, 8, 8), np.uint8)
    x = ConfusionExplorer(p, images=images, n=20, page=10, threaded=False)
    x.grids[0].buttons[classes[0], classes[0]].click()
    pool, rows, seen = x.images, x.decision.rows, []
    for _ in range(pool.pages + 2):
        seen += [] if seen and pool.shown[-1] == seen[-1] else pool.shown.tolist()
        pool.next.click()
    assert tuple(seen) == rows and pool.next.disabled and not pool.previous.disabled
    assert sum(c.layout.visibility == "visible" for c in pool.cells) == len(pool.shown)
    pool.jump.value = 2
    assert tuple(pool.shown) == rows[10:20]
    x.controls.seed.value = "1"
    assert pool.page == 0 and pool.jump.value == 1 and x.last_error is None


def test_work_in_a_thread_ends_where_work_at_once_does(run):
    now, later = (ConfusionExplorer(run, n=60, threaded=t) for t in (False, True))
    later.wait()
    for x in (now, later): x.grids[1].buttons["fear", "happy"].click()
    later.wait()
    assert later.lower_recall.value == now.lower_recall.value and later.recall.value == now.recall.value
    assert later.sentence.value == now.sentence.value
    assert later.pictures.tried and later.last_error is now.last_error is None


def test_what_was_cancelled_is_not_begun_again_until_asked_for(run, monkeypatch):
    real, x = ConfusionState.draw, None
    def cancelled(self, step=None): raise Cancelled()
    monkeypatch.setattr(ConfusionState, "draw", cancelled)
    x = ConfusionExplorer(run, n=20, threaded=False)
    assert x.lacking() == [] and not x.state.ready
    assert "not computed yet" in x.summary.value and x.again.layout.display == "flex"
    monkeypatch.setattr(ConfusionState, "draw", real)
    x.controls.seed.value = "0"
    assert not x.state.ready
    x.again.click()
    assert x.state.ready and "not computed yet" not in x.summary.value
    assert x.again.layout.display == "none" and x.last_error is None


@once
@pytest.mark.parametrize("change", [{"seed": "1"}, {"mode": "sums"}, {"cell": ["this", "sad"]},
                                    {"cell": "sad"}, {"this": 3}, {"rows": [1]}, {"more": 1},
                                    {"hashes": ["x"], "rows": [0]}, {"split": "train"}])
def test_a_changed_file_is_refused_and_changes_nothing(run, tmp_path, change):
    state = ConfusionState(read_predictions(run / "predictions.npz"), n=20)
    state.choose(cell=("this", "sad", "sad"))
    state.save(tmp_path / "a.json")
    saved = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(saved | change))
    before = state.choice
    with pytest.raises(UserError, match="b.json"): state.load(tmp_path / "b.json")
    assert state.choice == before


def test_answers_that_do_not_fit_are_refused():
    truth, arms, classes = answers(3, rows=30)
    real = arms["real"]
    for bad, word in (({"a": real, "b": real[:1]}, "shapes"), ({}, "no classifiers"),
                      ({"a": real[0, :, 0]}, "shapes")):
        with pytest.raises(UserError, match=word): from_answers(truth, bad, classes)
    with pytest.raises(UserError, match="clas 1"): from_answers(["clas 1"], {"a": real[:, :1]}, classes)
    twice, whole = from_answers(truth, {"a": 2 * real}, classes), from_answers(truth, arms, classes)
    with pytest.raises(UserError, match="a/0/test"): ConfusionState(twice)
    with pytest.raises(UserError, match="There is no folder"): ConfusionExplorer("no such run")
    three = np.zeros((3, 8, 8), np.uint8)
    with pytest.raises(UserError, match="images"): ConfusionExplorer(whole, images=three)


def test_an_unknown_choice_is_told_in_the_status_line():
    x = ConfusionExplorer(from_answers(*answers(2)), n=20, threaded=False)
    x.guard(lambda _: x.change(this="augmentd"))(None)
    assert "did you mean 'augmented'" in x.status.value.replace("&#x27;", "'")
    assert isinstance(x.last_error, UserError)
    assert x.state.choice.this == "augmented"
