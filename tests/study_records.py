"""An invented study as `study.json` holds one: plausible numbers, each difference made from the seeds.

`made_study()` has all parts; a test changes or takes away what it is about."""
import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from scipy import stats

CLASSES = ("angry", "fear", "happy", "sad")
METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "nll", "ece")
ROLES = ("twin", "real", "best baseline")
GAINS = {     # arm -> (what else it learns from, twin, points over `real` with few rows, with all)
    "real": ("none", None, 0, 0), "flips": ("none", None, 4, 3), "distilled": ("none", None, 3.5, 2.5),
    "augmented": ("generated", "real", -1.5, -2.5), "soft": ("generated", "real", 6, 5),
    "distilled+soft": ("generated", "distilled", 7, 6), "placebo": ("placebo", "real", -2, -3),
    "ceiling": ("held-back", "real", 9, 4)}
CORRUPTIONS = ("blur", "noise", "contrast", "rotation")


def interval(values, level=.95):
    "Mean of some seeds with Student's interval, and the p-value of a mean of zero."
    values = np.asarray(values, float)
    mean, n = float(values.mean()), len(values)
    if n < 2 or not values.std(): return mean, mean, mean, 1.0
    error = float(values.std(ddof=1) / np.sqrt(n))
    reach = error * float(stats.t.ppf((1 + level) / 2, n - 1))
    return mean, mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean / error), n - 1))


def holm(p):
    "Holm's step-down adjustment of some p-values."
    order, adjusted, worst = np.argsort(p), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted


def values_of(gains, fractions, seeds, classes, metrics):
    "{(arm, fraction, metric): a number for each seed}"
    rng, found = np.random.default_rng(0), {}
    for fraction in fractions:
        shared = rng.normal(0, .012, seeds)                      # of all arms: the rows of the seed
        for arm, (_, _, few, all_rows) in gains.items():
            gain = (few if fraction < 1 else all_rows) / 100
            base = (.62 if fraction < 1 else .74) + gain + shared + rng.normal(0, .004, seeds)
            for metric in metrics:
                value = base + rng.normal(0, .003, seeds)
                if metric == "nll": value = 2.2 - 1.8 * value
                elif metric == "ece": value = .12 - .5 * gain + rng.normal(0, .004, seeds)
                elif metric.startswith("recall_"):
                    place = list(classes).index(metric[7:])
                    lost = .09 if arm == "augmented" and place == 1 else 0
                    value = value + .05 * ((place % 4) - 1.5) - lost
                found[arm, fraction, metric] = np.clip(value, 0, 1 if metric != "nll" else 9)
    return found


def scores_of(values):
    return [{"arm": a, "fraction": f, "metric": m, "per_seed": v.tolist()}
            | dict(zip(("mean", "low", "high"), interval(v))) for (a, f, m), v in values.items()]


def best_baseline(gains, values, fraction):
    names = [a for a, (extra, *_) in gains.items() if extra == "none"]
    return max(names, key=lambda a: values[a, fraction, "accuracy"].mean(), default=None)


def differences_of(gains, values, fractions, metrics):
    found = []
    for fraction in fractions:
        best = best_baseline(gains, values, fraction)
        for role in ROLES:
            for metric in metrics:
                group = []
                for arm, (_, twin, *_) in gains.items():
                    against = {"twin": twin, "real": "real", "best baseline": best}[role]
                    if against is None or against == arm or against not in gains: continue
                    apart = values[arm, fraction, metric] - values[against, fraction, metric]
                    mean, low, high, p = interval(apart)
                    better = float(np.mean(apart < 0 if metric in ("nll", "ece") else apart > 0))
                    group.append({"arm": arm, "against": against, "role": role, "fraction": fraction,
                                  "metric": metric, "mean": mean, "low": low, "high": high,
                                  "per_seed": apart.tolist(), "p": p, "improvement": better})
                    if metric == "accuracy":
                        group[-1] |= {"a_only": 120 + round(2000 * max(mean, 0)),
                                      "b_only": 120 + round(2000 * max(-mean, 0))}
                for d, p in zip(group, holm([d["p"] for d in group])): d["p_holm"] = p
                found += group
    return found


def matrix(recalls, rows=250):
    "A confusion matrix with these recalls; the rest of a row is spread evenly."
    k = len(recalls)
    counts = np.zeros((k, k), int)
    for i, recall in enumerate(recalls):
        counts[i] = round(rows * (1 - recall) / max(1, k - 1))
        counts[i, i] = rows - counts[i].sum() + counts[i, i]
    return counts.tolist()


def reliability(gain):
    confidence = np.linspace(1 / 30, 29 / 30, 15)
    accuracy = np.clip(confidence - .12 + gain, 0, 1)
    share = np.r_[0, 0, 0, np.linspace(.02, .12, 12)]
    empty = share == 0
    return {"confidence": [None if e else float(v) for e, v in zip(empty, confidence)],
            "accuracy": [None if e else float(v) for e, v in zip(empty, accuracy)],
            "share": (share / share.sum()).tolist()}


def picture(size=32):
    "A small grey picture as a data URL."
    file = io.BytesIO()
    pixels = np.add.outer(np.arange(size) * 3, np.arange(size) * 4) % 256
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def curves_of(arms):
    def line(xs, shape):
        return [{"arm": a, "x": x, "metric": "accuracy", "mean": m, "low": m - .02, "high": m + .02}
                for i, a in enumerate(arms) for x in xs for m in [.74 + .01 * i + shape(x)]]
    return {"threshold": line((0, .25, .5, .75, .9), lambda t: .02 - .05 * t ** 2),
            "ratio": line((.25, .5, 1, 2, 3), lambda r: .02 - .01 * (r - 1) ** 2 / 2)}


def rounds_of(fractions):
    found = []
    for fraction in fractions[-1:]:
        for feedback in (True, False):
            for number in (1, 2, 3):
                worse = feedback and number == 2
                student = .76 - .03 * worse + .004 * number
                frechet = 40 - 4 * number + 9 * worse
                found.append({
                    "fraction": fraction, "round": number, "feedback": feedback, "judge": .8 + .004 * number,
                    "student": {"mean": student, "low": student - .01, "high": student + .01}, "worse": worse,
                    "measures": {
                        "frechet": {"value": frechet, "low": frechet - 2, "high": frechet + 2, "real": .3},
                        "coverage": {"value": .5 + .05 * number, "low": .48, "high": .7, "real": .99}}})
    return found


def arms_of(gains):
    words = {"none": "real images alone", "generated": "real images and all generated ones",
             "placebo": "real images and generated ones with shuffled labels",
             "held-back": "real images and held-back real ones"}
    return {name: {"choices": {"extra": extra, "selector": ["all"] if extra == "generated" else [],
                               "labels": "soft" if "soft" in name else "hard", "transform": "none"},
                   "words": words[extra], "twin": twin, "generated": extra in ("generated", "placebo")}
            for name, (extra, twin, *_) in gains.items()}


def made_study(gains=None, seeds=5, fractions=(.25, 1.0), classes=CLASSES, source="drawn") -> dict:
    "A study with all parts; `gains` as `GAINS`."
    gains, fractions = gains or GAINS, list(fractions)
    metrics = [*METRICS, *(f"recall_{c}" for c in classes)]
    values = values_of(gains, fractions, seeds, classes, metrics)
    differences = differences_of(gains, values, fractions, metrics)
    def recall(arm, fraction): return [values[arm, fraction, f"recall_{c}"].mean() for c in classes]
    count = {c: 900 - 150 * (i % 4) for i, c in enumerate(classes)}
    generated = [a for a, (extra, *_) in gains.items() if extra == "generated"]
    return {
        "version": 1, "title": "study_drawn32", "command": "fer-synth study --recipe study_drawn32 --out s1",
        "source": source, "classes": list(classes), "fractions": fractions, "seeds": seeds, "students": 1,
        "made": {"date": "2026-11-27", "machine": "x86_64", "cores": 2, "torch": "2.11.0"},
        "counts": {split: {c: n // d for c, n in count.items()}
                   for split, d in (("train", 1), ("val", 5), ("test", 4))},
        "level": .95, "steps": 300, "batch": 128, "classifier": "simple_cnn", "arms": arms_of(gains),
        "scores": scores_of(values), "differences": differences,
        "hurt": [{"arm": d["arm"], "against": d["against"], "fraction": d["fraction"],
                  "class": d["metric"][7:], "mean": d["mean"], "low": d["low"], "high": d["high"]}
                 for d in differences
                 if d["role"] == "twin" and d["metric"].startswith("recall_") and d["high"] < 0],
        "confusion": {str(f): {a: matrix(recall(a, f)) for a in gains} for f in fractions},
        "reliability": {str(f): {a: reliability(g[3] / 100) for a, g in gains.items()} for f in fractions},
        "convergence": [{"arm": a, "fraction": f, "marked": 2 if a == "flips" and f == 1 else 0,
                         "students": seeds, "best_step": 210 + 5 * i}
                        for f in fractions for i, a in enumerate(gains)],
        "robustness": [{"arm": a, "fraction": f, "corruption": c, "strength": s,
                        "accuracy": m, "low": m - .015, "high": m + .015}
                       for f in fractions for i, a in enumerate(gains) for c in CORRUPTIONS for s in range(6)
                       for m in [float(values[a, f, "accuracy"].mean()) - .05 * s]],
        "curves": curves_of(generated[:2]), "rounds": rounds_of(fractions) if generated else [],
        "memorisation": {"images": 2000, "near_copies": 3, "rate": .0015, "low": .0005, "high": .0044,
                         "real_rate": .001,
                         "planted": {"put": 20, "found": 20}, "trusted": True,
                         "worst": [{"picture": picture(), "distance": .031 + .01 * i} for i in range(3)]},
        "label_errors": {"rows": 2700, "flagged": 41, "worst": [
            {"name": f"train/{i}.png", "given": classes[1], "likely": classes[0],
             "probability": .91 - .02 * i} for i in range(3)]},
        "measures": {"yardstick": {
            "frechet": {"value": 28.1, "low": 26.0, "high": 30.2, "real": .3},
            "coverage": {"value": .61, "low": .58, "high": .64, "real": .99}}},
        "provenance": [{"generator": f"{7 * i + 1:012x}", "family": "cgan", "fraction": f, "seed": s,
                        "round": 1, "rows": f"{11 * i + 3:012x}", "n_rows": int(2700 * f), "images": 2000}
                       for i, (f, s) in enumerate((f, s) for f in fractions for s in range(seeds))],
        "costs": {"seconds": 5230.0, "groups": {"GAN": 3600.0, "teacher": 210.0, "students": 1420.0},
                  "arms": {a: 490.0 if extra == "generated" else 90.0 for a, (extra, *_) in gains.items()},
                  "peak_memory_gib": 1.42},
        "warnings": []}


def write_study(folder, study) -> Path:
    "`study.json` in a folder."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study))
    return folder


def put(study, arm, role, mean, low, high, p_holm=.001, fraction=1.0, metric="accuracy", against=None):
    "Write a difference in points over the one that is there; a new one where there is none."
    found = [d for d in study["differences"] if (d["arm"], d["role"], d["fraction"], d["metric"])
             == (arm, role, fraction, metric)]
    new = {"arm": arm, "against": against or study["arms"][arm]["twin"] or "real", "role": role,
           "fraction": fraction, "metric": metric, "per_seed": [mean / 100] * study["seeds"], "p": p_holm,
           "improvement": .5, "a_only": 10, "b_only": 10}
    if found: new = found[0]
    else: study["differences"].append(new)
    new |= {"mean": mean / 100, "low": low / 100, "high": high / 100, "p_holm": p_holm}
    if against: new["against"] = against
    return study


def made_answers(study, students=1, rows=120, seed=0):
    "Answers of all students with all rows: an object as `Answers`, probs (arm, seed, student, row, class)."
    rng, k, arms = np.random.default_rng(seed), len(study["classes"]), tuple(study["arms"])
    truth = rng.integers(k, size=rows)
    logits = rng.normal(0, 1, (len(arms), study["seeds"], students, rows, k))
    for place in range(len(arms)): logits[place][..., np.arange(rows), truth] += 1 + .15 * place
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return SimpleNamespace(classes=tuple(study["classes"]), y_true=truth, arms=arms,
                           probs=probs.astype(np.float32), fraction=1.0)
