"""Intervals, p-values and tables of a study where no notebook goes: few rows, absent classes, one seed."""
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

from fer_synth.evaluation.compare import write_arrays
from fer_synth.evaluation.statistics import (Answers, estimate, half_width, measured, p_value, read_answers,
                                             tidy, variance_parts, write_answers)
from fer_synth.evaluation.summary import (arm_scores, best_baseline, differences, holm, improvement,
                                          mcnemar_counts, notes, reliability, summary)
from fer_synth.settings import UserError

CLASSES = ("a", "b", "c")


def random_answers(seed=0, seeds=3, students=2, rows=60, present=3, fraction=1.0) -> Answers:
    "Answers that know something of the true class; classes from `present` on have no test row."
    rng, arms = np.random.default_rng(seed), ("real", "soft")
    y_true = rng.integers(0, present, rows)
    logits = rng.normal(0, 1, (len(arms), seeds, students, rows, 3))
    logits[..., np.arange(rows), y_true] += 1
    probs = np.exp(logits)
    return Answers(CLASSES, y_true, arms, probs / probs.sum(-1, keepdims=True), fraction)


def certain(y_pred: np.ndarray, classes: int = 3) -> np.ndarray: return np.eye(classes)[y_pred]


def by_metric(entries: list) -> dict: return {e["metric"]: e for e in entries}


# --- against the t-test, where rows carry nothing

def test_seeds_on_equal_rows_are_students_t_test():
    "Every row of a seed says the same, so only seeds differ: a paired t-test over them."
    scores = np.random.default_rng(0).normal(0.02, 0.01, 6)
    pseudo = np.repeat(scores[:, None, None], 50, 2)
    e = estimate(scores[:, None], pseudo, np.arange(50) % 3)
    low, high = stats.t.interval(0.95, 5, scores.mean(), stats.sem(scores))
    p = stats.ttest_1samp(scores, 0).pvalue
    np.testing.assert_allclose([e.low, e.high, e.p], [low, high, p], rtol=1e-6)
    assert e.over == "seeds and rows"


def test_students_are_averaged_within_their_seed():
    "Three equal students a seed are no more than one; nine seeds would be."
    scores = np.random.default_rng(1).normal(0, 1, (3, 1))
    pseudo = np.repeat(scores[..., None], 40, 2)
    y_true = np.arange(40) % 2
    once = estimate(scores, pseudo, y_true, bounds=(-9, 9))
    thrice = estimate(scores.repeat(3, 1), pseudo.repeat(3, 1), y_true, bounds=(-9, 9))
    np.testing.assert_allclose([once.low, once.high, once.p], [thrice.low, thrice.high, thrice.p], rtol=1e-9)
    nine = variance_parts(scores.repeat(3, 0), pseudo.repeat(3, 0), y_true)
    assert half_width(nine, .95) < once.high - once.mean


def test_variance_parts_find_the_planted_ones():
    "Means over 400 tables of 6 seeds x 50 rows; the standard error of either mean is about 3 %."
    rng, seed_sd, row_sd, noise_sd = np.random.default_rng(2), 0.3, 1.0, 2.0
    found, means = [], []
    for _ in range(400):
        z = seed_sd * rng.normal(size=(6, 1, 1)) + row_sd * rng.normal(size=50)
        z = z + noise_sd * rng.normal(size=(6, 1, 50))
        found.append([v for v, _ in variance_parts(z.mean(-1), z, np.zeros(50, int))])
        means.append(z.mean())
    seeds, rows = np.mean(found, 0)
    assert seeds == pytest.approx(seed_sd ** 2 / 6 + noise_sd ** 2 / 300, rel=.1)
    assert rows == pytest.approx(row_sd ** 2 / 50, rel=.15)      # a little more: a part below 0 counts as 0
    assert seeds + rows == pytest.approx(np.var(means), rel=.25)


# --- one seed

@pytest.mark.parametrize("right", [150, 270])
def test_one_student_is_a_binomial(right):
    "With 300 rows Student's interval is within 1 point of the exact one."
    x = (np.arange(300) < right).astype(float)[None, None]
    e = estimate(x.mean(-1), x, np.zeros(300, int), bounds=(0, 1))
    exact = stats.binomtest(right, 300).proportion_ci(.95)
    assert e.over == "rows" and abs(e.low - exact.low) < .01 and abs(e.high - exact.high) < .01
    sd = np.sqrt(right * (300 - right) / 300 ** 2 / 299)
    assert e.high - e.mean == pytest.approx(stats.t.ppf(.975, 299) * sd)


def test_students_of_one_seed_take_the_place_of_seeds():
    a = random_answers(seeds=1, students=4)
    b = Answers(a.classes, a.y_true, a.arms, a.probs.swapaxes(1, 2))
    for one, other in zip(differences(a, [("soft", "real")]), differences(b, [("soft", "real")])):
        assert (one["mean"], one["low"], one["p"]) == pytest.approx((other["mean"], other["low"], other["p"]))
        assert len(one["per_seed"]) == 1 and len(other["per_seed"]) == 4
    _, values, pseudo = next(measured(a))
    assert estimate(values[0], pseudo[0], a.y_true).over == "students of one seed and rows"


# --- edges

def test_equal_arms_differ_by_nothing():
    a = random_answers()
    twice = Answers(CLASSES, a.y_true, ("x", "y"), a.probs[[0, 0]])
    for d in differences(twice, [("x", "y")]):
        assert [d[k] for k in ("mean", "low", "high", "p", "improvement")] == [0, 0, 0, 1, 0.5], d
    found = summary([twice], {"y": "x"}, ("x",), real="x")
    assert found["hurt"] == [] and all(d["p_holm"] == 1 for d in found["differences"])


def test_a_perfect_classifier_has_the_exact_bound_of_its_rows():
    y_true = np.array([0] * 20 + [1] * 10 + [2] * 5)
    a = Answers(CLASSES, y_true, ("real",), np.tile(certain(y_true), (1, 3, 1, 1, 1)))
    found = by_metric(arm_scores(a))
    for metric, rows in {"accuracy": 35, "recall_a": 20, "recall_c": 5, "macro_f1": 5}.items():
        assert found[metric]["mean"] == found[metric]["high"] == 1
        assert found[metric]["low"] == pytest.approx(stats.binomtest(rows, rows).proportion_ci(.95).low)
    assert found["nll"]["mean"] == 0


def test_always_right_against_always_wrong_is_the_sign_test():
    y_true = np.repeat([0, 1, 2], 4)
    probs = np.stack([certain(y_true), certain((y_true + 1) % 3)])[:, None, None]
    d = by_metric(differences(Answers(CLASSES, y_true, ("x", "y"), probs), [("x", "y"), ("y", "x")][:1]))
    assert d["accuracy"]["p"] == pytest.approx(stats.binomtest(12, 12).pvalue)
    assert 0 < d["accuracy"]["low"] < d["accuracy"]["high"] == 1
    assert d["recall_a"]["p"] == pytest.approx(.125) and d["recall_a"]["low"] < 0   # four rows prove nothing
    assert d["accuracy"]["improvement"] == 1


def test_a_class_without_rows_has_no_recall():
    a = random_answers(present=2)
    assert "recall_c" not in by_metric(arm_scores(a))
    table = tidy([a])
    assert table[(table["class"] == "c") & (table.metric == "recall")].empty
    assert any("No test row is of the class 'c'" in s for s in notes([a]))
    json.dumps(summary([a], {"soft": "real"}, ("real",)), allow_nan=False)


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_a_handful_of_rows_gives_finite_numbers(rows):
    for seed in range(6):
        a = random_answers(seed, rows=rows, seeds=1 + seed % 3, students=1 + seed % 2)
        found = summary([a], {"soft": "real"}, ("real",))
        json.dumps(found, allow_nan=False)
        for e in found["scores"] + found["differences"]: assert e["low"] <= e["mean"] <= e["high"], e


def test_one_predicted_class():
    y_true = np.arange(30) % 3
    probs = np.stack([certain(np.zeros(30, int)), certain(np.where(np.arange(30) < 20, y_true, 0))])
    answers = Answers(CLASSES, y_true, ("real", "soft"), probs[:, None, None])
    found = summary([answers], {"soft": "real"}, ("real",))
    json.dumps(found, allow_nan=False)
    score = {(s["arm"], s["metric"]): s["mean"] for s in found["scores"]}
    assert score["real", "recall_a"] == 1 and score["real", "macro_recall"] == pytest.approx(1 / 3)
    assert score["real", "macro_precision"] == pytest.approx(1 / 9)


@pytest.mark.parametrize("seed", range(4))
def test_p_and_interval_never_contradict(seed):
    a = random_answers(seed, seeds=2 + seed, rows=40)
    for level in (.6, .9, .95, .99):
        for d in differences(a, [("soft", "real")], level):
            excluded = d["low"] > 0 or d["high"] < 0
            assert excluded == (d["p"] < 1 - level), d


def test_p_value_of_a_hair_and_of_a_mountain():
    parts = [(1e-4, 4), (1e-4, 500)]
    assert p_value(0.0, parts) == 1 and p_value(1e-9, parts) == pytest.approx(1, abs=1e-5)
    assert 0 < p_value(1e6, parts) <= 1e-12


# --- tables and counts

def test_tidy_agrees_with_sklearn():
    a = random_answers(3)
    table = tidy([a]).set_index(["arm", "seed", "student", "class", "metric"]).value
    for arm, g, k in (("real", 0, 1), ("soft", 2, 0)):
        p = a.probs[a.arms.index(arm), g, k].astype(float)
        y, labels = p.argmax(1), [0, 1, 2]
        mean = dict(labels=labels, average="macro", zero_division=0)
        each = dict(labels=labels, average=None, zero_division=0)
        expected = {"accuracy": accuracy_score(a.y_true, y), "macro_f1": f1_score(a.y_true, y, **mean),
                    "macro_precision": precision_score(a.y_true, y, **mean),
                    "macro_recall": recall_score(a.y_true, y, **mean),
                    "nll": log_loss(a.y_true, p / p.sum(1, keepdims=True), labels=labels)}
        for metric, value in expected.items():
            assert table[arm, g, k, "", metric] == pytest.approx(value, rel=1e-6)
        for metric, score in (("recall", recall_score), ("precision", precision_score)):
            ours = [table[arm, g, k, name, metric] for name in CLASSES]
            assert ours == pytest.approx(score(a.y_true, y, **each).tolist())


def test_scores_are_the_means_of_the_tidy_table():
    a = random_answers(4, fraction=.25)
    table = tidy([a])
    for s in arm_scores(a):
        metric, name = s["metric"], ""
        if metric.startswith("recall_"): metric, name = metric.split("_")
        same = table[(table.arm == s["arm"]) & (table.metric == metric) & (table["class"] == name)]
        assert s["mean"] == pytest.approx(same.value.mean()) and s["fraction"] == .25
        assert s["per_seed"] == pytest.approx(same.groupby("seed").value.mean().tolist())


def test_holm_by_hand():
    "0.01 x 5; 0.011 x 4 = 0.044, no less than 0.05; 0.02 x 3; 0.4 x 2; 0.5 x 1 no less than 0.8."
    np.testing.assert_allclose(holm([.4, .011, .5, .01, .02]), [.8, .05, .8, .05, .06])
    assert holm([.3]).tolist() == [.3] and holm([.04, .04, .04]).tolist() == pytest.approx([.12] * 3)
    for wrong in ([.1, np.nan], [-.1], [1.5]):
        with pytest.raises(UserError, match="between 0 and 1"): holm(wrong)


def test_improvement_without_noise_is_a_share_of_runs():
    values = np.array([[.1, -.1], [0, .2]])
    pseudo = np.repeat(values[..., None], 9, 2)
    assert improvement(values, pseudo, False) == (1 + 0 + .5 + 1) / 4
    assert improvement(values, pseudo, True) == (0 + 1 + .5 + 0) / 4


def test_mcnemar_counts_explain_the_difference():
    a = random_answers(5)
    counts = mcnemar_counts(a, "soft", "real")
    right = a.probs.argmax(-1) == a.y_true
    assert counts == {"a_only": (right[1] & ~right[0]).sum(), "b_only": (right[0] & ~right[1]).sum()}


def test_reliability_by_hand():
    "Confidences 0.6, 0.6 and 0.9 in ten bins: (0.5, 0.6] and (0.8, 0.9]."
    probs = np.array([[.6, .4], [.6, .4], [.1, .9]])
    found = reliability([0, 1, 1], probs, bins=10)
    assert found["confidence"] == [None] * 5 + [pytest.approx(.6), None, None, pytest.approx(.9), None]
    assert found["accuracy"] == [None] * 5 + [.5, None, None, 1, None]
    assert found["share"] == pytest.approx([0] * 5 + [2 / 3, 0, 0, 1 / 3, 0])


def test_the_best_baseline_is_chosen_on_validation_rows():
    y_true = np.arange(30) % 3
    good, bad = certain(y_true), certain(np.where(np.arange(30) < 25, y_true, 0))

    def answers(*probs, fraction=1.0):
        names = ("real", "flips", "soft")
        return Answers(CLASSES, y_true, names, np.stack(probs)[:, None, None], fraction)
    test, val = answers(good, bad, good), answers(bad, good, good)
    assert best_baseline(test, ("real", "flips")) == "real"
    assert best_baseline(val, ("real", "flips")) == "flips"
    found = summary([test], {"soft": "flips"}, ("real", "flips"), choose=[val])
    assert {d["against"] for d in found["differences"] if d["role"] == "best baseline"} == {"flips"}
    assert {d["arm"] for d in found["differences"] if d["role"] == "best baseline"} == {"soft"}
    with pytest.raises(UserError, match="fraction 1"):
        summary([test], {}, ("real",), choose=[answers(bad, good, good, fraction=.5)])


def test_differences_of_an_unknown_arm():
    with pytest.raises(UserError, match="no answers of the arm 'hard'; known: real, soft"):
        differences(random_answers(), [("hard", "real")])


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_is_a_share(level):
    with pytest.raises(UserError, match="coverage"): arm_scores(random_answers(), level)


# --- files

def test_answers_come_back_from_their_file(tmp_path):
    a = random_answers(fraction=.1)
    b = read_answers(write_answers(tmp_path / "a.npz", a))
    assert (b.classes, b.arms, b.fraction) == (a.classes, a.arms, a.fraction) and b.probs.dtype == np.float32
    np.testing.assert_array_equal(b.probs, a.probs)
    np.testing.assert_array_equal(b.y_true, a.y_true)
    assert differences(a, [("soft", "real")]) == differences(b, [("soft", "real")])


def test_damaged_files_end_in_a_sentence(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="does not exist"): read_answers(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a file of answers"): read_answers(path)
    write_arrays(path, {"classes": np.array(["a"])})
    with pytest.raises(UserError, match="lacks 'y_true'"): read_answers(path)
    np.savez(path, classes=np.array(["a"], dtype=object))
    with pytest.raises(UserError, match="not a file of answers"): read_answers(path)
