"Properties of selection that hold for any pool, found by trying many small ones."
import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fer_synth.config import SCORES, SelectionConfig, UserError
from fer_synth.selection.pools import read_selection, selection_rows, write_selection
from fer_synth.selection.rules import (judge_quality, quotas, select, selection_warnings, summarise,
                                       threshold_curve, thresholds)
from fer_synth.selection.scores import (VIEWS, calibrate, class_scores, density, fit_temperature, margins,
                                        radii, score_pool, view_consistency, views)

settings.register_profile("any machine", deadline=None)     # a slow moment of a busy machine is no failure
settings.load_profile("any machine")

COARSE = st.integers(0, 20).map(lambda v: v / 20)     # ties and exact hits of the threshold are common
PREFER = st.sampled_from(["made", "confident"])


@st.composite
def pools(draw):
    "A small pool with its rule: the arguments of `select`."
    classes = tuple(f"class {k}" for k in range(draw(st.integers(1, 4))))
    n = draw(st.integers(0, 40))
    def several(one, kind): return np.array(draw(st.lists(one, min_size=n, max_size=n))).astype(kind)
    return {"scores": {"confidence": several(COARSE, float)},
            "labels": several(st.integers(0, len(classes) - 1), int),
            "thresholds": {c: draw(COARSE) for c in classes},
            "quotas": {c: draw(st.integers(0, 15)) for c in classes},
            "classes": classes, "prefer": draw(PREFER), "blanks": several(st.booleans(), bool)}


def probabilities(seed, n, k):
    return np.random.default_rng(seed).dirichlet(np.full(k, .5), n).astype(np.float32)


def slow_select(scores, labels, thresholds, quotas, classes, prefer, blanks):
    "The rule, one image at a time, in plain Python."
    order = list(range(len(labels)))
    if prefer == "confident": order.sort(key=lambda i: (-scores["confidence"][i], i))
    reasons, room = [""] * len(labels), dict(quotas)
    for i in order:
        name = classes[labels[i]]
        if blanks[i]: reasons[i] = "blank"
        elif scores["confidence"][i] < thresholds[name]: reasons[i] = "below threshold"
        elif not room[name]: reasons[i] = "quota full"
        else:
            reasons[i] = "kept"
            room[name] -= 1
    return reasons


@given(pools())
def test_the_rule_equals_a_slow_reference(pool):
    kept, reasons = select(**pool)
    assert reasons == slow_select(**pool)
    assert kept.tolist() == [r == "kept" for r in reasons]


@given(pools())
def test_quotas_are_never_exceeded_and_never_left_open(pool):
    kept, reasons = select(**pool)
    for k, name in enumerate(pool["classes"]):
        mine = [r for r, label in zip(reasons, pool["labels"]) if label == k]
        passed = sum(r in ("kept", "quota full") for r in mine)
        assert mine.count("kept") == min(pool["quotas"][name], passed)


@given(pools())
def test_what_is_kept_passes(pool):
    kept, _ = select(**pool)
    for i in np.flatnonzero(kept):
        name = pool["classes"][pool["labels"][i]]
        assert pool["scores"]["confidence"][i] >= pool["thresholds"][name] and not pool["blanks"][i]


@given(pools())
def test_confident_keeps_the_top(pool):
    _, reasons = select(**pool | {"prefer": "confident"})
    for k in range(len(pool["classes"])):
        rows = np.flatnonzero(pool["labels"] == k)
        own = [(reasons[i], pool["scores"]["confidence"][i]) for i in rows]
        kept, full = ([c for r, c in own if r == word] for word in ("kept", "quota full"))
        if kept and full: assert min(kept) >= max(full)


@given(pools(), COARSE)
def test_a_higher_threshold_never_keeps_more(pool, more):
    before, _ = select(**pool)
    after, _ = select(**pool | {"thresholds": {c: t + more for c, t in pool["thresholds"].items()}})
    for k in range(len(pool["classes"])):
        mine = pool["labels"] == k
        assert after[mine].sum() <= before[mine].sum()
    if pool["prefer"] == "confident": assert not (after & ~before).any()      # and nobody gets in who was out


@given(pools())
def test_first_made_is_a_matter_of_order_only(pool):
    "Candidates made later cannot push out an earlier one."
    kept, _ = select(**pool | {"prefer": "made"})
    half = len(kept) // 2
    part = {"scores": {"confidence": pool["scores"]["confidence"][:half]}, "labels": pool["labels"][:half],
            "blanks": pool["blanks"][:half]}
    first, _ = select(**pool | {"prefer": "made"} | part)
    assert kept[:half].tolist() == first.tolist()


@given(pools(), st.integers(0, 99))
def test_the_count_of_a_round_adds_up(pool, seed):
    labels, classes = pool["labels"], pool["classes"]
    scores = score_pool(probabilities(seed, len(labels), len(classes)), labels)
    kept, reasons = select(**pool | {"scores": scores})
    table = summarise(scores, labels, reasons, pool["thresholds"], pool["quotas"], {}, classes)
    entries = table.values()
    assert sum(e["made"] for e in entries) == len(labels) and sum(e["kept"] for e in entries) == kept.sum()
    assert all(e["kept"] <= e["passed"] <= e["made"] and e["kept"] <= e["quota"] for e in entries)
    warnings = selection_warnings(table, scores, labels, pool["blanks"])
    wanted = {name: e for name, e in table.items() if e["quota"]}
    short = [name for name, e in wanted.items() if not e["kept"] or e["kept"] < e["quota"] / 2]
    assert [w.split("'")[1] for w in warnings] == short


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5000), min_size=1), st.integers(0, 6000))
def test_quotas_even_out_the_classes(counts, target):
    wanted = quotas(SelectionConfig(target=target), tuple(counts), counts)
    goal = target or max(counts.values())
    assert all(counts[c] + q == max(goal, counts[c]) and q >= 0 for c, q in wanted.items())


def precision_of_thresholds(score, is_class, start):
    "Threshold -> precision, -1 where nothing passes: the first one, and every score above it."
    tried = sorted({start, *score[score > start].tolist()})
    return {t: np.mean(is_class[score >= t]) if (score >= t).any() else -1 for t in tried}


@given(st.integers(0, 2 ** 16), st.integers(1, 60), COARSE, COARSE)
def test_thresholds_are_the_smallest_that_are_precise_enough(seed, n, start, wanted):
    probs, y_true = probabilities(seed, n, 3), np.random.default_rng(seed + 1).integers(0, 3, n)
    found = thresholds(SelectionConfig(threshold=start, min_precision=wanted), "abc", probs, y_true)
    for k, t in enumerate(found.values()):
        p = np.round(probs[:, k].astype(float), 6)
        precision = precision_of_thresholds(p, y_true == k, start)
        if wanted == 0: expected = start
        elif max(precision.values()) >= wanted: expected = min(v for v in precision if precision[v] >= wanted)
        elif max(precision.values()) < 0: expected = start
        else: expected = min(v for v in precision if precision[v] == max(precision.values()))
        assert t == pytest.approx(expected, abs=0)


@given(st.lists(st.tuples(COARSE, st.booleans()), max_size=30), COARSE)
def test_precision_and_recall_by_counting(rows, at):
    precision, recall, passing = judge_quality([p for p, _ in rows], [t for _, t in rows], [at])
    passed = [t for p, t in rows if p >= at]
    positives = sum(t for _, t in rows)
    assert passing[0] == len(passed)
    assert math.isnan(precision[0]) if not passed else precision[0] == sum(passed) / len(passed)
    assert math.isnan(recall[0]) if not positives else recall[0] == sum(passed) / positives


@given(st.integers(0, 2 ** 16), st.integers(0, 50))
def test_the_threshold_curve_never_rises(seed, n):
    labels = np.random.default_rng(seed).integers(0, 3, n)
    val = np.random.default_rng(seed + 1).integers(0, 3, 20)
    scores = score_pool(probabilities(seed, n, 3), labels)
    for curve in threshold_curve(scores, labels, probabilities(seed + 2, 20, 3), val, "abc").values():
        assert len(curve["threshold"]) == 51 and curve["threshold"][0] == 0 and curve["threshold"][-1] == 1
        for key in ("kept_share", "val_recall"):
            known = [v for v in curve[key] if v is not None]
            assert known == sorted(known, reverse=True) and len(known) in (0, 51)
        assert all(v is None or 0 <= v <= 1 for v in curve["val_precision"])


LETTERS = st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t")
NAMES = st.text(LETTERS, min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.integers(0, 30), st.integers(0, 2 ** 16),
       st.integers(1, 3))
def test_csv_round_trip(tmp_path_factory, classes, n, seed, rounds):
    rng, classes, tables = np.random.default_rng(seed), tuple(classes), []
    least, most = dict.fromkeys(classes, .4), dict.fromkeys(classes, 5)
    for r in range(1, rounds + 1):
        labels = rng.integers(0, len(classes), n)
        scores = score_pool(probabilities(seed + r, n, len(classes)), labels)
        kept, reasons = select(scores, labels, least, most, classes)
        seeds = rng.integers(0, 2 ** 62, n)
        tables.append(selection_rows(r, labels, seeds, "ab12", scores, kept, reasons, classes))
    folder = tmp_path_factory.mktemp("csv")
    path = write_selection(folder / "selection.csv", tables, classes)
    content, back = path.read_bytes(), read_selection(path)
    assert [f.name for f in folder.iterdir()] == ["selection.csv"]
    assert list(back) == list(tables[0])
    for name, column in back.items():
        np.testing.assert_array_equal(column, np.concatenate([t[name] for t in tables]))
    assert write_selection(path, back, classes).read_bytes() == content
    for t in tables:        # the decision can be taken again from what is in the file
        mine = {name: column[back["round"] == t["round"][0]] for name, column in back.items()} if n else back
        labels = [classes.index(c) for c in mine["intended"]]
        assert select(mine, labels, least, most, classes)[1] == mine["reason"].tolist()


def test_a_spreadsheet_reads_the_same_file(tmp_path):
    "Python's own reader agrees about the header of the contract and the numbers."
    scores = score_pool([[.75, .25], [.125, .875]], [0, 0])
    kept, reasons = select(scores, [0, 0], {"sad": .5, "a,b": .5}, {"sad": 1, "a,b": 1}, ("sad", "a,b"))
    rows = selection_rows(2, [0, 0], [7, 8], "ff", scores, kept, reasons, ("sad", "a,b"))
    with open(write_selection(tmp_path / "s.csv", rows, ("sad", "a,b")), newline="") as f:
        read = list(csv.DictReader(f))
    assert list(read[0]) == ["id", "round", "intended", "seed", "generator", "decision", "reason",
                             "confidence", "predicted", "margin", "entropy", "p_sad", "p_a,b"]
    columns = {name: [row[name] for row in read] for name in read[0]}
    assert columns["id"] == ["2-0", "2-1"] and columns["reason"] == ["kept", "below threshold"]
    assert columns["decision"] == ["kept", "dropped"] and columns["predicted"] == ["sad", "a,b"]
    assert list(map(float, columns["margin"])) == [.5, -.75]


# --- the other scores


@given(pools(), st.sampled_from(["margin", "density", "view_consistency", "calibrated"]))
def test_any_score_can_decide(pool, name):
    "The rule reads the score that it is told to, and no other."
    score = pool["scores"]["confidence"]
    scores = {"confidence": np.random.default_rng(0).permutation(score), name: score}
    kept, reasons = select(**pool | {"scores": scores, "score": name})
    assert reasons == slow_select(**pool) and kept.tolist() == [r == "kept" for r in reasons]


@given(st.integers(0, 2 ** 16), st.integers(0, 30), st.integers(2, 5))
def test_margins_by_hand(seed, n, k):
    probs = np.round(probabilities(seed, n, k).astype(float), 1)     # coarse: ties are common
    found = margins(probs)
    assert found.shape == (n, k)
    for p, row in zip(probs, found):
        for c in range(k): assert row[c] == pytest.approx(p[c] - max(np.delete(p, c)), abs=1e-6)
    labels = np.random.default_rng(seed).integers(0, k, n)
    np.testing.assert_array_equal(found[np.arange(n), labels], score_pool(probs, labels)["margin"])


@given(st.integers(0, 2 ** 16), st.floats(.1, 10))
def test_calibration_keeps_the_order_and_undoes_itself(seed, t):
    probs = np.random.default_rng(seed).dirichlet(np.full(4, 2.), 20).clip(1e-6)
    probs /= probs.sum(1, keepdims=True)
    scaled = calibrate(probs, t)
    np.testing.assert_allclose(scaled.sum(1), 1)
    np.testing.assert_array_equal(scaled.argmax(1), probs.argmax(1))
    slow = probs ** (1 / t)      # dividing logits by T takes the T-th root of probabilities
    slow /= slow.sum(1, keepdims=True)
    np.testing.assert_allclose(scaled, slow, rtol=1e-9)
    if t > .5: np.testing.assert_allclose(calibrate(scaled, 1 / t), probs, atol=1e-6)


@pytest.mark.parametrize("true", [.5, 1., 2.5])
def test_the_temperature_is_found(true):
    "Against a slow search over a grid, and against the number that was put in."
    rng = np.random.default_rng(3)
    honest = rng.dirichlet(np.full(4, .6), 4000).clip(1e-9)
    y_true = (honest.cumsum(1) < rng.random((4000, 1))).sum(1).clip(max=3)
    shown = calibrate(honest, 1 / true)
    def loss(t): return -np.log(calibrate(shown, t)[np.arange(4000), y_true].clip(1e-300)).mean()
    grid = np.exp(np.linspace(np.log(.05), np.log(20), 400))
    found = fit_temperature(shown, y_true)
    assert loss(found) <= min(loss(t) for t in grid) + 1e-9
    assert found == pytest.approx(true, rel=.05)


def test_a_judge_that_is_always_right_or_wrong_has_a_temperature():
    "The fit ends at its bounds and gives finite probabilities."
    sure = np.eye(3)[[0, 1, 2, 0]]
    for y_true in ([0, 1, 2, 0], [1, 2, 0, 1]):
        t = fit_temperature(sure, y_true)
        assert .05 <= t <= 20 and np.isfinite(calibrate(sure, t)).all()


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 9, 7), (0, 1, 8, 8), (1, 1, 1, 1)])
def test_the_six_views(shape):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    before, found = images.copy(), list(views(images))
    assert len(found) == VIEWS and all(v.shape == shape and v.dtype == np.uint8 for v in found)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    h, w = shape[2:]
    shifted = [padded[..., y:y + h, x:x + w] for y, x in ((1, 2), (1, 0), (2, 1), (0, 1))]
    for got, want in zip(found, (images, images[..., ::-1], *shifted)):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(images, before)


@given(st.integers(0, 2 ** 16), st.integers(1, 10), st.integers(2, 4), st.integers(1, 6))
def test_view_consistency_counts_views(seed, n, k, v):
    answers = [probabilities(seed + i, n, k) for i in range(v)]
    found = view_consistency(iter(answers))
    for i in range(n):
        votes = [int(np.argmax(a[i])) for a in answers]
        assert found[i].tolist() == [round(votes.count(c) / v, 6) for c in range(k)]


@given(st.integers(0, 2 ** 16), st.integers(1, 30), st.integers(0, 20), st.integers(1, 6))
def test_density_by_brute_force(seed, r, n, k):
    "Whole numbers, so that float32 is exact but for the centre; equal distances are common."
    rng = np.random.default_rng(seed)
    real, new = rng.integers(-4, 5, (r, 2)).astype(float), rng.integers(-5, 6, (n, 2)).astype(float)
    real -= real.mean(0).round() - real.mean(0)                 # not centred: the function has to do that
    def squared(a): return ((a[:, None] - real[None]) ** 2).sum(2)
    others = [np.sort(np.delete(row, i)) for i, row in enumerate(squared(real))]
    balls = np.array([row[min(k, r - 1) - 1] if r > 1 else 0 for row in others])
    np.testing.assert_allclose(radii(real, k), balls, atol=1e-4)
    def slow(slack): return (squared(new) <= balls + slack).sum(1) / k
    found = density(new, real, radii(real, k), k)
    assert (slow(-1e-3) - 1e-6 <= found).all() and (found <= slow(1e-3) + 1e-6).all()


def test_density_does_not_depend_on_the_chunks():
    rng = np.random.default_rng(0)
    real, new = rng.normal(5, 1, (1300, 8)), rng.normal(5, 1, (1100, 8))
    every = density(new, real, radii(real))
    parts = np.concatenate([density(new[i:i + 100], real, radii(real)) for i in range(0, 1100, 100)])
    assert np.abs(every - parts).max() <= .2 and (every == parts).mean() > .99
    assert radii(real).shape == (1300,) and .8 < every.mean() < 1.2


@given(st.integers(0, 2 ** 16), st.integers(1, 60), st.integers(-10, 10))
def test_thresholds_of_a_margin(seed, n, start):
    "The search for a precision works on any score: here one that is negative half of the time."
    y_true, margin = np.random.default_rng(seed + 1).integers(0, 3, n), margins(probabilities(seed, n, 3))
    cfg = SelectionConfig(score="margin", threshold=start / 10, min_precision=.6)
    for k, t in enumerate(thresholds(cfg, "abc", margin, y_true).values()):
        precision = precision_of_thresholds(margin[:, k], y_true == k, start / 10)
        highest = max(precision.values())
        good = [v for v, p in precision.items() if p >= min(.6, highest)]
        assert t == (min(good) if highest >= 0 else start / 10)


@given(st.integers(0, 2 ** 16), st.integers(0, 40), st.sampled_from(sorted(SCORES)))
def test_the_curve_of_any_score(seed, n, name):
    rng, k = np.random.default_rng(seed), 3
    low, high = SCORES[name]
    def some(*shape): return np.round(rng.uniform(low, min(high, 7), shape), 6)
    labels, val, y_true = rng.integers(0, k, n), some(25, k), rng.integers(0, k, 25)
    scores = {"confidence": np.zeros(n), name: some(n)}
    curves = threshold_curve(scores, labels, val, y_true, "abc", points=11, score=name)
    for c, curve in enumerate(curves.values()):
        assert curve["threshold"][0] == low and len(curve["threshold"]) == 11
        for t, share, precision in zip(curve["threshold"], curve["kept_share"], curve["val_precision"]):
            mine, passing = scores[name][labels == c], val[:, c] >= t
            assert share == (round(float((mine >= t).mean()), 6) if len(mine) else None)
            assert precision == (round(float((y_true[passing] == c).mean()), 6) if passing.any() else None)
    if name == "density" and n: assert curve["threshold"][-1] == max(1., scores[name].max(), val.max())


@pytest.mark.parametrize("name", ["calibrated", "view_consistency", "density"])
def test_csv_with_a_further_score(tmp_path, name):
    scores = score_pool(probabilities(0, 50, 2), np.zeros(50, int)) | {name: np.arange(50) / 5}
    limits, wanted = {"a": 5., "b": 5.}, {"a": 9, "b": 9}
    kept, reasons = select(scores, np.zeros(50, int), limits, wanted, ("a", "b"), "confident", score=name)
    rows = selection_rows(1, np.zeros(50, int), range(50), "x", scores, kept, reasons, ("a", "b"))
    back = read_selection(write_selection(tmp_path / "s.csv", [rows, rows], ("a", "b")))
    assert list(back) == list(rows) and list(back)[-3:] == [name, "p_a", "p_b"]
    np.testing.assert_array_equal(back[name], np.tile(np.arange(50) / 5, 2))
    assert kept[-9:].all() and kept.sum() == 9


def test_advice_for_a_margin_never_goes_below_zero():
    "A margin below 0 means that the judge sees another class; no remedy asks for such faces."
    labels = np.zeros(100, int)
    entry = dict(real=0, quota=50, made=100, passed=10, kept=10, threshold=.5, judge_agreement=.5)
    summary = {"happy": entry}
    def warning(margin): return selection_warnings(summary, {"margin": margin}, labels, score="margin")[0]
    assert "lower its threshold to 0.20" in warning(np.full(100, .2))
    assert "lower its threshold" not in warning(np.linspace(-.9, .1, 100))


def test_scores_of_probabilities_and_no_others():
    probs = probabilities(0, 10, 3)
    np.testing.assert_array_equal(class_scores("confidence", probs), np.round(probs.astype(float), 6))
    np.testing.assert_array_equal(class_scores("calibrated", probs, 2.), np.round(calibrate(probs, 2.), 6))
    for name in ("view_consistency", "density", "entropy"):
        with pytest.raises(UserError, match=name): class_scores(name, probs)
