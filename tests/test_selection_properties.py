"Properties of selection that hold for any pool, found by trying many small ones."
import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fer_synth.config import SelectionConfig
from fer_synth.selection import (judge_quality, quotas, read_selection, score_pool, select, selection_rows, selection_warnings,
                                 summarise, threshold_curve, thresholds, write_selection)

settings.register_profile("any machine", deadline=None)     # a slow moment of a busy machine is no failure
settings.load_profile("any machine")

COARSE = st.integers(0, 20).map(lambda v: v / 20)     # a coarse grid makes ties and exact hits of the threshold common
PREFER = st.sampled_from(["made", "confident"])


@st.composite
def pools(draw):
    "A small pool with its rule: the arguments of `select`."
    classes = tuple(f"class {k}" for k in range(draw(st.integers(1, 4))))
    n = draw(st.integers(0, 40))
    several = lambda one: np.array(draw(st.lists(one, min_size=n, max_size=n)))
    return {"scores": {"confidence": several(COARSE).astype(float)}, "labels": several(st.integers(0, len(classes) - 1)).astype(int),
            "thresholds": {c: draw(COARSE) for c in classes}, "quotas": {c: draw(st.integers(0, 15)) for c in classes},
            "classes": classes, "prefer": draw(PREFER), "blanks": several(st.booleans()).astype(bool)}


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
        assert pool["scores"]["confidence"][i] >= pool["thresholds"][pool["classes"][pool["labels"][i]]] and not pool["blanks"][i]


@given(pools())
def test_confident_keeps_the_top(pool):
    kept, reasons = select(**pool | {"prefer": "confident"})
    for k in range(len(pool["classes"])):
        of = lambda word: [c for c, r, label in zip(pool["scores"]["confidence"], reasons, pool["labels"]) if label == k and r == word]
        if of("kept") and of("quota full"): assert min(of("kept")) >= max(of("quota full"))


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
    first, _ = select(**pool | {"prefer": "made", "scores": {"confidence": pool["scores"]["confidence"][:half]},
                                "labels": pool["labels"][:half], "blanks": pool["blanks"][:half]})
    assert kept[:half].tolist() == first.tolist()


@given(pools(), st.integers(0, 99))
def test_the_count_of_a_round_adds_up(pool, seed):
    labels, classes = pool["labels"], pool["classes"]
    scores = score_pool(probabilities(seed, len(labels), len(classes)), labels)
    kept, reasons = select(**pool | {"scores": scores})
    table = summarise(scores, labels, reasons, pool["thresholds"], pool["quotas"], {}, classes)
    assert sum(e["made"] for e in table.values()) == len(labels) and sum(e["kept"] for e in table.values()) == kept.sum()
    assert all(e["kept"] <= e["passed"] <= e["made"] and e["kept"] <= e["quota"] for e in table.values())
    said = selection_warnings(table, scores, labels, pool["blanks"])
    short = [name for name, e in table.items() if e["quota"] and (not e["kept"] or e["kept"] < e["quota"] / 2)]
    assert [s.split("'")[1] for s in said] == short


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5000), min_size=1), st.integers(0, 6000))
def test_quotas_even_out_the_classes(counts, target):
    wanted = quotas(SelectionConfig(target=target), tuple(counts), counts)
    goal = target or max(counts.values())
    assert all(counts[c] + q == max(goal, counts[c]) and q >= 0 for c, q in wanted.items())


@given(st.integers(0, 2 ** 16), st.integers(1, 60), COARSE, COARSE)
def test_thresholds_are_the_smallest_that_keep_the_promise(seed, n, start, wanted):
    probs, truth = probabilities(seed, n, 3), np.random.default_rng(seed + 1).integers(0, 3, n)
    found = thresholds(SelectionConfig(threshold=start, min_precision=wanted), "abc", probs, truth)
    for k, t in enumerate(found.values()):
        p = np.round(probs[:, k].astype(float), 6)
        precision = {v: np.mean(truth[p >= v] == k) if (p >= v).any() else -1 for v in sorted({start, *p[p > start].tolist()})}
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
    for name, curve in threshold_curve(scores, labels, probabilities(seed + 2, 20, 3), val, "abc").items():
        assert len(curve["threshold"]) == 51 and curve["threshold"][0] == 0 and curve["threshold"][-1] == 1
        for key in ("kept_share", "val_recall"):
            known = [v for v in curve[key] if v is not None]
            assert known == sorted(known, reverse=True) and len(known) in (0, 51)
        assert all(v is None or 0 <= v <= 1 for v in curve["val_precision"])


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.integers(0, 30), st.integers(0, 2 ** 16), st.integers(1, 3))
def test_csv_round_trip(tmp_path_factory, classes, n, seed, rounds):
    rng, classes, tables = np.random.default_rng(seed), tuple(classes), []
    least, most = dict.fromkeys(classes, .4), dict.fromkeys(classes, 5)
    for r in range(1, rounds + 1):
        labels = rng.integers(0, len(classes), n)
        scores = score_pool(probabilities(seed + r, n, len(classes)), labels)
        kept, reasons = select(scores, labels, least, most, classes)
        tables.append(selection_rows(r, labels, rng.integers(0, 2 ** 62, n), "ab12", scores, kept, reasons, classes))
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
        assert select(mine, [classes.index(c) for c in mine["intended"]], least, most, classes)[1] == mine["reason"].tolist()


def test_a_spreadsheet_reads_the_same_file(tmp_path):
    "Python's own reader agrees about the header of the contract and the numbers."
    scores = score_pool([[.75, .25], [.125, .875]], [0, 0])
    kept, reasons = select(scores, [0, 0], {"sad": .5, "a,b": .5}, {"sad": 1, "a,b": 1}, ("sad", "a,b"))
    rows = selection_rows(2, [0, 0], [7, 8], "ff", scores, kept, reasons, ("sad", "a,b"))
    with open(write_selection(tmp_path / "s.csv", rows, ("sad", "a,b")), newline="") as f:
        read = list(csv.DictReader(f))
    assert list(read[0]) == "id round intended seed generator decision reason confidence predicted margin entropy p_sad p_a,b".split(" ")
    assert [r["id"] for r in read] == ["2-0", "2-1"] and [r["reason"] for r in read] == ["kept", "below threshold"]
    assert [r["decision"] for r in read] == ["kept", "dropped"] and [r["predicted"] for r in read] == ["sad", "a,b"]
    assert [float(r["margin"]) for r in read] == [.5, -.75]
