"""Do the intervals of a study hold what they say? Answers are invented, so that the true score is known.

`python tools/coverage.py [--repetitions 2000]` draws test rows of four unbalanced classes (the rarest one row
in twenty) and the answers of two arms: rows are hard or easy for all, for one arm, for one seed of an arm and
for one student; arms, seeds and students differ in how good they are. It counts how often the 95 % interval
of `fer_synth.evaluation.statistics` has the true difference or score in it, for 3, 5 and 10 seeds, 1 and 3
students each, 200 to 3,000 rows; the same for the plain percentile bootstrap; and how often one of eight arms
that do nothing is found better or worse after Holm. It writes `tools/results/coverage.md`.
"""
import argparse
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from fer_synth.evaluation.compare import bootstrap_scores, interval
from fer_synth.evaluation.metrics import confusion_metrics
from fer_synth.evaluation.statistics import count_scores, estimate
from fer_synth.evaluation.summary import holm

CLASSES = ("a", "b", "c", "rare")
SHARE = np.array([0.5, 0.3, 0.15, 0.05])
MARGIN = np.array([0.9, 0.6, 0.4, 0.1])
WRONG = np.array([[0, 0.5, 0.3, 0.2], [0.6, 0, 0.3, 0.1], [0.6, 0.3, 0, 0.1], [0.5, 0.3, 0.2, 0]])
ROW, ROW_OF_ARM, ROW_OF_SEED, ROW_OF_STUDENT = 0.8, 0.25, 0.3, 0.6      # standard deviations on the margin
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "recall_rare": "recall of the rare class"}
GAIN = 0.15
SPREADS = {"none": (0.0, 0.0), "some": (0.1, 0.05), "much": (0.3, 0.1)}  # of seeds, of students
PART, PLAIN_PART = 20, 4                                                # repetitions computed at once
SEEDS, STUDENTS, ROWS = (3, 5, 10), (1, 3), (200, 1000, 3000)


def draw(rng, gains, seeds: int, students: int, rows: int, spread: tuple) -> tuple:
    "True classes (T,) and predicted ones (A, G, K, T) of arms whose margin is larger by `gains`."
    a, (of_seed, of_student) = len(gains), spread

    def noise(*shape): return rng.standard_normal(shape, dtype=np.float32)

    y_true = rng.choice(4, rows, p=SHARE)
    margin = (MARGIN[y_true] + ROW * noise(rows)).astype(np.float32)
    margin = margin + np.float32(ROW_OF_ARM) * noise(a, 1, 1, rows)
    margin = margin + np.float32(ROW_OF_SEED) * noise(a, seeds, 1, rows)
    margin = margin + np.float32(ROW_OF_STUDENT) * noise(a, seeds, students, rows)
    skill = of_seed * (noise(1, seeds, 1, 1) + noise(a, seeds, 1, 1))
    skill = np.reshape(gains, (a, 1, 1, 1)) + skill
    skill = skill + of_student * noise(a, seeds, students, 1)
    other = (rng.random((rows, 1)) > WRONG[y_true].cumsum(1)).sum(1).clip(0, 3)
    return y_true, np.where(margin > -skill, y_true, other)


def true_scores(gain: float, spread: tuple) -> dict:
    "The mean scores over all seeds and students on endless rows, by Gauss-Hermite quadrature."
    x, weight = np.polynomial.hermite_e.hermegauss(61)
    skill = gain + x * np.sqrt(2 * spread[0] ** 2 + spread[1] ** 2)
    deviation = np.sqrt(ROW ** 2 + ROW_OF_ARM ** 2 + ROW_OF_SEED ** 2 + ROW_OF_STUDENT ** 2)
    right = ndtr((MARGIN + skill[:, None]) / deviation)[..., None]
    found = confusion_metrics(SHARE[:, None] * (right * np.eye(4) + (1 - right) * WRONG), CLASSES)
    return {m: float((weight * found[m]).sum() / weight.sum()) for m in METRICS}


def scored(y_true: np.ndarray, y_pred: np.ndarray) -> dict:
    "Values (A, G, K) and pseudo-values (A, G, K, T) of each metric."
    shape, rows = y_pred.shape, len(y_true)
    whole, without, cell = count_scores(y_true, y_pred.reshape(-1, rows), CLASSES)
    out = {}
    for m in METRICS:
        pseudo = rows * whole[m][:, None] - (rows - 1) * without[m]
        out[m] = whole[m].reshape(shape[:3]), np.take_along_axis(pseudo, cell, 1).reshape(shape)
    return out


def intervals_hold(name: str, which: range) -> dict:
    "(what, metric, spread, gain, seeds, students, rows) -> how many of the intervals hold the truth."
    hits, spread = {}, SPREADS[name]
    for gain, i in product((0.0, GAIN), which):
        base, better = true_scores(0, spread), true_scores(gain, spread)
        rng = np.random.default_rng([i, round(100 * gain), *map(ord, name)])
        y, p = draw(rng, (0, gain), max(SEEDS), max(STUDENTS), max(ROWS), spread)
        for t in ROWS:
            for m, (v, z) in scored(y[:t], p[..., :t]).items():
                for g, k in product(SEEDS, STUDENTS):
                    cell, some = (m, name, gain, g, k, t), (slice(None), slice(g), slice(k))
                    e = estimate(np.subtract(*v[some][::-1]), np.subtract(*z[some][::-1]), y[:t])
                    count(hits, ("difference", *cell), e.low <= better[m] - base[m] <= e.high)
                    if gain: continue
                    e = estimate(v[0, :g, :k], z[0, :g, :k], y[:t], bounds=(0, 1))
                    count(hits, ("score", *cell), e.low <= base[m] <= e.high)
    return hits


def count(hits: dict, cell: tuple, hit: bool) -> None: hits[cell] = hits.get(cell, 0) + bool(hit)


def bootstrap_holds(name: str, which: range) -> dict:
    "(metric, spread, seeds, rows) -> the same for a percentile bootstrap of seeds and rows."
    hits, spread = {}, SPREADS[name]
    for g, t, i in product(SEEDS, ROWS[:2], which):
        y, p = draw(np.random.default_rng([i, g, t, *map(ord, name)]), (0, 0), g, 1, t, spread)
        drawn = bootstrap_scores(y, p[:, :, 0], CLASSES, n=400, seed=i)
        for m in METRICS:
            low, high = interval(drawn[m][:, 1] - drawn[m][:, 0], 0.95)
            count(hits, (m, name, g, t), low <= 0 <= high)
    return hits


def false_findings(name: str, which: range, arms: int = 8, seeds: int = 5, rows: int = 1000) -> dict:
    "(metric, spread, after Holm) -> how many studies find one of the arms, which are all useless."
    found = {}
    for i in which:
        rng = np.random.default_rng([i, arms, *map(ord, name)])
        y, p = draw(rng, np.zeros(arms + 1), seeds, 1, rows, SPREADS[name])
        for m, (v, z) in scored(y, p).items():
            p_values = np.array([estimate(v[a] - v[0], z[a] - z[0], y).p for a in range(1, arms + 1)])
            count(found, (m, name, False), p_values.min() < 0.05)
            count(found, (m, name, True), holm(p_values).min() < 0.05)
    return found


def measure(name: str, start: int) -> tuple:
    "Counts of the intervals, of the bootstrap and of false findings in one part, and its processor time."
    began, which = time.process_time(), range(start, start + PART)
    held, plain = intervals_hold(name, which), bootstrap_holds(name, which[:PLAIN_PART])
    return held, plain, false_findings(name, which), time.process_time() - began


def shares(parts: list, number: int, each: int) -> dict:
    "The counts of all parts, added and divided by the repetitions: `each` a part."
    total, names = {}, [part[0] for part in parts]
    for name, *found in parts:
        repetitions = each * names.count(name)
        for cell, n in found[number].items(): total[cell] = total.get(cell, 0) + n / repetitions
    return total


def percent(share: float) -> str: return f"{100 * share:.1f}"


def coverage_table(held: dict, what: str, gain: float) -> list:
    "Lines of one table: a row for each spread, seeds and students; a column for each metric and test size."
    columns = list(product(METRICS, ROWS))
    head = [f"{METRICS[m]}, {t:,} rows" for m, t in columns]
    lines = [f"| seeds differ | seeds | students | {' | '.join(head)} |", "| --- " * (3 + len(head)) + "|"]
    for name, g, k in product(SPREADS, SEEDS, STUDENTS):
        shares = [percent(held[what, m, name, gain, g, k, t]) for m, t in columns]
        lines.append(f"| {name} | {g} | {k} | {' | '.join(shares)} |")
    return lines


def page(parts: list) -> str:
    "The whole result as text, from (spread, three dictionaries of counts, seconds) of each part."
    held, plain, false = (shares(parts, i, n) for i, n in enumerate((PART, PLAIN_PART, PART)))
    rounds = len(parts) // len(SPREADS)
    repetitions, seconds = rounds * PART, sum(part[-1] for part in parts)
    error = 100 * np.sqrt(0.95 * 0.05 / repetitions)
    inside = list(held.values())
    good = sum(0.92 <= v <= 0.98 for v in inside)
    gained, none = true_scores(GAIN, SPREADS["some"]), true_scores(0, SPREADS["some"])
    points = ", ".join(f"{METRICS[m]} {100 * (gained[m] - none[m]):+.1f}" for m in METRICS)
    columns = list(product(METRICS, ROWS[:2]))
    lines = [f"""\
95 % intervals held the truth in {percent(min(inside))} to {percent(max(inside))} % of repetitions, \
{percent(np.mean(inside))} % on average; {good} of {len(inside)} cells lie within 92 to 98 %.

{repetitions:,} repetitions a cell, Monte-Carlo error {error:.1f} points; cells of one spread share
their draws. {platform.machine()}, Python {platform.python_version()}, \
NumPy {np.__version__}; {seconds / 60:.0f} minutes of one core. Made by `python tools/coverage.py`.

Seeds differ: none, some (standard deviation of the margin 0.1 between seeds, 0.05 between students), much
(0.3 and 0.1); that of rows is 0.8. The rare class has one row in twenty: about ten of 200.

Differences of two equal arms:
""", *coverage_table(held, "difference", 0.0), f"""
Differences of two unequal arms (points: {points}):
""", *coverage_table(held, "difference", GAIN), """
Scores of one arm:
""", *coverage_table(held, "score", 0.0), f"""
The plain percentile bootstrap over seeds and rows, differences of two equal arms, one student a seed
({rounds * PLAIN_PART:,} repetitions, 400 draws each). It is too narrow where seeds differ, and too wide where
only rows do, for it counts the noise of each seed on each row twice:
""", f"| seeds differ | seeds | {' | '.join(f'{METRICS[m]}, {t:,} rows' for m, t in columns)} |",
             "| --- " * (2 + len(columns)) + "|"]
    for name, g in product(SPREADS, SEEDS):
        lines.append(f"| {name} | {g} | {' | '.join(percent(plain[m, name, g, t]) for m, t in columns)} |")
    lines += [f"""
Eight arms that do nothing against one, 5 seeds, 1,000 rows, {repetitions:,} studies: % of studies
with at least one p below 0.05:
""", "| seeds differ | metric | without adjustment | after Holm |", "| --- | --- | --- | --- |"]
    for name, m in product(SPREADS, METRICS):
        raw, adjusted = (percent(false[m, name, after]) for after in (False, True))
        lines.append(f"| {name} | {METRICS[m]} | {raw} | {adjusted} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coverage.md")
    options = parser.parse_args()
    starts = range(0, options.repetitions, PART)
    parts = []
    with ProcessPoolExecutor(options.workers) as pool:
        for start in starts:
            asked = {name: pool.submit(measure, name, start) for name in SPREADS}
            parts += [(name, *job.result()) for name, job in asked.items()]
            options.out.write_text(page(parts), encoding="utf-8")      # what is known so far
    print(page(parts))


if __name__ == "__main__": main()
