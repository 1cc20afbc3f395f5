"The threshold tuner: numbers against a slow reference, history, rule files, and every control of the view."
import io
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from records import make_records
from run_files import checkpoints, step_name
from run_files import validation as validation_file

from fer_synth.config import SelectionConfig, UserError
from fer_synth.selection.pools import write_validation
from fer_synth.selection.rules import SelectionRule
from fer_synth.selection.scores import class_scores, fit_temperature
from fer_synth.widgets import tuner_charts as charts
from fer_synth.widgets import tuner_state as ts
from fer_synth.widgets.kit import Candidates, from_arrays, tile
from fer_synth.widgets.tuner import ThresholdTuner
from fer_synth.widgets.tuner_state import TunerState, as_source

CLASSES = ("angry", "a class with a rather long name", "sad")
once = pytest.mark.once
few = settings(max_examples=50, deadline=None, derandomize=True)
LINE = st.integers(0, 20).map(lambda v: v / 20)     # a coarse grid makes exact hits common


def probabilities(rng, truth, k, skill=1.5):
    logits = rng.normal(0, 1.2, (len(truth), k))
    logits[np.arange(len(truth)), truth] += skill
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.round(p * 40) / 40 + 1e-9     # coarse, so that scores tie and meet the line exactly


def table(n=90, k=3, seed=0, size=8, channels=1, rounds=1, **others):
    rng = np.random.default_rng(seed)
    names = CLASSES if k == 3 else tuple(f"class {i}" for i in range(k))
    intended = rng.integers(0, k, n)
    images = rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    probs, numbers = probabilities(rng, intended, k), rng.integers(1, rounds + 1, n)
    return from_arrays(images, intended, names, probs, round=numbers, **others)


def validation(k=3, m=120, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, m)
    return probabilities(rng, truth, k, 2), truth


def counts(pool): return {c: 10 + 25 * i for i, c in enumerate(pool.classes)}


def state(clock=None, **options):
    pool = table(**options)
    return TunerState(as_source(pool, validation(len(pool.classes)), counts(pool)), clock or Ticks())


class Ticks:
    "A clock that moves by hand."
    now = 0.0
    def __call__(self): return self.now


def pixels(box): return np.asarray(Image.open(io.BytesIO(box.value)).convert("RGB"))


def open_tuner(pool=None, **options):
    "A tuner that draws at once."
    pool = pool if pool is not None else table()
    given = {"validation": validation(len(pool.classes)), "real_counts": counts(pool), **options}
    shown = ThresholdTuner(pool, **given)
    shown.redraw.seconds = 0
    return shown


# ---- numbers against a slow reference ----------------------------------------------------------------------

def ratio(a, b): return a / b if b else None


def slow_facts(s, pool, given):
    "What `facts` has to be, image by image."
    probs, truth = given
    largest, found = max(counts(pool).values()), {}
    for k, c in enumerate(pool.classes):
        line, real = s.rule.thresholds[c], counts(pool)[c]
        mine = [i for i in range(len(pool)) if pool.intended[i] == k and pool.round[i] == s.round]
        high = [i for i in mine if round(float(pool.scores["confidence"][i]), 6) >= line]
        passed = len([i for i in high if pool.images[i].max() > pool.images[i].min()])
        quota = max(0, (s.rule.target or largest) - real)
        rows = [j for j in range(len(truth)) if round(float(probs[j, k]), 6) >= line]
        hits = len([j for j in rows if truth[j] == k])
        kept = min(passed, quota)
        found[c] = dict(real=real, quota=quota, made=len(mine), passed=passed, kept=kept, val_rows=len(rows),
                        share=ratio(passed, len(mine)), val_precision=ratio(hits, len(rows)),
                        val_recall=ratio(hits, (truth == k).sum()), expected=real + kept)
    return found


@once
@few
@given(st.lists(LINE, min_size=3, max_size=3), st.integers(0, 90), st.integers(0, 60), st.integers(1, 3),
       st.integers(0, 50))
def test_facts_are_those_of_counting_one_by_one(lines, n, target, rounds, m):
    pool, given_rows = table(max(1, n), rounds=rounds, seed=n), validation(m=m)
    pool.images[::7] = 128     # blank
    s = TunerState(as_source(pool, given_rows, counts(pool)))
    for c, v in zip(pool.classes, lines): s.move(c, v)
    s.aim(target)
    facts = s.facts()
    for c, e in slow_facts(s, pool, given_rows).items():
        if m: assert {k: v for k, v in facts[c].items() if k in e} == pytest.approx(e)
        else: assert e["val_precision"] is facts[c]["val_precision"] is None
        for k in ("passed", "kept", "expected"): assert facts[c][k] == e[k]


@once
@few
@given(LINE, st.integers(1, 12), st.integers(0, 4))
def test_borderline_images_are_the_nearest_on_both_sides(line, k, seed):
    s = state(seed=seed)
    pool, name = s.known.source.table, CLASSES[1]
    s.move(name, line)
    score = np.round(pool.scores["confidence"], 6)
    mine = pool.intended == 1
    above, below = s.borderline(name, k)
    assert score[above].tolist() == sorted(score[mine & (score >= line)].tolist())[:k]
    assert score[below].tolist() == sorted(score[mine & (score < line)].tolist(), reverse=True)[:k]
    assert mine[above].all() and mine[below].all()


@once
def test_borderline_rows_belong_to_the_round_that_is_shown():
    s = state(rounds=3)
    for r in (1, 2, 3):
        s.go_to(r)
        rows = np.concatenate(s.borderline("sad", 9))
        assert len(rows) and (s.known.source.table.round[rows] == r).all()


def test_without_real_counts_nothing_is_said_about_balance_until_there_is_a_target():
    s = TunerState(as_source(table()))
    assert not s.balance and all(e["kept"] == e["passed"] for e in s.facts().values()) and s.goal() == 0
    assert any("real_counts" in t for t in ts.remarks(s))
    assert "give a target" in ts.balance_text(s.facts()["sad"], s.goal())
    s.aim(5)
    assert s.balance and s.goal() == 5 and all(e["kept"] <= 5 for e in s.facts().values())


# ---- moves and history -------------------------------------------------------------------------------------

@once
def test_a_slider_moves_its_class_only_and_one_moves_all():
    s = state()
    before = dict(s.rule.thresholds)
    assert s.move("sad", .8) and s.rule.thresholds == {**before, "sad": .8}
    assert s.move_all(.3) and set(s.rule.thresholds.values()) == {.3} and not s.move_all(.3)
    assert s.rule.chosen_by == "hand"
    for wrong, *values in ((s.move, "sat", .5), (s.move, "sad", 1.2), (s.move, "sad", float("nan")),
                           (s.aim, -1), (s.go_to, 9), (s.choose, "view_consistency"), (s.choose, "beauty")):
        rule = s.rule
        with pytest.raises(UserError): wrong(*values)
        assert s.rule == rule


@once
@few
@given(st.lists(st.tuples(st.integers(0, 3), LINE, st.sampled_from([.1, 5.])), max_size=15))
def test_undo_goes_all_the_way_back_and_redo_all_the_way_forth(moves):
    clock = Ticks()
    s = state(clock, n=30)
    seen, last = [s.rule], (None, -9)
    for what, v, wait in moves:
        clock.now += wait
        changed = s.move(CLASSES[what], v) if what < 3 else s.aim(int(100 * v))
        if not changed: continue
        if last[0] == what and clock.now - last[1] <= 1 and len(seen) > 1: seen[-1] = s.rule
        else: seen.append(s.rule)
        last = (what, clock.now)
    for rule in seen[-2::-1]: assert s.history.undo() and s.rule == rule
    assert not s.history.undo()
    for rule in seen[1:]: assert s.history.redo() and s.rule == rule
    assert not s.history.redo()


@once
def test_taking_the_suggestion_is_a_step_and_a_move_makes_it_ones_own():
    s = state()
    s.move_all(.9)
    rule, facts = s.suggestion()
    s.take()
    assert s.rule == rule and s.rule.chosen_by == "search"
    assert {c: e["kept"] for c, e in s.facts().items()} == {c: e["kept"] for c, e in facts.items()}
    s.move("sad", .77)
    assert s.rule.chosen_by == "hand"
    assert s.history.undo() and s.rule == rule
    assert s.history.undo() and s.rule.thresholds["sad"] == .9


@once
def test_the_suggestion_follows_target_promise_and_score():
    s = state()
    first = s.suggestion()[0]
    s.aim(1000)
    assert s.suggestion()[0].target == 1000
    s.aim(0)
    assert s.suggestion()[0] == first
    s.promise = .999
    assert s.suggestion()[0] != first
    s.choose("margin")
    assert s.suggestion()[0].score == "margin"


@once
@pytest.mark.parametrize("name", ["margin", "calibrated"])
def test_another_score_keeps_the_number_that_pass(name):
    s = state()
    s.move("sad", .6)
    s.move("angry", .0)
    before = {c: e["passed"] for c, e in s.facts().items()}
    s.choose(name)
    pool, given_rows = s.known.source.table, validation()
    score = class_scores(name, pool.probs, fit_temperature(*given_rows))[np.arange(len(pool)), pool.intended]
    for k, c in enumerate(CLASSES):
        now, line, mine = s.facts()[c]["passed"], s.rule.thresholds[c], score[pool.intended == k]
        assert now == (np.round(mine, 6) >= line).sum()
        assert now >= before[c] and (mine > line + 1e-6).sum() <= before[c]     # more only where scores tie
    assert not s.choose(name) and s.history.undo() and s.rule.score == "confidence"


@once
def test_another_score_keeps_exactly_as_many_where_none_tie():
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (120, 8, 8), dtype=np.uint8)
    pool = from_arrays(images, np.repeat([0, 1, 2], 40), CLASSES, rng.dirichlet(np.ones(3), 120))
    s = TunerState(as_source(pool, validation()))
    for c, v in zip(CLASSES, (.2, .5, 1.)): s.move(c, v)
    before = {c: e["passed"] for c, e in s.facts().items()}
    assert 0 < before["angry"] < 40 and before["sad"] == 0
    for name in ("margin", "calibrated", "confidence"):
        s.choose(name)
        assert {c: e["passed"] for c, e in s.facts().items()} == before


def test_scores_are_offered_only_where_they_can_be_had():
    pool = table(scores={"density": np.arange(90) / 9.}, rounds=2)
    s = TunerState(as_source(pool, validation()))
    assert s.known.offered(2) == ["confidence", "calibrated", "margin", "density"]
    assert "view_consistency" in s.known.why_not(2, "view_consistency")
    s.choose("density")
    low, high, step = ts.tuner_span(s)
    top = pool.scores["density"][pool.round == 2].max()
    assert low == 0 and top < high <= top + 2 * step and "no density on record" in s.unknown()
    assert all(e["val_precision"] is None for e in s.facts().values())
    holes = np.where(pool.round == 1, np.nan, pool.scores["density"])
    gappy = table(scores={"density": holes}, rounds=2)
    s = TunerState(as_source(gappy, validation()))
    s.choose("density")
    s.go_to(1)     # there it is not known, so the tuner falls back
    assert s.rule.score == "confidence" and "density" not in s.known.offered(1)
    bare = (pool.images, pool.classes, pool.intended)
    s = TunerState(as_source(Candidates(*bare, None, {"margin": pool.scores["margin"]})))
    assert s.known.offered(1) == ["margin"] and set(s.rule.thresholds.values()) == {0}
    with pytest.raises(UserError, match="probs or scores"): TunerState(as_source(Candidates(*bare)))
    with pytest.raises(UserError, match="no candidates"): TunerState(as_source(table(0)))


@once
def test_validation_that_does_not_fit_is_refused():
    pool, (probs, truth) = table(), validation()
    for bad in ((probs[:, :2], truth), (probs[:5], truth), (probs * np.nan, truth), (probs, truth + 1),
                (probs, truth * 1.5)):
        with pytest.raises(UserError, match="validation"): as_source(pool, bad)
    with pytest.raises(UserError, match="did you mean 'sad'"): as_source(pool, None, {"sat": 3})


# ---- rule files --------------------------------------------------------------------------------------------

def test_a_rule_goes_to_a_file_and_back(tmp_path):
    s = open_tuner()
    s.sliders["sad"].value, s.target.value = .71, 50
    path = s.save(tmp_path / "rule.json")
    saved = s.decision
    assert isinstance(saved, SelectionRule) and SelectionRule.load(path) == saved
    cfg = saved.apply(SelectionConfig(), CLASSES)
    assert cfg.class_thresholds["sad"] == .71 and cfg.target == 50
    s.score.value = "margin"
    s.load(path)
    assert s.decision == saved and s.score.value == "confidence"
    assert s.sliders["sad"].value == .71 and s.target.value == 50
    assert (s.sliders["sad"].min, s.sliders["sad"].max) == (0, 1)
    s.undo.click()
    assert s.decision.score == "margin" and s.last_error is None


def test_bad_rule_files_are_refused_and_change_nothing(tmp_path):
    s, path = open_tuner(), tmp_path / "rule.json"
    rule = s.decision
    good = json.loads(s.save(path).read_text())
    lines = good["thresholds"]
    for bad in (b"", b"[]", b"\xff", {**good, "score": "beauty"}, {**good, "score": "density"},
                {**good, "thresholds": {"sad": .5}}, {**good, "thresholds": {**lines, "sat": .5}},
                {**good, "thresholds": {**lines, "sad": 7}}, {**good, "targets": 3}, None):
        if bad is None: path.unlink()
        else: path.write_bytes(bad if isinstance(bad, bytes) else json.dumps(bad).encode())
        with pytest.raises(UserError, match="rule.json"): s.load(path)
        s.path.value = str(path)
        s.load_button.click()
        assert "rule.json" in s.status.value and "fer-error" in s.status.value
        assert isinstance(s.last_error, UserError)
        assert s.decision == rule and s.sliders["sad"].value == rule.thresholds["sad"]


# ---- pictures ----------------------------------------------------------------------------------------------

def line_column(shown):
    "Where the black line stands, read from the picture."
    chart = pixels(shown.boxes["chart"])
    rows = chart[charts.CURVES[0] + 2:charts.CURVES[1] - 2, charts.LEFT - 4:charts.RIGHT + 4].astype(int)
    dark = (np.abs(rows - 0x22).max(2) <= 6).mean(0)
    return int(np.flatnonzero(dark > .7).mean())


def test_the_line_moves_with_the_threshold_and_divides_the_bars():
    shown, columns = open_tuner(), []
    for v in np.linspace(.02, .98, 17):
        shown.sliders["sad"].value = float(v)
        columns.append(line_column(shown))
        chart = pixels(shown.boxes["chart"])[charts.BARS[0]:charts.BARS[1], charts.LEFT:charts.RIGHT]
        blue = np.flatnonzero((chart == charts.rgb(charts.BLUE)).all(2).any(0))
        assert not len(blue) or blue.min() >= columns[-1] - 4
    assert (np.diff(columns) > 0).all()
    expected = charts.Scale(0, 1, charts.LEFT, charts.RIGHT).column(.98)
    assert abs(columns[-1] + charts.LEFT - 4 - expected) <= 2 and shown.last_error is None


def test_the_strips_show_the_borderline_images():
    shown = open_tuner(table(size=16))
    shown.sliders["sad"].value = .45
    pool = shown.state.known.source.table
    for name, rows in zip(("above", "below"), shown.state.borderline("sad", charts.EACH)):
        sheet, step = pixels(shown.boxes[name]), charts.WIDTH * charts.SHARP // charts.EACH
        for i, r in enumerate(rows):
            left = i * step + (step - 128) // 2
            assert (sheet[:128:8, left:left + 128:8, 0] == pool.images[r, 0]).all()
    assert "Just kept" in shown.words["above"].value and "Just dropped" in shown.words["below"].value


def test_small_pictures_follow_their_own_line():
    shown = open_tuner()
    before = pixels(shown.boxes["small"])
    shown.shown.value = "sad"
    shown.sliders["sad"].value = .9
    after = pixels(shown.boxes["small"])
    third = before.shape[1] // shown.across
    assert before.shape == after.shape
    assert (before[:, 2 * third:3 * third] != after[:, 2 * third:3 * third]).any()
    assert (before[:, third:2 * third] == after[:, third:2 * third]).all()


@pytest.mark.parametrize("k", [2, 3, 7, 12])
def test_any_number_of_classes_and_colours(k):
    shown = open_tuner(table(200, k, channels=3, size=24))
    shown.everyone.value = .33
    assert set(shown.decision.thresholds.values()) == {.33} and shown.last_error is None
    rows, height = -(-k // shown.across), int(shown.boxes["small"].layout.height.removesuffix("px"))
    assert pixels(shown.boxes["small"]).shape[0] == rows * (charts.CELL + 8) == charts.SHARP * height
    assert shown.words["table"].value.count("<tr") == 2 * k + 3 and shown.picture().mode == "RGB"
    strip = pixels(shown.boxes["above"])
    assert (strip[..., 0] != strip[..., 1]).any()      # colours are shown as colours


@pytest.mark.parametrize("size", [8, 48, 130, 256])
def test_images_of_any_size_fit_their_place(size):
    shown = open_tuner(table(40, size=size))
    assert pixels(shown.boxes["above"]).shape == (charts.PLACE + 32, charts.WIDTH * charts.SHARP, 3)
    assert shown.last_error is None
    assert max(tile(np.zeros((3, size, size // 2), np.uint8), charts.PLACE).size) <= charts.PLACE


def test_a_class_without_candidates_and_one_without_validation():
    pool = table(60)
    pool.intended[pool.intended == 1] = 0
    probs, truth = validation()
    truth[truth == 2] = 0
    probs[:, 2] = 0
    shown = open_tuner(pool, validation=(probs, truth))
    for c in CLASSES: shown.sliders[c].value = .4
    shown.shown.value = CLASSES[1]
    for name in ("margin", "calibrated"): shown.score.value = name
    shown.take.click()
    shown.picture()
    facts = shown.state.facts()
    assert facts[CLASSES[1]]["made"] == 0 and facts["sad"]["val_recall"] is None and shown.last_error is None
    assert "no candidates" in ts.passed_text(facts[CLASSES[1]])


def test_every_control_does_its_work_without_an_error(tmp_path):
    shown = open_tuner(table(120, rounds=2))
    seen = {name: box.value for name, box in shown.boxes.items()}
    shown.sliders["angry"].value = .44
    assert shown.decision.thresholds["angry"] == .44 and shown.shown.value == "angry"
    shown.sliders[CLASSES[1]].value = .61
    assert shown.shown.value == CLASSES[1]      # the class that is moved comes into the picture
    assert all(shown.boxes[name].value != v for name, v in seen.items())
    shown.everyone.value = .25
    assert {s.value for s in shown.sliders.values()} == {.25}
    shown.sliders["sad"].value = .9
    shown.set_all.click()
    assert {s.value for s in shown.sliders.values()} == {.25}
    shown.undo.click()
    assert shown.sliders["sad"].value == .9 and not shown.redo.disabled
    shown.redo.click()
    assert shown.sliders["sad"].value == .25 and shown.redo.disabled
    shown.target.value = 77
    assert "of 77" in shown.words["table"].value
    shown.promise.value = .95
    assert shown.state.promise == .95
    shown.score.value = "margin"
    assert all((s.min, s.max) == (-1, 1) for s in (shown.everyone, *shown.sliders.values()))
    shown.sliders["sad"].value = -.5
    shown.score.value = "confidence"
    assert all(s.min == 0 and s.value >= 0 for s in shown.sliders.values())
    shown.take.click()
    assert shown.decision.chosen_by == "search" and shown.take.disabled
    shown.round.value = 1
    assert shown.state.round == 1 and shown.undo.disabled
    shown.path.value = str(tmp_path / "mine.json")
    shown.save_button.click()
    shown.load_button.click()
    assert "mine.json" in shown.status.value and SelectionRule.load(tmp_path / "mine.json") == shown.decision
    assert shown.last_error is None


def test_a_value_that_the_page_only_rounded_is_no_move():
    "Sliders report the nearest step of what they were given; the exact line of the search has to stay."
    shown = open_tuner()
    shown.take.click()
    rule, slider = shown.decision, shown.sliders["sad"]
    assert rule.thresholds["sad"] != slider.value and abs(rule.thresholds["sad"] - slider.value) <= .0051
    for s in (shown.everyone, *shown.sliders.values()): s.value += 1e-9
    assert shown.decision == rule and rule.chosen_by == "search"
    slider.value = round(slider.value + .01, 2)
    assert shown.decision.thresholds == {**rule.thresholds, "sad": slider.value} and shown.last_error is None
    slider.value = round(slider.value - .01, 2)
    assert shown.decision.thresholds["sad"] == slider.value != rule.thresholds["sad"]


def test_names_are_text_and_never_markup():
    images = np.zeros((4, 8, 8), np.uint8) + np.arange(8, dtype=np.uint8) * 30
    shown = ThresholdTuner(from_arrays(images, [0, 0, 1, 1], ("<b>x</b>", "y & z"), np.full((4, 2), .5)))
    for words in shown.words.values(): assert "<b>x</b>" not in words.value
    assert "&lt;b&gt;x" in shown.words["table"].value and "y &amp; z" in shown.words["table"].value


def test_blank_candidates_never_pass_and_are_mentioned():
    pool = table()
    pool.images[:5] = 77
    shown = open_tuner(pool)
    shown.everyone.value = 0.0
    assert sum(e["passed"] for e in shown.state.facts().values()) == len(pool) - 5
    assert "5 blank images" in shown.words["remarks"].value


# ---- run folders -------------------------------------------------------------------------------------------

def with_validation(folder, rounds=(1, 2), k=5, **more):
    for r in rounds: write_validation(validation_file(folder, r), *validation(k, seed=r), **more)
    return folder


def test_a_run_opens_on_its_last_round_with_the_thresholds_it_used(tmp_path):
    run = with_validation(make_records(tmp_path / "run"))
    shown = ThresholdTuner(run)
    shown.redraw.seconds = 0
    assert shown.state.round == 2 and shown.state.known.rounds == [1, 2] and not shown.state.unknown()
    rounds = json.loads((run / "metrics.json").read_text())["selection"]["rounds"]
    first, used = (r["classes"] for r in rounds)
    facts = shown.state.facts()
    for c, e in used.items():
        assert shown.decision.thresholds[c] == e["threshold"]
        for k in ("real", "quota", "made", "passed", "kept"): assert facts[c][k] == e[k]
    shown.round.value = 1
    passed = {c: e["passed"] for c, e in shown.state.facts().items()}
    assert passed == {c: e["passed"] for c, e in first.items()}
    assert shown.last_error is None


def test_a_run_without_validation_says_why_and_works(tmp_path):
    run = make_records(tmp_path / "run")
    for r in (1, 2): validation_file(run, r).unlink()
    shown = ThresholdTuner(run)
    shown.redraw.seconds = 0
    assert "Precision is not known" in shown.words["remarks"].value
    assert "not known" in shown.words["table"].value
    assert "calibrated" not in shown.score.options
    shown.everyone.value = .4
    shown.take.click()
    assert shown.last_error is None and shown.picture()


def test_a_damaged_or_foreign_validation_record_is_said_not_raised(tmp_path):
    run = with_validation(make_records(tmp_path / "run"), (1,))
    validation_file(run, 2).write_bytes(b"PK")
    assert str(validation_file(run, 2)) in ThresholdTuner(run).state.unknown()
    with_validation(run, (2,), k=3)
    assert "other classes" in ThresholdTuner(run).state.unknown()


def test_a_run_that_decided_by_view_consistency_is_tuned_by_it(tmp_path):
    run, rng = make_records(tmp_path / "run"), np.random.default_rng(3)
    cfg = json.loads((run / "config.json").read_text())
    cfg["selection"] |= {"score": "view_consistency", "threshold": .5}
    (run / "config.json").write_text(json.dumps(cfg))
    head, *rows = [line.split(",") for line in (run / "selection.csv").read_text().splitlines()]
    at = head.index("entropy") + 1
    head.insert(at, "view_consistency")
    for row, sixths in zip(rows, rng.integers(0, 7, len(rows))): row.insert(at, f"{sixths / 6:.6f}")
    (run / "selection.csv").write_text("\n".join(map(",".join, [head, *rows])) + "\n")
    with_validation(run, score=np.round(rng.integers(0, 7, (120, 5)) / 6, 6))
    s = ThresholdTuner(run).state
    assert s.rule.score == "view_consistency" and not s.unknown() and "view_consistency" in s.known.offered(2)
    column = np.array([float(row[at]) for row in rows])
    passing = (column >= .5) & (s.known.source.table.round == 2)
    passing[s.scored.rows[s.scored.blanks]] = False
    assert sum(e["passed"] for e in s.facts().values()) == passing.sum()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run folder"): ThresholdTuner(tmp_path)


def test_a_run_without_its_record_asks_its_judge_again(tiny_run, tmp_path, monkeypatch):
    "The judge's checkpoint and the real faces give the same numbers, unless the data have changed."
    folder = shutil.copytree(tiny_run, tmp_path / "tiny")
    for r in (1, 2):
        record = validation_file(folder, r)
        known = ts.validation_of(folder, r)
        record.unlink()
        again = ts.validation_of(folder, r)
        np.testing.assert_array_equal(again["truth"], known["truth"])
        np.testing.assert_allclose(again["probs"], known["probs"], atol=1e-5)
    data = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**data, "fingerprint": "0"}))
    with pytest.raises(UserError, match="has changed"): ts.validation_of(folder, 2)
    monkeypatch.setattr(ts, "real_images", lambda folder: None)
    with pytest.raises(UserError, match="not on this machine"): ts.validation_of(folder, 2)
    for p in checkpoints(folder):
        if step_name(p.parent).startswith("judge"): p.unlink()
    with pytest.raises(UserError, match="on record"): ts.validation_of(folder, 2)
    assert "on record" in ThresholdTuner(folder).state.unknown()
