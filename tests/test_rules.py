"Rules that a person or the search chose: what they would do, their file, and the run that follows them."
import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import run_files
from hypothesis import given, settings, strategies as st

from fer_synth.config import SCORES, SelectionConfig, UserError, check_config, from_dict, to_dict
from fer_synth.experiment import results, runs
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.records import RunFolder
from fer_synth.selection.pools import Pool, read_selection, read_validation, write_validation
from fer_synth.selection.rules import RuleEvaluator, SelectionRule, quotas, select, suggest, suggest_threshold

settings.register_profile("any machine", deadline=None)     # a slow moment of a busy machine is no failure
settings.load_profile("any machine")

# ties and exact hits of the threshold are common; in any score's range
COARSE = st.integers(-20, 40).map(lambda v: v / 20)
FIVE = ("angry", "fear", "happy", "neutral", "sad")


@st.composite
def pools(draw):
    "Arguments of a `RuleEvaluator`, and thresholds."
    classes = tuple(f"class {k}" for k in range(draw(st.integers(1, 4))))
    n, m = draw(st.integers(0, 40)), draw(st.integers(0, 25))
    def several(one, n, kind): return np.array(draw(st.lists(one, min_size=n, max_size=n))).astype(kind)
    number = st.integers(0, len(classes) - 1)
    pool = {"score": several(COARSE, n, float), "labels": several(number, n, int),
            "val_score": several(COARSE, m * len(classes), float).reshape(m, len(classes)),
            "val_truth": several(number, m, int), "classes": classes,
            "real_counts": {c: draw(st.integers(0, 30)) for c in classes},
            "blanks": several(st.booleans(), n, bool)}
    return pool, {c: draw(COARSE) for c in classes}


@given(pools(), st.integers(0, 40), st.sampled_from(["made", "confident"]))
def test_the_evaluator_agrees_with_the_rule(case, target, prefer):
    "Kept and passed are what `select` makes of it; precision and recall are counted row by row."
    pool, least = case
    facts = RuleEvaluator(**pool).facts(least, target)
    wanted = quotas(SelectionConfig(target=target), pool["classes"], pool["real_counts"])
    kept, reasons = select({"any": pool["score"]}, pool["labels"], least, wanted, pool["classes"], prefer,
                           pool["blanks"], "any")
    for k, name in enumerate(pool["classes"]):
        e, mine = facts[name], pool["labels"] == k
        why = [r for r, m in zip(reasons, mine) if m]
        assert (e["made"], e["quota"], e["real"]) == (mine.sum(), wanted[name], pool["real_counts"][name])
        assert e["passed"] == why.count("kept") + why.count("quota full") and e["kept"] == kept[mine].sum()
        assert e["share"] == (e["passed"] / mine.sum() if mine.any() else None)
        passing = [t == k for s, t in zip(pool["val_score"][:, k], pool["val_truth"]) if s >= least[name]]
        of_class = (pool["val_truth"] == k).sum()
        assert e["val_rows"] == len(passing)
        assert e["val_precision"] == (sum(passing) / len(passing) if passing else None)
        assert e["val_recall"] == (sum(passing) / of_class if of_class else None)


@given(pools(), st.integers(0, 12))
def test_the_borderline_is_what_stands_next_to_the_line(case, k):
    pool, least = case
    evaluator = RuleEvaluator(**pool)
    for c, name in enumerate(pool["classes"]):
        above, below = evaluator.borderline(name, least[name], k)
        mine = {i: s for i, s in enumerate(pool["score"]) if pool["labels"][i] == c and not pool["blanks"][i]}
        over = sorted(s for s in mine.values() if s >= least[name])
        under = sorted((s for s in mine.values() if s < least[name]), reverse=True)
        assert [mine[i] for i in above.tolist()] == over[:k]
        assert [mine[i] for i in below.tolist()] == under[:k]
        assert len({*above.tolist(), *below.tolist()}) == len(above) + len(below)


@given(pools())
def test_a_higher_line_never_passes_more(case):
    pool, least = case
    evaluator = RuleEvaluator(**pool)
    before, after = evaluator.facts(least), evaluator.facts({c: t + .25 for c, t in least.items()})
    assert all(after[c][key] <= before[c][key] for c in least for key in ("passed", "kept", "val_rows"))


@pytest.mark.parametrize("change, words", [
    (dict(score=np.zeros(3)), "do not fit"), (dict(val_truth=np.zeros(9, int)), "do not fit"),
    (dict(val_score=np.zeros((4, 5))), "do not fit"), (dict(score=np.array([.1, np.nan])), "not numbers"),
    (dict(val_score=np.full((4, 2), np.inf)), "not numbers"),
    (dict(labels=np.array([0, 2])), "from 0 to 2"), (dict(labels=np.array([-1, 0])), "from -1")])
def test_arrays_that_do_not_fit(change, words):
    good = dict(score=np.zeros(2), labels=np.array([0, 1]), val_score=np.zeros((4, 2)),
                val_truth=np.zeros(4, int), classes=("a", "b"))
    RuleEvaluator(**good)
    with pytest.raises(UserError, match=words): RuleEvaluator(**good | change)


def test_the_evaluator_names_what_is_missing():
    evaluator = RuleEvaluator([.1], [0], None, None, ("happy", "sad"))
    with pytest.raises(UserError, match="lack the class 'sad'"): evaluator.facts({"happy": .5})
    with pytest.raises(UserError, match="did you mean 'happy'"): evaluator.borderline("hapy", .5, 3)
    assert evaluator.facts(dict(happy=.1, sad=.1))["happy"] == dict(
        real=0, quota=0, made=1, passed=1, kept=0, share=1., val_precision=None, val_recall=None, val_rows=0)


# --- the search


def slow_suggestion(score, val_score, is_class, wanted, min_precision, few):
    "The three rules of the search, one threshold at a time."
    tried = []
    for t in sorted({*score, *val_score}):
        right = [c for s, c in zip(val_score, is_class) if s >= t]
        precision = sum(right) / len(right) if right else -1
        enough, fills = len(right) >= max(1, min(few, len(val_score))), sum(s >= t for s in score) >= wanted
        if enough: tried.append((-precision, t, fills))
    good = [x for x in tried if -x[0] >= min_precision]
    if full := [x for x in good if x[2]]: return min(full)[1], "fills"
    if good: return min(t for _, t, _ in good), "keeps"
    return min(tried)[1], "the promised"


@given(st.lists(COARSE, max_size=30), st.lists(st.tuples(COARSE, st.booleans()), min_size=1, max_size=30),
       st.integers(0, 20), st.integers(0, 10).map(lambda v: v / 10), st.integers(0, 12))
def test_the_search_by_brute_force(score, val, wanted, min_precision, few):
    val_score, is_class = [s for s, _ in val], [c for _, c in val]
    t, why = suggest_threshold(score, val_score, is_class, wanted, min_precision, few)
    expected, word = slow_suggestion(score, val_score, is_class, wanted, min_precision, few)
    assert t == expected and why.startswith(word)


@given(st.lists(COARSE, max_size=30), st.integers(0, 40))
def test_without_validation_rows_the_quota_decides(score, wanted):
    t, why = suggest_threshold(score, [], [], wanted)
    passed = sum(s >= t for s in score)
    assert why.startswith("no validation")
    if not 0 < wanted <= len(score): assert passed == len(score)
    else: assert passed >= wanted and sum(s > t for s in score) < wanted


@given(pools(), st.integers(0, 30), st.integers(0, 5))
def test_a_suggestion_is_a_rule_with_true_facts(case, wanted, few):
    pool, _ = case
    labels, classes, blanks = pool["labels"], pool["classes"], pool["blanks"]
    score, val_score = np.clip(pool["score"], -1, 1), np.clip(pool["val_score"], -1, 1)
    most = dict.fromkeys(classes, wanted)
    rule, facts = suggest(score, labels, val_score, pool["val_truth"], classes, most, .5, name="margin",
                          blanks=blanks, few=few, target=7, note="tried")
    assert (rule.score, rule.chosen_by, rule.target, rule.note) == ("margin", "search", 7, "tried")
    assert set(rule.thresholds) == set(classes)
    kept, _ = select({"margin": score}, labels, rule.thresholds, most, classes, "made", blanks, "margin")
    assert [facts[c]["kept"] for c in classes] == [int(kept[labels == k].sum()) for k in range(len(classes))]
    assert all(e["quota"] == wanted and e["why"] for e in facts.values())


# --- the rule and its file


LETTERS = st.characters(exclude_categories=("Cs",))
NAMES = st.text(LETTERS, min_size=1, max_size=12)


@st.composite
def rules(draw):
    name = draw(st.sampled_from(sorted(SCORES)))
    low, high = SCORES[name]
    value = st.floats(low, min(high, 1e6), allow_nan=False)
    return SelectionRule(score=name, thresholds=draw(st.dictionaries(NAMES, value, min_size=1, max_size=5)),
                         target=draw(st.integers(0, 10 ** 6)),
                         prefer=draw(st.sampled_from(["made", "confident"])),
                         chosen_by=draw(st.sampled_from(["hand", "search", "Ä. Nobody"])),
                         note=draw(st.text(LETTERS, max_size=30)))


@given(rules())
def test_a_rule_comes_back_as_it_was(tmp_path_factory, rule):
    folder = tmp_path_factory.mktemp("rule")
    path = rule.save(folder / "rule.json")
    content = path.read_bytes()
    assert SelectionRule.load(path) == rule and rule.save(path).read_bytes() == content
    assert [f.name for f in folder.iterdir()] == ["rule.json"]


@given(rules(), st.floats(0, 1))
def test_a_config_takes_the_whole_rule(rule, precision):
    before = SelectionConfig(threshold=.3, min_precision=precision, max_pool=77,
                             class_thresholds={"gone": .1})
    cfg = rule.apply(before, tuple(rule.thresholds))
    assert (cfg.score, cfg.class_thresholds) == (rule.score, rule.thresholds)
    assert (cfg.target, cfg.prefer) == (rule.target, rule.prefer)
    assert cfg.max_pool == 77
    assert cfg.min_precision == 0       # thresholds that were chosen are not raised afterwards
    whole = check_config(replace(tiny_wgan_gp(), selection=cfg))
    assert from_dict(type(whole), json.loads(json.dumps(to_dict(whole)))) == whole


def test_a_threshold_of_another_score_is_forgotten():
    "A margin may be negative, a probability may not; the config that follows must be one that loads."
    before = SelectionConfig(score="margin", threshold=-.3)
    after = SelectionRule(score="confidence", thresholds={"happy": .5}).apply(before)
    check_config(replace(tiny_wgan_gp(), selection=after))
    assert SelectionRule(score="margin", thresholds={"happy": .5}).apply(before).threshold == -.3


def test_every_class_has_a_threshold_and_no_other():
    rule = SelectionRule(score="confidence", thresholds={"happy": .5, "sad": .6})
    cfg = SelectionConfig()
    with pytest.raises(UserError, match="'angry', 'fear'"): rule.apply(cfg, ("angry", "fear", "happy", "sad"))
    with pytest.raises(UserError, match="unknown class 'sad'"): rule.apply(cfg, ("happy",))
    assert rule.apply(cfg).class_thresholds == rule.thresholds      # the classes may be unknown yet


def test_a_rule_and_the_config_name_the_same_choices():
    kinds = {f.name: f.type for f in fields(SelectionRule)}
    config = {f.name: f.type for f in fields(SelectionConfig)}
    assert all(kinds[name] == config[name] for name in ("score", "prefer", "target"))


GOOD = {"format": "fer_synth selection rule 1", "score": "margin", "thresholds": {"happy": .5}}
TWICE = json.dumps(GOOD).replace('"happy": 0.5', '"happy": 0.5, "happy": 0.6').encode()


def good_without(name): return {k: v for k, v in GOOD.items() if k != name}


def good_but(**changes): return GOOD | changes


@pytest.mark.parametrize("content, words", [
    (None, "does not exist"),
    (b"", "not JSON"),
    (b"\xff\xfe{", "is not text in UTF-8"),
    (b"[" * 100_000, "not JSON"),
    (b"{} trailing", "not JSON"),
    (b"[]", "not a selection rule"),
    (b"{}", "not a selection rule"),
    (b"null", "not a selection rule"),
    (good_but(format="fer_synth selection rule 2"), "selection rule 1"),
    (good_without("score"), "'score' is missing"),
    (good_without("thresholds"), "'thresholds' is missing"),
    (good_but(tresholds={}), "did you mean 'thresholds'"),
    (good_but(score="margn"), "did you mean 'margin'"),
    (good_but(score=None), "score is None"),
    (good_but(thresholds={}), "thresholds is empty"),
    (good_but(thresholds=[.5]), "thresholds is"),
    (good_but(thresholds={"happy": "0.5"}), "thresholds.happy is '0.5'"),
    (good_but(thresholds={"happy": True}), "thresholds.happy is True"),
    (good_but(thresholds={"happy": float("nan")}), "nan for 'happy'"),
    (good_but(thresholds={"happy": float("inf")}), "inf for 'happy'"),
    (good_but(thresholds={"happy": 1.5}), "between -1 and 1"),
    (good_but(score="confidence", thresholds={"sad": -.1}), "between 0 and 1"),
    (good_but(score="density", thresholds={"sad": -.1}), "0 or more"),
    (good_but(thresholds={"happy": 10 ** 400}), "rule.json"),
    (good_but(target=-1), "target is -1"),
    (good_but(target=1.5), "target is 1.5"),
    (good_but(prefer="best"), "prefer is 'best'"),
    (good_but(note=3), "note is 3"),
    (good_but(chosen_by=None), "chosen_by is None"),
    (TWICE, "'happy' stands there twice")])
def test_a_file_that_is_no_rule(tmp_path, content, words):
    path = tmp_path / "rule.json"
    if not isinstance(content, bytes | None): content = json.dumps(content).encode()
    if content is not None: path.write_bytes(content)
    with pytest.raises(UserError) as e: SelectionRule.load(path)
    assert words in str(e.value) and "rule.json" in str(e.value)


def test_a_folder_is_no_rule(tmp_path):
    with pytest.raises(UserError, match="cannot be read"): SelectionRule.load(tmp_path)


def test_a_hand_written_rule_needs_little(tmp_path):
    (tmp_path / "rule.json").write_text(json.dumps(GOOD | {"thresholds": {"happy": 1, "sad": 5 / 6}}))
    rule = SelectionRule.load(tmp_path / "rule.json")
    # scores have six decimals, and so have thresholds
    assert rule == SelectionRule(score="margin", thresholds={"happy": 1., "sad": .833333})
    assert rule.chosen_by == "hand"


# --- the record of the validation rows


PROBS, TRUTH = np.full((4, 2), .5, np.float32), np.array([0, 1, 1, 0])


@pytest.mark.parametrize("arrays", [
    dict(probs=PROBS), dict(truth=TRUTH), dict(probs=PROBS, truth=TRUTH[:3]),
    dict(probs=PROBS[0], truth=TRUTH), dict(probs=PROBS, truth=TRUTH + 1),
    dict(probs=PROBS, truth=TRUTH - 1), dict(probs=PROBS, truth=TRUTH * 1.),
    dict(probs=PROBS * np.nan, truth=TRUTH), dict(probs=PROBS.astype(str), truth=TRUTH),
    dict(probs=PROBS, truth=TRUTH, score=PROBS[:, :1]), dict(probs=PROBS, truth=TRUTH, score=PROBS * np.inf),
    dict(probs=np.array([{}, 1], object), truth=TRUTH)])
def test_a_damaged_record(tmp_path, arrays):
    np.savez(tmp_path / "validation-1.npz", **arrays)
    with pytest.raises(UserError, match="validation-1.npz"): read_validation(tmp_path / "validation-1.npz")


def test_the_same_record_has_the_same_bytes(tmp_path):
    first = write_validation(tmp_path / "a.npz", PROBS, TRUTH, PROBS).read_bytes()
    assert write_validation(tmp_path / "a.npz", PROBS, TRUTH, PROBS).read_bytes() == first
    empty = write_validation(tmp_path / "empty.npz", PROBS[:0], TRUTH[:0])
    assert read_validation(empty)["probs"].shape == (0, 2)


# --- a run that follows a rule


def short(**selection):
    "The tiny recipe with two arms, one seed and these settings of selection."
    cfg = tiny_wgan_gp()
    compare = replace(cfg.compare, arms=("real", "augmented"), seeds=1, bootstrap=100)
    return replace(cfg, compare=compare, selection=replace(cfg.selection, **selection))


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    "Runs that decided by view consistency and by density, with the rule that they followed."
    folder, made = tmp_path_factory.mktemp("ruled"), {}
    for name, threshold, prefer in (("view_consistency", 1., "made"), ("density", .8, "confident")):
        rule = SelectionRule(score=name, thresholds=dict.fromkeys(FIVE, threshold), prefer=prefer, target=130)
        path = rule.save(folder / f"{name}.json")
        made[name] = runs.run(short(), folder / name, show=False, rule=path), rule
    return made


@pytest.mark.parametrize("name", ["view_consistency", "density"])
def test_a_run_decides_by_its_rule(ruled, name):
    path, rule = ruled[name]
    folder, cfg = RunFolder.open(path)
    assert cfg.selection == rule.apply(short().selection, FIVE)
    assert SelectionRule.load(path / "rule.json") == rule
    table, rounds = read_selection(path / "selection.csv"), folder.read("metrics.json")["selection"]["rounds"]
    for r in (1, 2):
        rows = {column: values[table["round"] == r] for column, values in table.items()}
        seen = read_validation(run_files.validation(path, r))
        pool = Pool.load(run_files.pool(path, r))
        score, labels = rows[name], np.array([FIVE.index(c) for c in rows["intended"]])
        np.testing.assert_array_equal(pool.score, score)
        assert pool.round == r and pool.labels.tolist() == labels.tolist()
        blanks, did = rows["reason"] == "blank", rounds[r - 1]["classes"]
        real, quota = ({c: e[key] for c, e in did.items()} for key in ("real", "quota"))
        evaluator = RuleEvaluator(score, labels, seen["score"], seen["truth"], FIVE, real, blanks)
        for c, e in evaluator.facts(rule.thresholds, rule.target).items():    # the facts of the run
            assert {k: e[k] for k in ("real", "quota", "made", "passed", "kept")}.items() <= did[c].items()
        kept, reasons = select({name: score}, labels, rule.thresholds, quota, FIVE, rule.prefer, blanks, name)
        assert reasons == rows["reason"].tolist()
    assert {"kept", "below threshold"} <= set(table["reason"].tolist()), "the rule decides nothing"


@pytest.mark.parametrize("name", ["view_consistency", "density"])
def test_scores_can_be_taken_again(ruled, name):
    path, _ = ruled[name]
    again, rows = results.score_again(path, name, device="cpu"), read_selection(path / "selection.csv")
    seen = read_validation(run_files.validation(path, 2))
    recorded, slack = rows[name][rows["round"] == 2], {"view_consistency": 1 / 6, "density": .2}[name] + 1e-6
    for a, b in ((again["score"], recorded), (again["val_score"], seen["score"])):
        # another batch may round one view or one ball differently
        assert a.shape == b.shape and np.abs(a - b).max() <= slack and (a == b).mean() > .95
    np.testing.assert_array_equal(again["val_truth"], seen["truth"])
    first = results.score_again(path, "confidence", 1, "cpu")
    assert first["score"].shape == (rows["round"] == 1).sum()
    probs = read_validation(run_files.validation(path, 1))["probs"]
    np.testing.assert_allclose(first["val_score"], probs, atol=1e-5)


def test_a_run_by_density_goes_on_where_it_was(ruled, tmp_path):
    "Without the last pool and all that follows, a resume ends in the same numbers."
    path, _ = ruled["density"]
    copy = shutil.copytree(path, tmp_path / "copy")
    records = [run_files.pool(path, 2), run_files.validation(path, 2), run_files.selection(path),
               run_files.predictions(path)]
    for pattern in ("pool-2", "select-2", "student-*", "compare"):
        for folder in run_files.step_folders(copy, pattern): shutil.rmtree(folder)
    for name in ("selection.csv", "predictions.npz", "metrics.json"): (copy / name).unlink()
    runs.resume(copy, show=False)
    for file in records: assert (copy / file.relative_to(path)).read_bytes() == file.read_bytes(), file
    assert run_files.metrics(copy) == run_files.metrics(path)


def test_calibrated_and_margin_runs(tmp_path):
    for name, line in (("calibrated", .2), ("margin", -.05)):
        cfg = short(score=name, threshold=line, min_precision=.21)
        cfg = replace(cfg, rounds=replace(cfg.rounds, count=1))
        path = runs.run(cfg, tmp_path / name, show=False)
        rows = read_selection(path / "selection.csv")
        table = RunFolder(path).read("metrics.json")["selection"]["rounds"][0]["classes"]
        least = np.array([table[c]["threshold"] for c in rows["intended"]])
        passed = np.isin(rows["reason"], ("kept", "quota full"))
        np.testing.assert_array_equal(passed, (rows[name] >= least) & (rows["reason"] != "blank"))
        assert (least >= line).all() and "score" in read_validation(run_files.validation(path, 1))


def test_a_bad_rule_leaves_nothing_behind(tmp_path):
    four, six = dict.fromkeys(FIVE[1:], .5), dict.fromkeys((*FIVE, "surprise"), .5)
    lacking = SelectionRule(score="confidence", thresholds=four).save(tmp_path / "lacking.json")
    other = SelectionRule(score="confidence", thresholds=six).save(tmp_path / "other.json")
    for rule, words in ((lacking, "no threshold for 'angry'"), (other, "unknown class 'surprise'"),
                        (tmp_path / "none.json", "does not exist")):
        with pytest.raises(UserError, match=words):
            runs.run(short(), tmp_path / "run", show=False, rule=rule)
    assert not (tmp_path / "run").exists()


def test_there_is_no_pool_yet(ruled):
    path, _ = ruled["density"]
    with pytest.raises(UserError, match="no pool of round 7"):
        results.score_again(path, "margin", 7, "cpu")
    with pytest.raises(UserError, match="did you mean 'margin'"):
        results.score_again(path, "margn", 0, "cpu")
