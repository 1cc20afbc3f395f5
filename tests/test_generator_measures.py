"Measures of a generator against slow references and closed forms, hidden copies, and input to be refused."
import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import example, assume, given, settings, strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, pdist

from fer_synth.config import UserError
from fer_synth.data.drawn import draw_faces
from fer_synth.data.images import ImageSet
from fer_synth.data.load import load_images
from fer_synth.evaluation.copies import (OTHERS, feature_neighbours, near_copy_rate, pixel_neighbours,
                                         relative_distance)
from fer_synth.evaluation.features import (diversity, frechet_distance, half_samples, kernel_distance,
                                           polynomial_mmd, precision_recall_density_coverage, with_intervals)
from fer_synth.evaluation.generators import (Reference, Seen, Yardstick, classification_accuracy_score,
                                             fair_counts, stratified)
from fer_synth.models.classifier import make_classifier
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.words import measures_table

FEW = settings(deadline=None, max_examples=60)     # a slow moment of a busy machine is no failure
SEEDS = st.integers(0, 2**31)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cloud(seed, n, d, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, d)) * scale


# Fréchet distance

def white(seed, n, d):
    "A sample whose mean is 0 and whose covariance is the identity, but for rounding."
    x = cloud(seed, n, d)
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, ddof=1).reshape(d, d)).T)


@FEW
@given(SEEDS, st.integers(1, 8), st.integers(0, 30), st.data())
def test_frechet_of_diagonal_gaussians_is_the_closed_form(seed, d, more, data):
    def numbers(one): return np.array(data.draw(st.lists(one, min_size=d, max_size=d)))
    width = st.sampled_from([0, 1e-4, .1, 1, 30])
    a, b, move = numbers(width), numbers(width), numbers(st.floats(-50, 50))
    found = frechet_distance(white(seed, d + 5 + more, d) * a, white(seed + 1, d + 9, d) * b + move)
    expected, size = (move ** 2).sum() + ((a - b) ** 2).sum(), (a ** 2).sum() + (b ** 2).sum()
    assert math.isclose(found, expected, rel_tol=1e-8, abs_tol=1e-9 * max(1, size))


@FEW
@given(SEEDS, st.integers(2, 10))
def test_frechet_agrees_with_the_root_of_a_matrix_where_that_is_well_conditioned(seed, d):
    rng = np.random.default_rng(seed)
    a, turn = cloud(seed, 20 * d, d), np.eye(d) + .1 * rng.normal(size=(d, d))
    b = cloud(seed + 1, 25 * d, d) @ turn + rng.normal(size=d)
    s, t = np.cov(a.T), np.cov(b.T)
    book = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert math.isclose(frechet_distance(a, b), book, rel_tol=1e-6, abs_tol=1e-8)


@FEW
@given(SEEDS, st.integers(2, 12), st.integers(2, 12), st.integers(1, 40), st.integers(1, 4))
def test_frechet_with_fewer_images_than_dimensions_is_sound(seed, n, m, d, rank):
    a = cloud(seed, n, rank) @ cloud(seed + 2, rank, d)                   # as rank-deficient as can be
    b = cloud(seed + 1, m, d)
    size = np.square(a).sum() + np.square(b).sum() + 1
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    assert there >= 0 and math.isclose(there, back, rel_tol=1e-7, abs_tol=1e-9 * size)
    assert frechet_distance(a, a) <= 1e-9 * size and frechet_distance(b, b[::-1].copy()) <= 1e-9 * size
    turn = np.linalg.qr(cloud(seed + 3, d, d))[0]              # turning or moving both changes nothing
    turned = frechet_distance(a @ turn + 3, b @ turn + 3)
    assert math.isclose(there, turned, rel_tol=1e-6, abs_tol=1e-8 * size)


def test_frechet_of_one_point_clouds_is_the_squared_distance():
    assert frechet_distance(np.zeros((5, 3)), np.full((4, 3), 2.)) == 12


# Kernel distance

@FEW
@given(SEEDS, st.integers(2, 7), st.integers(2, 7), st.integers(1, 5))
def test_mmd_equals_a_double_loop(seed, n, m, d):
    a, b = cloud(seed, n, d), cloud(seed + 1, m, d) + .5
    kernel, total = lambda x, y: (sum(p * q for p, q in zip(x, y)) / d + 1) ** 3, 0.0
    for i in range(n):
        for j in range(n): total += kernel(a[i], a[j]) / (n * (n - 1)) * (i != j)
        for j in range(m): total -= 2 * kernel(a[i], b[j]) / (n * m)
    for i in range(m):
        for j in range(m): total += kernel(b[i], b[j]) / (m * (m - 1)) * (i != j)
    assert math.isclose(polynomial_mmd(a, b), total, rel_tol=1e-9, abs_tol=1e-9)


def test_kernel_distance_is_unbiased_at_any_size():
    "The mean over many samples of one distribution is 0 within four standard errors; some are negative."
    pairs = [(cloud(2 * i, 20, 5), cloud(2 * i + 1, 20, 5)) for i in range(300)]
    found = [kernel_distance(*pair, subsets=5)["value"] for pair in pairs]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300) and min(found) < 0 < max(found)


def test_kernel_intervals_hold_the_truth():
    "Of 60 intervals of 95 % at least 51 hold the value of a large sample (fewer: a chance below 0.1 %)."
    large = [(cloud(10_000 + i, 2000, 6), cloud(20_000 + i, 2000, 6) + .4) for i in range(4)]
    expected = np.mean([polynomial_mmd(a, b) for a, b in large])
    small = [(cloud(i, 150, 6), cloud(900 + i, 200, 6) + .4) for i in range(60)]
    found = [kernel_distance(a, b, subsets=30, seed=i) for i, (a, b) in enumerate(small)]
    assert sum(f["low"] <= expected <= f["high"] for f in found) >= 51


def test_kernel_subsets_come_from_the_seed():
    a, b = cloud(0, 50, 4), cloud(1, 60, 4)
    assert kernel_distance(a, b, seed=3) == kernel_distance(a, b, seed=3) != kernel_distance(a, b, seed=4)


# Precision, recall, density, coverage

def slow_radii(x, k):
    "Distance of each point to its k-th nearest other."
    distances = [np.sort(np.delete(row, i)) for i, row in enumerate(cdist(x, x))]
    return np.array([row[min(k, len(x) - 1) - 1] for row in distances])


def slow_prdc(real, generated, k, slack=0.0):
    distances = cdist(real, generated)
    real_radii, generated_radii = (np.sqrt(slow_radii(x, k)**2 + slack) for x in (real, generated))
    in_real = np.array([row <= radius for row, radius in zip(distances, real_radii)])
    in_generated = np.array([row <= radius for row, radius in zip(distances.T, generated_radii)])
    return {"precision": np.mean([any(column) for column in in_real.T]),
            "recall": np.mean([any(column) for column in in_generated.T]),
            "density": in_real.sum() / (k * len(generated)),
            "coverage": np.mean([min(row) <= radius for row, radius in zip(distances, real_radii)])}


@FEW
@given(SEEDS, st.integers(2, 40), st.integers(2, 40), st.integers(1, 6), st.integers(1, 6), st.floats(0, 2))
def test_prdc_equals_its_definition(seed, n, m, d, k, move):
    real, fake = cloud(seed, n, d), cloud(seed + 1, m, d) + move
    found, slow = precision_recall_density_coverage(real, fake, k), slow_prdc(real, fake, k)
    slack = 1e-6 * np.square(real - real.mean(0)).sum(1).mean()
    assume(slow == slow_prdc(real, fake, k, slack))     # nearer than rounding is the same point to ours
    for name, value in slow.items(): assert math.isclose(found[name], value, abs_tol=1e-9), name


def test_prdc_does_not_depend_on_chunks():
    real, fake = cloud(0, 700, 4), cloud(1, 1100, 4) * .8 + .3
    found, slow = precision_recall_density_coverage(real, fake), slow_prdc(real, fake, 5)
    # a pair at a ball's very edge may fall either way
    assert all(math.isclose(found[name], slow[name], abs_tol=2e-3) for name in slow)


@FEW
@given(SEEDS, st.integers(1, 30), st.integers(1, 5), st.integers(1, 6))
def test_prdc_of_the_same_set_is_perfect_and_of_a_far_one_zero(seed, n, d, k):
    x = np.repeat(cloud(seed, n, d), 2, 0)                       # with twins, whose balls may have radius 0
    same = precision_recall_density_coverage(x, x, k)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    assert set(precision_recall_density_coverage(x, x + 1e4, k).values()) == {0}


def test_repeated_real_images_keep_precision_and_lose_coverage():
    real = cloud(0, 400, 3)
    found = precision_recall_density_coverage(real, np.repeat(real[:4], 50, 0))
    assert found["precision"] == 1 and found["recall"] <= .02 and found["coverage"] < .2


# Diversity and intervals

@FEW
@given(SEEDS, st.integers(2, 20), st.integers(1, 5))
def test_diversity_equals_all_pairs(seed, n, d):
    x, y = cloud(seed, 3 * n + 1, d), np.r_[np.repeat([0, 4, 1], n), 9]
    assert diversity(x, y).keys() == {0, 1, 4}
    for c, v in diversity(x, y).items():
        slow = np.sqrt(np.mean(pdist(x[y == c]) ** 2))
        assert math.isclose(v, slow, rel_tol=1e-9, abs_tol=1e-12)


@FEW
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 99))
def test_halves_are_halves_of_each_class_without_repetition(labels, seed):
    labels = np.array(labels)
    for rows in half_samples(labels, 3, seed):
        assert len(set(rows.tolist())) == len(rows)
        for c in set(labels.tolist()): assert (labels[rows] == c).sum() == max(1, (labels == c).sum() // 2)


def test_intervals_are_as_wide_as_the_numbers_spread():
    "Half-widths against the spread over 40 fresh samples, which is itself known to about 11 %."
    real, y, values, half_widths = cloud(0, 300, 5), np.zeros(200, int), [], []
    reference = Reference(Seen(real, np.zeros(300, int), np.zeros(300, int)), ("one",))
    for i in range(40):
        seen = Seen(cloud(100 + i, 200, 5) * .8 + .4, y, np.random.default_rng(i).integers(0, 2, 200))
        def numbers(rows, seen=seen): return reference.numbers(seen.part(rows))
        found = with_intervals(numbers, y, 20, seed=i)
        values.append([v["value"] for v in found.values()])
        half_widths.append([(v["high"] - v["low"]) / 2 for v in found.values()])
    ratio = np.mean(half_widths, 0) / (1.96 * np.std(values, 0, ddof=1))
    assert ((.6 < ratio) & (ratio < 1.7)).all(), dict(zip(found, ratio))


# Copies

@pytest.fixture(scope="module")
def drawn():
    "Training faces and fresh ones, 24 pixels, RGB."
    labels = np.arange(300) % 5
    return draw_faces(labels, 1, 24, .4, 3), draw_faces(labels[:100], 2, 24, .4, 3)


def everything_by_hand(images, train, shift):
    "Each place of each image and its mirror image against the middle of each training image, one at a time."
    def plain(x):
        x = x.astype(np.float64).ravel() - x.mean()
        return x / max(np.sqrt((x ** 2).mean()), 1)
    def distances(image):
        "(training image, mirrored, down, right) -> distance"
        found = {}
        for mirrored, x in enumerate((image, image[..., ::-1])):
            for down, right in product(range(-shift, shift + 1), repeat=2):
                part = plain(x[:, shift + down:shift + down + size, shift + right:shift + right + size])
                for j, twin in enumerate(twins):
                    found[j, mirrored, down, right] = np.sqrt(((part - twin) ** 2).mean())
        return found
    size, found = images.shape[-1] - 2 * shift, []
    twins = [plain(t[:, shift:shift + size, shift:shift + size]) for t in train]
    for image in images:
        each = distances(image)
        best = min(each, key=each.get)
        nearest = sorted(min(v for k, v in each.items() if k[0] == j) for j in range(len(train)))
        found.append((each[best], *best, nearest[0] / nearest[min(OTHERS, len(nearest) - 1)]))
    return found


@pytest.mark.parametrize("shift", (0, 1, 2))
def test_the_pixel_search_equals_one_by_hand(drawn, shift):
    "With as many candidates as training images there is no shortcut left but the formula."
    train, fresh = (x[:, :1] for x in drawn)
    images = np.concatenate([fresh[:4], train[3:4], np.roll(train[5:6, ..., ::-1], (shift, -shift), (2, 3))])
    found = pixel_neighbours(images, train[:15], shift, candidates=15)
    expected = everything_by_hand(images, train[:15], shift)
    for i, (distance, index, mirrored, *moved, relative) in enumerate(expected):
        assert math.isclose(found.distance[i], distance, abs_tol=1e-6)
        assert math.isclose(found.relative[i], relative, abs_tol=1e-6)
        if i == 4 and not shift: continue
        assert (found.index[i], found.mirrored[i]) == (index, bool(mirrored))
        assert found.shift[i].tolist() == moved


def test_the_shortcut_is_never_nearer_and_does_not_lose_copies(drawn):
    train, fresh = drawn
    images = np.concatenate([fresh[:60], train[:40]])
    short = pixel_neighbours(images, train, candidates=20)
    whole = pixel_neighbours(images, train, candidates=len(train))
    assert (short.distance >= whole.distance - 1e-12).all() and (short.index == whole.index).mean() > .9
    assert (short.index[60:] == np.arange(40)).all() and (short.distance[60:] < 1e-6).all()


@FEW
@given(st.sampled_from([1, 3]), st.sampled_from([16, 24, 33]), st.integers(-2, 2), st.integers(-2, 2),
       st.booleans(), st.sampled_from(["edge", "constant", "wrap"]), st.floats(.5, 1), st.integers(0, 40),
       SEEDS)
def test_planted_copies_are_found(channels, size, down, right, mirrored, border, contrast, brightness, seed):
    "Moved with any border, mirrored, paler and lighter; only rounding keeps the distance from 0."
    rng = np.random.default_rng(seed)
    train = draw_faces(np.arange(60) % 5, seed % 1000, size, .4, channels)
    assume(contrast * 255 + brightness <= 255)
    row = int(rng.integers(60))
    copy = train[row:row + 1, ..., ::-1] if mirrored else train[row:row + 1]
    copy = np.pad(copy, ((0, 0), (0, 0), (2, 2), (2, 2)), mode=border)
    copy = copy[..., 2 - down:2 - down + size, 2 - right:2 - right + size]
    copy = (copy * contrast + brightness).astype(np.uint8)
    found = pixel_neighbours(copy, train)
    assert found.index[0] == row and found.distance[0] < .1 and found.relative[0] < .3


def test_the_audit_finds_noised_copies_and_leaves_fresh_faces_alone():
    train, held = draw_faces(np.arange(2000) % 5, 1, 32, .4), draw_faces(np.arange(400) % 5, 2, 32, .4)
    fresh, rows = draw_faces(np.arange(400) % 5, 3, 32, .4), np.arange(0, 2000, 20)
    noise = np.random.default_rng(0).normal(0, 8, train[rows].shape)
    noisy = np.clip(train[rows] + noise, 0, 255).astype(np.uint8)
    copies, new, known = (pixel_neighbours(x, train).relative for x in (noisy, fresh, held))
    found, real = near_copy_rate(copies, known), near_copy_rate(new, known)
    assert found["value"] > .97
    # expected: 1 % of 400, and the chance of the threshold itself
    assert real["low"] <= .01 + real["real"]["high"] and real["value"] < .035
    assert .5 <= found["threshold"] < .85


def test_blurred_inventions_are_no_copies():
    "A distance alone calls them so: they are nearer to everything."
    sizes = ((1500, 1), (300, 2), (300, 3))
    train, held, fresh = (draw_faces(np.arange(n) % 5, seed, 32, .4) for n, seed in sizes)
    soft = torch.nn.functional.avg_pool2d(torch.as_tensor(fresh).float(), 3, 1, 1).byte().numpy()
    soft, known = pixel_neighbours(soft, train), pixel_neighbours(held, train)
    assert (soft.distance <= np.quantile(known.distance, .01)).mean() > .04
    assert near_copy_rate(soft.relative, known.relative)["value"] < .04


def test_flat_images_are_copies_of_flat_images_only(drawn):
    train, _ = drawn
    flat = np.full((2, 3, 24, 24), 7, np.uint8)
    assert pixel_neighbours(flat, train).distance.min() > .9
    with_flat = pixel_neighbours(flat, np.concatenate([train, flat + 90]))
    assert (with_flat.distance == 0).all() and (with_flat.relative == 0).all()
    assert set(with_flat.index) <= {300, 301}


def test_copies_of_an_image_that_is_there_twice_are_found(drawn):
    train, _ = drawn
    found = pixel_neighbours(train[:5], np.concatenate([train, train[:5], train[:5]]))
    assert (found.relative < 1e-3).all() and (found.index % 5 == np.arange(5)).all()
    assert ((found.index < 5) | (found.index >= 300)).all()


def test_one_training_image_is_enough(drawn):
    train, fresh = drawn
    found = pixel_neighbours(np.concatenate([fresh[:2], train[:1]]), train[:1])
    assert found.relative.tolist() == [1, 1, 0] and (found.index == 0).all()


def test_views_with_a_turned_memory_are_read_right(drawn):
    train, _ = drawn
    found = pixel_neighbours(train[:8, ..., ::-1], train[::-1])
    assert found.mirrored.all() and (found.index == 299 - np.arange(8)).all()


@FEW
@example(7805960, 2, 16, 1)
@given(SEEDS, st.integers(1, 30), st.integers(2, 30), st.integers(1, 6))
def test_feature_neighbours_equal_a_slow_search(seed, n, t, d):
    x, mirrored, train = cloud(seed, n, d), cloud(seed + 1, n, d), cloud(seed + 2, t, d)
    x[0], mirrored[-1] = train[0], train[-1]
    found, both = feature_neighbours(x, mirrored, train), np.stack([cdist(x, train), cdist(mirrored, train)])
    # Two equal points differ by what rounding in 32 bits leaves of their distance.
    assert np.allclose(found.distance, both.min((0, 2)) / np.sqrt(np.mean(pdist(train) ** 2)), atol=1e-5)
    each = np.sort(both.min(0), 1)
    assert np.allclose(found.relative, each[:, 0] / np.maximum(each[:, min(OTHERS, t - 1)], 1e-12), atol=1e-3)
    of_index = both[found.mirrored.astype(int), np.arange(n), found.index]
    assert np.allclose(of_index, both.min((0, 2)), atol=1e-4)


@FEW
@given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_rate_counts_what_is_below_the_threshold(held, relative):
    found = near_copy_rate(np.array(relative), np.array(held))
    threshold = max(.5, np.quantile(held, .01))
    assert math.isclose(found["threshold"], threshold)
    assert math.isclose(found["value"], np.mean([r <= threshold for r in relative]))
    assert 0 <= found["low"] <= found["value"] + 1e-12
    assert found["value"] <= found["high"] + 1e-12 and found["high"] <= 1
    assert 0 <= found["real"]["value"] <= 1


def test_relative_distance_is_between_0_and_1():
    found = relative_distance(np.abs(cloud(0, 50, 30)))
    assert ((0 <= found) & (found <= 1)).all()


# Sampling

@FEW
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60),
       st.lists(st.integers(0, 30), min_size=4, max_size=4), st.integers(1, 80))
def test_counts_are_fair(labels, available, n):
    labels, available = np.array(labels), np.array(available)
    counts, made = fair_counts(labels, available, n), np.bincount(labels, minlength=4)
    assert (counts <= np.minimum(made, available)).all() and counts.sum() <= n + 4
    if n >= len(labels): assert (counts == np.minimum(made, available)).all()
    rows = stratified(labels, counts, 0)
    assert len(set(rows.tolist())) == len(rows) and (np.bincount(labels[rows], minlength=4) == counts).all()


# The yardstick

class NoTest(ImageSet):
    "Faces whose test rows must not be asked for."
    def part(self, split):
        assert split != "test", "the test rows were looked at"
        return super().part(split)


@pytest.fixture(scope="module")
def lab():
    "Tiny faces without access to their test rows, an untrained judge, a yardstick."
    cfg = tiny_wgan_gp()
    faces = NoTest(**vars(load_images(cfg.data)))
    torch.manual_seed(0)
    judge = make_classifier(cfg.clf, 5, 16, 1).eval()
    return cfg, faces, judge, Yardstick(judge, faces, times=5)


def fakes(n=60, seed=9):
    labels = np.arange(n) % 5
    return draw_faces(labels, seed, 16, .5), labels


def test_a_result_is_whole_and_ready_for_a_file(lab):
    _, faces, _, yard = lab
    found = yard.full(*fakes())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    by_class = {"precision", "recall", "density", "coverage", "diversity", "yardstick_agreement"}
    whole = {"frechet", "kernel", "texture", "texture_16", "texture_8", "spectrum"}
    assert set(found["measures"]) == by_class | whole | {"near_copies", "near_copies_features"}
    for name, e in found["measures"].items():
        for entry in (e, e["real"]): assert entry["low"] <= entry["value"] <= entry["high"], name
    for name in by_class:
        classes = found["measures"][name]["by_class"]
        assert list(classes) == list(faces.classes), name
        assert all(e["real"] is not None for e in classes.values())
    assert found["images"] == 60 and len(found["worst"]) == 16
    lines = measures_table({"generated": found}).splitlines()[1:]
    assert [line.split("  ")[0] for line in lines] == ["generated", "real reference"]


def test_numbers_agree_with_the_functions(lab):
    _, faces, judge, yard = lab
    images, labels = fakes()
    found = yard.full(images, labels)["measures"]
    real, generated = yard.see(*yard.val), yard.see(images, labels)
    distance = frechet_distance(generated.features, real.features)
    assert math.isclose(found["frechet"]["value"], distance, rel_tol=1e-6)
    assert math.isclose(found["yardstick_agreement"]["value"], (generated.y_pred == labels).mean())
    for name, v in precision_recall_density_coverage(real.features, generated.features).items():
        assert math.isclose(found[name]["value"], v), name
    own, other = diversity(generated.features, labels), diversity(real.features, real.labels)
    shares = [own[c] / other[c] for c in range(5)]
    assert math.isclose(found["diversity"]["value"], np.mean(shares), rel_tol=1e-6)
    assert math.isclose(real.features.var(0).mean(), 1, rel_tol=1e-6)
    quick = yard.quick(images, labels)
    assert set(quick) == {"frechet", "yardstick_agreement", "diversity", "precision", "recall",
                          "density", "coverage"}
    assert all(math.isclose(v, found[k]["value"], rel_tol=1e-9) for k, v in quick.items())


def test_the_real_reference_is_what_training_images_score(lab):
    _, faces, judge, yard = lab
    images, labels = fakes()
    train, train_labels = faces.part("train")
    rows = stratified(train_labels, np.bincount(labels), 1)
    again = Yardstick(judge, faces, times=5, seed=7).full(train[rows], train_labels[rows])["measures"]
    found = yard.full(images, labels)["measures"]
    for name in ("precision", "recall", "coverage"):      # two samples of 60 of the 216 training faces
        assert abs(again[name]["value"] - found[name]["real"]["value"]) < .25, name
    assert again["near_copies"]["value"] == again["near_copies_features"]["value"] == 1


def test_the_reference_is_validation_and_the_real_reference_is_training(lab):
    "With negatives for training faces, images like the validation rows score well, training faces do not."
    _, faces, judge, _ = lab
    images = faces.images.copy()
    images[faces.split == "train"] = 255 - images[faces.split == "train"]
    found = Yardstick(judge, replace(faces, images=images), times=5).full(*fakes())["measures"]
    assert found["frechet"]["real"]["value"] > 3 * found["frechet"]["value"]
    assert found["kernel"]["real"]["low"] > found["kernel"]["high"]
    assert found["coverage"]["real"]["value"] < found["coverage"]["value"] - .2


def test_a_seed_gives_one_result_and_features_can_be_others(lab):
    _, faces, judge, _ = lab
    def flat(x): return x.reshape(len(x), -1).astype(np.float32)
    yards = [Yardstick(judge, faces, seed=s, times=3, n=40, features=flat) for s in (1, 1, 2)]
    a, b, c = (yard.full(*fakes()) for yard in yards)
    assert a == b != c and a["images"] == 40


def test_a_missing_class_and_single_images_are_measured_as_far_as_that_goes(lab):
    _, faces, _, yard = lab
    images, labels = fakes()
    some = np.flatnonzero((labels == 0) | (labels == 1))
    some = np.r_[some, np.flatnonzero(labels == 2)[:1]]
    found = yard.full(images[some], labels[some])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["measures"]["precision"]["by_class"]) == list(faces.classes[:3])
    assert list(found["measures"]["diversity"]["by_class"]) == list(faces.classes[:2])
    one_each = yard.full(images[:5], labels[:5])
    assert "diversity" not in one_each["measures"] and "-" in measures_table({"one each": one_each})
    assert "diversity" not in yard.quick(images[:5], labels[:5])


def test_a_class_with_hardly_any_training_images_is_refused(lab):
    cfg, _, judge, _ = lab
    faces = load_images(replace(cfg.data, drawn_counts=(3, 24, 24, 24, 24)))
    with pytest.raises(UserError, match="Only 3 training images"):
        Yardstick(judge, faces).full(IMAGES, 0 * LABELS)


def test_more_images_than_there_are_for_training_are_cut_to_that_number(lab):
    _, faces, _, yard = lab
    images, labels = fakes(200)
    found = yard.full(images, np.ones(200, int))
    assert found["images"] == found["counts"][faces.classes[1]] == (faces.part("train")[1] == 1).sum() < 200


IMAGES, LABELS = fakes()


@pytest.mark.parametrize("images, labels, why", [
    (IMAGES.astype(np.float32), LABELS, "uint8"), (None, LABELS, "uint8"), ([], [], "uint8"),
    (IMAGES[:, :, :8], LABELS, "shape"), (IMAGES[:, 0], LABELS, "shape"),
    (IMAGES.repeat(3, 1), LABELS, "shape"), (IMAGES, LABELS[:-1], "labels"),
    (IMAGES, LABELS.astype(float), "labels"), (IMAGES, LABELS[:, None], "labels"),
    (IMAGES, LABELS + 1, "numbered from 0"), (IMAGES, LABELS - 1, "numbered from 0"),
    (IMAGES[:0], LABELS[:0], "too few"), (IMAGES[:3], LABELS[:3], "too few")])
def test_images_that_cannot_be_measured_are_refused(lab, images, labels, why):
    cfg, faces, _, yard = lab
    for ask in (yard.quick, yard.full, lambda *x: classification_accuracy_score(cfg.clf, *x, faces)):
        with pytest.raises(UserError, match=why): ask(images, labels)


def test_a_judge_that_diverged_is_refused(lab):
    cfg, faces, _, _ = lab
    judge = make_classifier(cfg.clf, 5, 16, 1).eval()
    with torch.no_grad(): judge.fc1.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not numbers"): Yardstick(judge, faces)


@pytest.mark.parametrize("call, why", [
    (lambda: frechet_distance(np.zeros((1, 3)), np.zeros((4, 3))), "2 or more"),
    (lambda: frechet_distance(np.zeros((3, 3)), np.full((4, 3), np.inf)), "not numbers"),
    (lambda: frechet_distance(np.zeros((3, 3)), np.zeros((4, 2))), "dimensions"),
    (lambda: frechet_distance(np.zeros((3, 0)), np.zeros((4, 0))), "shape"),
    (lambda: kernel_distance(np.zeros((3, 3)), np.zeros((9, 3))), "4 or more"),
    (lambda: kernel_distance(np.zeros((9, 3)), np.zeros((9, 3)), size=9), "to 8 images"),
    (lambda: kernel_distance(np.zeros((9, 3)), np.zeros((9, 3)), subsets=1), "1 subsets"),
    (lambda: precision_recall_density_coverage(np.zeros((0, 3)), np.zeros((9, 3))), "1 or more"),
    (lambda: pixel_neighbours(IMAGES, IMAGES[:, :, :8]), "cannot be compared"),
    (lambda: pixel_neighbours(IMAGES / 255, IMAGES), "cannot be compared"),
    (lambda: pixel_neighbours(IMAGES, IMAGES[:0]), "cannot be compared"),
    (lambda: pixel_neighbours(IMAGES[..., :6, :6], IMAGES[..., :6, :6]), "too small"),
    (lambda: Yardstick(None, None, n=3), "n is 3"), (lambda: Yardstick(None, None, times=1), "times 1"),
    (lambda: near_copy_rate(np.zeros(0), np.zeros(9)), "0 images"),
    (lambda: near_copy_rate(np.zeros(3), np.zeros(1)), "1 held-out")])
def test_what_cannot_be_compared_is_refused(call, why):
    with pytest.raises(UserError, match=why): call()


# CAS

def test_cas_is_high_for_real_faces_and_at_chance_for_shuffled_labels(lab):
    "Easy faces, learned in a few epochs; chance is .2, with a standard error of .045 on 80 validation rows."
    cfg, _, _, _ = lab
    cfg = replace(cfg, data=replace(cfg.data, difficulty=0.0, drawn_counts=(60,) * 5),
                  clf=replace(cfg.clf, epochs=10.0, lr=3e-3))
    faces = NoTest(**vars(load_images(cfg.data)))
    labels = np.arange(300) % 5
    images = draw_faces(labels, 5, 16, 0.0)
    good = classification_accuracy_score(cfg.clf, images, labels, faces)
    shuffled = np.random.default_rng(0).permutation(labels)
    bad = classification_accuracy_score(cfg.clf, images, shuffled, faces)
    for way in ("synthetic_to_real", "real_to_synthetic"):
        assert good[way]["accuracy"]["low"] > .35 and bad[way]["accuracy"]["low"] < .25, way
    assert good["real_to_real"] == bad["real_to_real"]
    assert set(good["real_to_real"]["recall"]) == set(faces.classes) and json.dumps(good, allow_nan=False)
    with pytest.raises(UserError, match="training rows"):
        classification_accuracy_score(cfg.clf, images, labels, faces, split="train")


def test_cas_needs_two_images_of_a_class(lab):
    cfg, faces, _, _ = lab
    images, labels = fakes(5)
    with pytest.raises(UserError, match="two images"):
        classification_accuracy_score(cfg.clf, images, labels, faces)


# The table

def test_the_table_has_a_real_reference_for_each_size_and_cas_where_it_is_known(lab):
    _, _, _, yard = lab
    images, labels = fakes()
    a, b = yard.full(images, labels), yard.full(images[:30], labels[:30])
    def accuracy(v): return {"accuracy": {"value": v, "low": v - .1, "high": v + .1}}
    cas = {"synthetic_to_real": accuracy(.4), "real_to_synthetic": accuracy(.5), "real_to_real": accuracy(.6)}
    c = a | {"cas": cas}
    lines = measures_table({"a": a, "b": b, "c": c}).splitlines()
    names = [line.split("  ")[0] for line in lines[1:]]
    assert names == ["a", "b", "c", "real reference of a", "real reference of b"]
    assert len({len(line) for line in lines}) == 1
    assert lines[0].endswith("reverse CAS %") and "40 ±10" in lines[3] and "50 ±10" in lines[3]
    assert lines[4].count("60 ±10") == 2
    assert "CAS" not in measures_table({"a": a})
    assert "real reference of" not in measures_table({"a": a, "c": c})
