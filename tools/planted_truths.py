"""Audits of data sets whose right answer is known: python tools/planted_truths.py --repetitions 20

Each repetition cuts scikit-learn's digits anew: 4 training rows of each class, 300 validation and 600 test
rows, and five sets of 150 "generated" images. Logistic regression, five seeds, 95 %. What is planted, and
what counts as right:

- held-back real images, which nobody trained on: the verdict is "helps";
- the same with shuffled labels: the verdict is not "helps";
- the same with a wrong label each: the verdict is "harms";
- copies of training rows, half of them with a little noise: the verdict is not "helps", the search for copies
  is trusted, finds at least 95 % of the copies, and a warning says so;
- held-back real images with three test rows among them: refused, by a sentence that names these rows.
"""
import argparse
import re
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from fer_synth.audit import audit
from fer_synth.settings import UserError

TRUTHS = {
    "held-back real images": "helps",
    "shuffled labels": "not “helps”",
    "wrong labels": "harms",
    "copies of training rows": "not “helps”, and named as copies",
    "copies of test rows": "refused, rows named",
}
SEEDS, EACH = 5, 150
RESULTS = Path(__file__).parent / "results" / "planted-truths.md"


def cut(repetition: int) -> tuple:
    "Training, validation and test rows, and the sets of held-back rows, of one repetition."
    x, y = load_digits(return_X_y=True)
    images = np.round(x.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    order = np.random.default_rng([16, repetition]).permutation(len(y))
    train = np.concatenate([order[y[order] == c][:4] for c in range(10)])
    order = np.concatenate([train, order[~np.isin(order, train)]])
    def rows(first, last): return images[order[first:last]], y[order[first:last]]
    spare = [rows(940 + EACH * g, 940 + EACH * (g + 1)) for g in range(SEEDS)]
    return rows(0, 40), rows(40, 340), rows(340, 940), spare


def plant(truth: str, sets: tuple, random: np.random.Generator) -> list:
    "The generated sets, one for each seed, of which the truth is known."
    (images, labels), _, (tests, test_labels), spare = sets
    if truth == "held-back real images": return spare
    if truth == "shuffled labels": return [(x, random.permutation(y)) for x, y in spare]
    if truth == "wrong labels": return [(x, (y + random.integers(1, 10, len(y))) % 10) for x, y in spare]
    if truth == "copies of test rows":
        return [(np.concatenate([x[3:], tests[:3]]), np.concatenate([y[3:], test_labels[:3]]))
                for x, y in spare]
    copied = [random.integers(len(labels), size=EACH) for _ in spare]
    return [(slightly_noised(images[rows], random), labels[rows]) for rows in copied]


def slightly_noised(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    "The second half of the images with noise of 5 grey levels."
    half = len(images) // 2
    noisy = images[half:] + random.normal(0, 5, images[half:].shape)
    return np.concatenate([images[:half], noisy.round().clip(0, 255).astype(np.uint8)])


def repetition(truth: str, number: int) -> tuple[bool, str]:
    "Whether the audit of one planted truth came out right, and what it said."
    sets = cut(number)
    generated = plant(truth, sets, np.random.default_rng([17, number]))
    try:
        found = audit(*sets[:3], generated, LogisticRegression(max_iter=60), seed=number,
                      corruptions=(), check_labels=False)
    except UserError as e:
        named = re.findall(r"row (\d+) = real_test row (\d+)", str(e))
        planted = [("147", "0"), ("148", "1"), ("149", "2")]
        return truth == "copies of test rows" and named == planted, "refused"
    copies = found.study["memorisation"]
    named = copies["trusted"] and copies["rate"] >= .95 and any(
        "near-copies of training images" in text for text in found.study["warnings"])
    right = {"held-back real images": found.verdict == "helps",
             "shuffled labels": found.verdict != "helps",
             "wrong labels": found.verdict == "harms",
             "copies of training rows": found.verdict != "helps" and named,
             "copies of test rows": False}[truth]
    return bool(right), found.verdict + (", named as copies" if named else "")


def table(results: dict, seconds: float) -> str:
    "What came out, as Markdown."
    n = len(next(iter(results.values())))
    lines = ["# Planted truths", "", *__doc__.split("\n\n", 1)[1].strip().split("\n"), "",
             f"Made by `python tools/planted_truths.py --repetitions {n}` ({seconds:.0f} s of one core).", "",
             "| planted | right answer | came out right | 95 % interval from | answers |",
             "| --- | --- | --- | --- | --- |"]
    for truth, found in results.items():
        right = sum(ok for ok, _ in found)
        least = binomtest(right, n).proportion_ci(.95, "exact").low
        said = [text for _, text in found]
        counts = "; ".join(f"{said.count(text)} {text}" for text in dict.fromkeys(said))
        lines.append(f"| {truth} | {TRUTHS[truth]} | {right} of {n} | {least:.0%} | {counts} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    began, results = time.process_time(), {}
    warnings.filterwarnings("ignore", message="lbfgs failed to converge")
    for truth in TRUTHS:
        results[truth] = [repetition(truth, number) for number in range(given.repetitions)]
        print(truth, sum(ok for ok, _ in results[truth]), "of", given.repetitions, flush=True)
    text = table(results, time.process_time() - began)
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__": main()
