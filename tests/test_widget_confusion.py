"The confusion explorer: its numbers against libraries, its order against a slow one, and every control moved."
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
from fer_synth.widgets.confusion import (ConfusionExplorer, ConfusionState, cell_sentence, from_answers, hurt_classes, hurt_sentence, recalls,
                                        row_order, summary)


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


@pytest.mark.parametrize("k", [2, 7, 20])
@pytest.mark.parametrize("seed", [None, 1])
def test_matrices_are_those_of_sklearn(k, seed):
    truth, arms, classes = answers(k)
    state = ConfusionState(from_answers(truth, arms, classes), n=20)
    state.choose(seed=seed)
    parts = range(3) if seed is None else [seed]
    want = {a: sum(confusion_matrix(truth, p[s].argmax(1), labels=range(k)) for s in parts) for a, p in arms.items()}
    assert state.arms == ("augmented", "real")
    assert (state.counts("this") == want["augmented"]).all() and (state.counts("against") == want["real"]).all()
    assert (state.counts("difference") == want["augmented"] - want["real"]).all()
    rows = want["real"].sum(1, keepdims=True)
    np.testing.assert_allclose(state.shares("against"), np.where(rows > 0, want["real"] / rows.clip(1), 0), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([.1, .5, .9])), max_size=30))
def test_the_order_of_rows_is_that_of_a_slow_sort(rows):
    slow = sorted(range(len(rows)), key=lambda i: (-abs(rows[i][0] - rows[i][1]), rows[i][0] < rows[i][1], -rows[i][2], i))
    this, against, sure = zip(*rows) if rows else ((), (), ())
    assert row_order(this, against, np.array(sure, float)).tolist() == slow


def test_the_rows_of_a_cell_are_those_with_that_truth_and_that_answer():
    truth, arms, classes = answers(4, seeds=1)
    state = ConfusionState(from_answers(truth, arms, classes), n=20)
    for which, arm in (("this", "augmented"), ("against", "real")):
        state.choose(cell=(which, classes[1], classes[2]))
        assert sorted(state.decision.rows) == np.flatnonzero((truth == 1) & (arms[arm][0].argmax(1) == 2)).tolist()
        assert state.decision.hashes == tuple(f"row {i}" for i in state.decision.rows)


def test_numbers_of_a_run_agree_with_the_comparison(run):
    state, p = ConfusionState(read_predictions(run / "predictions.npz")), read_predictions(run / "predictions.npz")
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
    numbers = lambda: [b.description for g in x.grids for b in g.buttons.values()]
    for control, value in ((x.controls.seed, "1"), (x.controls.mode, "counts"), (x.controls.against, "balanced"), (x.controls.split, "val")):
        old = numbers()
        control.value = value
        assert numbers() != old, control.description
    x.controls.true.value, x.controls.said.value = "sad", "angry"
    assert x.decision.cell[1:] == ("sad", "angry") and x.decision.seed == 1 and x.decision.split == "val"
    assert x.last_error is None and widgets(x.view) == before and x.picture().size[0] > 400


def test_without_pictures_the_rows_are_listed_and_with_them_the_faces_are_shown():
    truth, arms, classes = answers(3)
    images = np.random.default_rng(0).integers(0, 256, (len(truth), 3, 16, 16), np.uint8)
    plain, rich = (ConfusionExplorer(from_answers(truth, arms, classes), images=i, n=20, threaded=False) for i in (None, images))
    for x in (plain, rich): x.grids[0].buttons[classes[0], classes[0]].click()
    row = plain.decision.rows[0]
    assert plain.decision == rich.decision and f"row {row}" in plain.faces.table.value
    assert rich.faces.grid.layout.display == "flex" and len(set(b.value for b in rich.faces.boxes)) > 1
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


def test_intervals_are_those_of_the_comparison(run):
    p = read_predictions(run / "predictions.npz")
    state = ConfusionState(p, n=400)
    state.draw()
    whole = compare_arms(p, "test", ("augmented", "real"), n=400)
    gaps = {d["metric"]: (d["mean"], d["low"], d["high"]) for d in whole["differences"]}
    for r in recalls(state):
        np.testing.assert_allclose(r["gap"], gaps[f"recall_{r['name']}"], atol=1e-6)
        for side, arm in (("this", "augmented"), ("against", "real")):
            np.testing.assert_allclose(r[side][1:], whole["arms"][arm]["interval"][f"recall_{r['name']}"], atol=1e-6)
    mean, low, high = (f"{100 * v:+.1f}".replace("-", "−") for v in gaps["accuracy"])
    assert f"{mean} points [95 % interval {low} to {high}]" in summary(state)


def test_the_interval_of_a_cell_on_the_diagonal_is_that_of_the_recall(run):
    state = ConfusionState(read_predictions(run / "predictions.npz"), n=200)
    assert "not computed yet" in cell_sentence_of(state, "sad", "sad")
    state.draw()
    for seed in (None, 2):
        state.choose(seed=seed)
        low, high = (f"{100 * v:+.1f}".replace("-", "−").replace("−0.0", "0.0").replace("+0.0", "0.0") for v in recalls(state)[4]["gap"][1:])
        assert f"[95 % interval {low} to {high}]" in cell_sentence_of(state, "sad", "sad")


def cell_sentence_of(state, true, said):
    state.choose(cell=("difference", true, said))
    return cell_sentence(state)


def planted(seeds):
    "Three classes of 400 rows: `new` says 'b' for 60 rows of 'a' more than `old`, for 2 of 'b' fewer, and gains at 'c'."
    truth, arms = np.repeat([0, 1, 2], 400), {}
    for arm, wrong in (("old", (40, 40, 100)), ("new", (100, 42, 40))):
        said = truth.copy()
        for k, n in enumerate(wrong): said[400 * k:400 * k + n] = (k + 1) % 3
        arms[arm] = np.stack([np.eye(3)[said]] * seeds)
    state = ConfusionState(from_answers(truth, arms, "abc"), n=300)
    state.draw()
    return state


def test_a_class_that_was_hurt_is_named_and_only_five_seeds_make_a_claim():
    state = planted(5)
    assert state.arms == ("new", "old") and hurt_classes(recalls(state)) == (["a"], ["b"])       # two rows are absent from one draw in seven
    assert hurt_sentence(state) == ("Hurt (whole interval of the recall difference below 0): a. "
                                    "Looks hurt (lower, but the interval reaches 0): b.")
    few = hurt_sentence(planted(3))
    assert few.startswith("Looks hurt, but is not shown: a") and "fewer than five carry no claim" in few
    state.choose(seed=0)
    assert "1 seed; fewer than five carry no claim" in hurt_sentence(state)
    state.choose(this="old", against="old")
    assert "same arm" in hurt_sentence(state)


def test_over_seeds_the_rows_come_in_the_order_of_a_slow_sort():
    truth, arms, classes = answers(3, rows=200)
    arms = {a: (np.round(p * 64) / 64)[..., :2] for a, p in arms.items()}
    arms = {a: np.concatenate([p, 1 - p.sum(2, keepdims=True)], 2) for a, p in arms.items()}       # exact in binary: sums have no order
    state = ConfusionState(from_answers(truth, arms, classes), n=20)
    state.choose(cell=("difference", classes[0], classes[1]))
    said = {a: p.astype(np.float32).argmax(2) for a, p in arms.items()}
    def key(r):
        right = [sum(int(said[a][s][r] == truth[r]) for s in range(3)) for a in ("augmented", "real")]
        sure = max(sum(float(arms[a][s][r][1]) for s in range(3)) / 3 for a in arms)
        return -abs(right[0] - right[1]), right[0] < right[1], -sure, r
    slow = sorted((r for r in range(200) if truth[r] == 0 and any(said[a][s][r] == 1 for a in arms for s in range(3))), key=key)
    assert list(state.decision.rows) == slow and len(slow) > 20


def test_pictures_are_found_by_hash_and_a_missing_one_is_said():
    truth, arms, classes = answers(2, rows=40)
    p = from_answers(truth, arms, classes, hashes=[f"h{i:02d}" for i in range(40)])
    kept = np.random.default_rng(1).permutation(np.arange(0, 40, 2))
    faces = SimpleNamespace(hashes=np.array([f"h{i:02d}" for i in kept]), images=np.full((20, 1, 8, 8), kept[:, None, None, None], np.uint8))
    x = ConfusionExplorer(p, images=faces, n=20, threaded=False)
    for i in range(40):
        image = x.pictures.of("test", i)
        assert (image is None) if i % 2 else (image == i).all()
    x.grids[0].buttons[classes[0], classes[0]].click()
    for row, box, caption in zip(x.decision.rows, x.faces.boxes, x.faces.captions):
        assert (f"no picture: h{row:02d}" in caption.value) == (box.value == confusion.BLANK) == bool(row % 2)
    assert x.last_error is None


def test_a_run_whose_source_is_not_here_lists_its_rows(tmp_path):
    run = make_records(tmp_path / "run", source="nowhere.zip")
    x = ConfusionExplorer(run, n=20, threaded=False)
    x.grids[0].buttons["sad", "sad"].click()
    assert x.pictures.tried and "rows are listed" in x.faces.words.value and x.faces.table.layout.display == "block"
    assert all(h in x.faces.table.value for h in x.decision.hashes[:24]) and x.last_error is None


def test_pages_are_turned_within_their_bounds():
    truth, arms, classes = answers(2, rows=300)
    x = ConfusionExplorer(from_answers(truth, arms, classes), images=np.zeros((300, 8, 8), np.uint8), n=20, page=10, threaded=False)
    x.grids[0].buttons[classes[0], classes[0]].click()
    rows, seen = x.decision.rows, []
    for _ in range(x.faces.pages + 2):
        seen += [] if seen and x.faces.shown[-1] == seen[-1] else x.faces.shown.tolist()
        x.faces.next.click()
    assert tuple(seen) == rows and x.faces.next.disabled and not x.faces.previous.disabled
    assert sum(c.layout.visibility == "visible" for c in x.faces.cells) == len(x.faces.shown)
    x.faces.jump.value = 2
    assert tuple(x.faces.shown) == rows[10:20]
    x.controls.seed.value = "1"
    assert x.faces.page == 0 and x.faces.jump.value == 1 and x.last_error is None


def test_work_in_a_thread_ends_where_work_at_once_does(run):
    now, later = (ConfusionExplorer(run, n=60, threaded=t) for t in (False, True))
    later.wait()
    for x in (now, later): x.grids[1].buttons["fear", "happy"].click()
    later.wait()
    assert later.hurt.value == now.hurt.value and later.recall.value == now.recall.value and later.sentence.value == now.sentence.value
    assert later.pictures.tried and later.last_error is now.last_error is None


def test_what_was_cancelled_is_not_begun_again_until_asked_for(run, monkeypatch):
    real, x = ConfusionState.draw, None
    def cancelled(self, step=lambda done, total: None): raise confusion.Cancelled()
    monkeypatch.setattr(ConfusionState, "draw", cancelled)
    x = ConfusionExplorer(run, n=20, threaded=False)
    assert x.lacking() == [] and not x.state.ready and "not computed yet" in x.summary.value and x.again.layout.display == "flex"
    monkeypatch.setattr(ConfusionState, "draw", real)
    x.controls.seed.value = "0"
    assert not x.state.ready
    x.again.click()
    assert x.state.ready and "not computed yet" not in x.summary.value and x.again.layout.display == "none" and x.last_error is None


@pytest.mark.parametrize("change", [{"seed": "1"}, {"mode": "sums"}, {"cell": ["this", "sad"]}, {"cell": "sad"}, {"this": 3}, {"rows": [1]}, {"more": 1},
                                    {"hashes": ["x"], "rows": [0]}, {"split": "train"}])
def test_a_changed_file_is_refused_and_changes_nothing(run, tmp_path, change):
    state = ConfusionState(read_predictions(run / "predictions.npz"), n=20)
    state.choose(cell=("this", "sad", "sad"))
    state.save(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(json.dumps(json.loads((tmp_path / "a.json").read_text()) | change))
    before = state.choice
    with pytest.raises(UserError, match="b.json"): state.load(tmp_path / "b.json")
    assert state.choice == before


def test_answers_that_do_not_fit_are_refused():
    truth, arms, classes = answers(3, rows=30)
    for bad, word in ((({"a": arms["real"], "b": arms["real"][:1]}), "shapes"), ({}, "no classifiers"), ({"a": arms["real"][0, :, 0]}, "shapes")):
        with pytest.raises(UserError, match=word): from_answers(truth, bad, classes)
    with pytest.raises(UserError, match="clas 1"): from_answers(["clas 1"], {"a": arms["real"][:, :1]}, classes)
    with pytest.raises(UserError, match="a/0/test"): ConfusionState(from_answers(truth, {"a": 2 * arms["real"]}, classes))
    with pytest.raises(UserError, match="There is no folder"): ConfusionExplorer("no such run")
    with pytest.raises(UserError, match="images"): ConfusionExplorer(from_answers(truth, arms, classes), images=np.zeros((3, 8, 8), np.uint8))


def test_an_unknown_choice_is_said_in_the_status_line():
    x = ConfusionExplorer(from_answers(*answers(2)), n=20, threaded=False)
    x.guard(lambda _: x.change(this="augmentd"))(None)
    assert "did you mean 'augmented'" in x.status.value.replace("&#x27;", "'") and isinstance(x.last_error, UserError)
    assert x.state.choice.this == "augmented"
