"Images that do not fit into memory: the same tables, batches and runs as from memory, no memory for pixels."
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import run_files
import torch
from PIL import Image

from fer_synth import cli
from fer_synth.config import DataConfig, UserError, check_config
from fer_synth.data import load as room
from fer_synth.data.batches import Batches, MirrorAndShift
from fer_synth.data.load import load_images, open_stored, read_images, source_state, store_images, stored_at
from fer_synth.data.rows import ArrayFile, Rows, join_rows, pick_rows
from fer_synth.data.tables import FER_CLASSES
from fer_synth.experiment import runs, work
from fer_synth.experiment.plan import plan_run
from fer_synth.recipes import tiny_cgan, tiny_wgan_gp
from fer_synth.records import RunFolder
from fer_synth.runtime import cache_folder
from fer_synth.steps import Store

@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"cache"))
    return tmp_path/"cache"/"fer_synth"


def write_folder(path, faces):
    for i, (x, y, split) in enumerate(zip(faces.images, faces.labels, faces.split)):
        file = path/split/faces.classes[y]/f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[0]).save(file)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "The faces of the tiny recipe as a folder of PNG files."
    return write_folder(tmp_path_factory.mktemp("source")/"faces", load_images(tiny_wgan_gp().data))


@pytest.fixture
def own(source, tmp_path):
    "A copy of that folder, to be changed."
    return shutil.copytree(source, tmp_path/"own")


def config(source, **changes):
    return DataConfig(source=str(source), size=16, **{"memory_gib": 0.0, **changes})


def stored_sources() -> int:
    "How many sources are kept in the cache, in which the yardsticks have a folder of their own."
    return sum(path.is_dir() and path.name != "yardsticks" for path in cache_folder().iterdir())


def left_over(cache):
    return sorted(p.name for p in cache.glob("unfinished*"))


# ---- the same numbers ------------------------------------------------------------------------------

@pytest.fixture
def pair(source):
    "The same table in memory and on disk."
    one, two = read_images(config(source, memory_gib=1.0)), read_images(config(source))
    assert isinstance(one.images, np.ndarray) and isinstance(two.images, Rows)
    return one, two


def test_the_table_is_the_same(pair):
    one, two = pair
    assert one.fingerprint() == two.fingerprint() and list(two.names) == list(one.names)
    assert one.report == two.report and json.dumps(one.report) == json.dumps(two.report)
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.hashes, two.hashes) and np.array_equal(one.split, two.split)
    with pytest.raises(UserError, match="Unknown split"): two.part("validation")


@pytest.mark.parametrize("changes", [dict(split_seed=4), dict(limit=11), dict(drop_leaks=False),
                                     dict(dedup="near"), dict(classes=("sad", "happy", "fear"))])
def test_the_table_is_the_same_for_other_splits_and_classes(source, tmp_path, changes):
    "Flattened to one split, so that test and validation are cut; the second reading finds the stored pixels."
    flat = tmp_path/"flat"
    for file in source.rglob("*.png"):
        (flat/file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, flat/file.parent.name/f"{file.parent.parent.name}-{file.name}")
    read_images(config(flat))
    one, two = read_images(config(flat, memory_gib=1.0, **changes)), read_images(config(flat, **changes))
    assert one.fingerprint() == two.fingerprint() and one.report == two.report
    assert stored_sources() == 1 + ("classes" in changes or "dedup" in changes)


def test_batches_are_the_same(pair):
    gen = np.random.default_rng(0)
    kept, kinds = gen.integers(0, 256, (30, 1, 16, 16), np.uint8), gen.integers(0, 5, 30)
    rows = gen.integers(0, len(pair[0].part("train")[1]), 200)
    options = dict(transform=MirrorAndShift(True, 2), extra=30, extra_share=0.25)
    both = []
    for faces in pair:
        images, labels = faces.part("train")
        images, labels = join_rows(pick_rows(images, rows), kept), np.r_[labels[rows], kinds]
        both.append(Batches(images, labels, 32, 5, "gan", 2, **options))
    one, two = both
    for step in [*range(15), 777, -1, -9]:
        for a, b in zip(one[step], two[step]): assert torch.equal(a, b) and a.stride() == b.stride()


def test_batches_do_not_keep_what_they_read(pair):
    "Batches of a view hold the view itself; those of an array hold a tensor, as ever."
    images, labels = pair[1].part("train")
    assert Batches(images, labels, 8, 0, "x").images is images
    assert torch.is_tensor(Batches(*pair[0].part("train"), 8, 0, "x").images)


def run(cfg, out):
    return runs.run(replace(cfg, compare=replace(cfg.compare, seeds=1)), out, show=False)


def records(path):
    "Log and metrics of a run, and the files that hold its images and what was made of them, by name."
    files = [path/"selection.csv", path/"data.json", run_files.step_folder(path, "data")/"real.png"]
    for r in (1, 2): files += [run_files.pool(path, r), run_files.validation(path, r)]
    content = {p.relative_to(path).as_posix(): p.read_bytes() for p in files}
    return run_files.stats(path), run_files.metrics(path), content


@pytest.mark.parametrize("score, kind", [("confidence", "wgan_gp"), ("view_consistency", "wgan_gp per class"),
                                         ("density", "wgan_gp"), ("confidence", "cgan")])
def test_a_run_from_disk_is_a_run_from_memory(source, tmp_path, monkeypatch, score, kind):
    "Metrics, selection, pools and every logged number are equal; also with few images for the warm-up."
    cfg = tiny_cgan() if kind == "cgan" else tiny_wgan_gp()
    gan = replace(cfg.gan, per_class=kind == "wgan_gp per class")
    cfg = replace(cfg, gan=gan, selection=replace(cfg.selection, score=score, threshold=0.2))
    if score == "density": monkeypatch.setattr(work, "WARMUP_IMAGES", 60)
    one, two = (run(replace(cfg, data=config(source, memory_gib=g)), tmp_path/f"run-{g}") for g in (1.0, 0.0))
    assert stored_sources() == 1
    for a, b in zip(records(one), records(two)): assert a == b
    p, q = (np.load(path/"predictions.npz") for path in (one, two))
    assert all(np.array_equal(p[k], q[k]) for k in p.files)


def test_a_run_from_disk_is_resumed(source, tmp_path):
    out = run(replace(tiny_wgan_gp(), data=config(source)), tmp_path/"run")
    first = run_files.metrics(out)
    shutil.rmtree(cache_folder())                  # may be deleted at any time
    shutil.rmtree(run_files.step_folder(out, "compare"))
    (out/"metrics.json").unlink()
    runs.resume(out, show=False)
    assert run_files.metrics(out) == first and open_stored(config(source)) is not None


def test_a_warm_up_has_a_limit(pair, tmp_path, monkeypatch):
    "Of many images a random choice is shown, the same from memory and from disk; of few, all."
    seen, cfg = [], tiny_wgan_gp()
    monkeypatch.setattr(work, "train", lambda objective, *args: seen.append(objective))
    monkeypatch.setattr(work, "trained_classifier", lambda *args: SimpleNamespace(features=None))
    for most in 50, 10**6:
        monkeypatch.setattr(work, "WARMUP_IMAGES", most)
        for i, images in enumerate(pair):
            store = Store(RunFolder.create(tmp_path/f"{most}-{i}", cfg, {}))
            job = work.Job(cfg, plan_run(cfg, images), store, images, torch.device("cpu"), False)
            step = job.plan["warmup-1"]
            work.work_warmup(job, step, store.folder(step))
    n = len(pair[0].part("train")[1])
    assert [len(o.batches.images) for o in seen] == [50, 50, n, n]
    assert [len(o.codes.weight) for o in seen] == [50, 50, n, n]
    for a, b in (seen[:2], seen[2:]):
        assert torch.equal(a.codes.weight, b.codes.weight)
        assert all(torch.equal(x, y) for x, y in zip(a.batches[3], b.batches[3]))
    assert len({tuple(x.ravel()) for x in np.asarray(seen[1].batches.images)}) == 50


# ---- what can go wrong -----------------------------------------------------------------------------

def written(cfg):
    return (stored_at(cfg)/"facts.json").stat().st_mtime_ns


@pytest.mark.parametrize("name", ["images", "names", "labels", "found", "hashes", "blank"])
@pytest.mark.parametrize("keep", [0, 60, -1])
def test_a_file_cut_short_is_read_again(source, name, keep):
    cfg = config(source)
    good = read_images(cfg).fingerprint()
    file = stored_at(cfg)/f"{name}.npy"
    file.write_bytes(file.read_bytes()[:keep])
    assert open_stored(cfg) is None
    assert read_images(cfg).fingerprint() == good and open_stored(cfg) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": 1}', "null", "\x00" * 99])
def test_damaged_facts_are_read_again(source, text):
    cfg = config(source)
    good = read_images(cfg).fingerprint()
    (stored_at(cfg)/"facts.json").write_text(text)
    assert open_stored(cfg) is None and read_images(cfg).fingerprint() == good


def test_files_that_do_not_belong_together_are_read_again(source):
    cfg = config(source)
    good = read_images(cfg).fingerprint()
    too_small = np.zeros((len(open_stored(cfg).names), 1, 8, 8), np.uint8)
    wrong_files = {"labels": np.zeros(7, int), "images": too_small, "names": np.array([{}], object)}
    for name, wrong in wrong_files.items():
        np.save(stored_at(cfg)/f"{name}.npy", wrong)
        assert open_stored(cfg) is None and read_images(cfg).fingerprint() == good


def change_in_place(own):
    file = next((own/"train"/"happy").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)


def add_one(own):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).save(own/"train"/"happy"/"new.png")


def remove_one(own): next((own/"train"/"happy").iterdir()).unlink()


def rename_one(own):
    file = next((own/"train"/"happy").iterdir())
    file.rename(own/"train"/"sad"/file.name)


@pytest.mark.parametrize("change", [change_in_place, add_one, remove_one, rename_one])
def test_a_source_that_changed_is_read_again(own, change):
    cfg = config(own)
    before, first = read_images(cfg).fingerprint(), written(cfg)
    assert read_images(cfg).fingerprint() == before and written(cfg) == first     # nothing is read again
    change(own)
    after = read_images(cfg).fingerprint()
    assert after == read_images(config(own, memory_gib=1.0)).fingerprint() != before and written(cfg) != first
    assert stored_sources() == 1                               # the stale one is gone


def test_a_source_that_changes_while_it_is_read(own, monkeypatch):
    real = room.read_facts

    def slow(*args, **kwargs):
        facts = real(*args, **kwargs)
        add_one(own)
        return facts

    monkeypatch.setattr(room, "read_facts", slow)
    with pytest.raises(UserError, match="changed while it was read"): read_images(config(own))


def test_a_source_that_is_gone(own):
    read_images(config(own))
    shutil.rmtree(own)
    with pytest.raises(UserError, match="does not exist"): read_images(config(own))


def test_a_disk_that_is_full_before(source, cache, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="cannot take .* GiB of images .*free some, set XDG_CACHE_HOME"):
        read_images(config(source))
    assert not left_over(cache) and open_stored(config(source)) is None


@pytest.mark.parametrize("after", [0, 40])
def test_a_disk_that_fills_up(source, cache, monkeypatch, after):
    real, count = ArrayFile.add, []

    def add(self, rows):
        count.append(0)
        if len(count) > after: raise OSError(errno.ENOSPC, "No space left on device")
        real(self, rows)

    monkeypatch.setattr(ArrayFile, "add", add)
    with pytest.raises(UserError, match="No space left on device"): read_images(config(source))
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made(source, tmp_path, monkeypatch):
    (tmp_path/"file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"file"))
    with pytest.raises(UserError, match="XDG_CACHE_HOME"): read_images(config(source))


def test_a_defect_leaves_nothing(own, cache):
    (own/"train"/"happy"/"bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="bad.png does not decode"): read_images(config(own))
    assert list(cache.iterdir()) == []
    faces = read_images(config(own, skip_bad=True))
    in_memory = read_images(config(own, skip_bad=True, memory_gib=1.0))
    assert faces.report["skipped"] == 1 and faces.fingerprint() == in_memory.fingerprint()


def python(code, *args):
    "Another process."
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


KILLED = """
import os, sys
from fer_synth.data import load
from fer_synth.data.rows import ArrayFile
real = ArrayFile.add
def add(self, rows):
    real(self, rows)
    if self.n < 30: return
    self.file.flush()
    os.kill(os.getpid(), 9)
ArrayFile.add = add
load.read_images(load.DataConfig(source=sys.argv[1], size=16, memory_gib=0.0))
"""


def test_a_reader_that_is_killed_leaves_nothing_that_is_used(source, cache):
    "Half of a table is never taken for a whole one; it is removed a day later, as its process may be alive."
    done = python(KILLED, source)
    assert done.returncode == -9, done.stderr
    half, = left_over(cache)
    assert open_stored(config(source)) is None
    good = read_images(config(source, memory_gib=1.0)).fingerprint()
    assert read_images(config(source)).fingerprint() == good and left_over(cache) == [half]
    os.utime(cache/half, times=(time.time() - 2 * 86400,) * 2)
    store_images(config(source))
    assert not left_over(cache) and read_images(config(source)).fingerprint() == good


@pytest.mark.parametrize("stale", [False, True])
def test_readers_at_once(own, cache, stale):
    "Whoever is first, all get a whole table, and one is left; also where an older one lies in the way."
    if stale:
        read_images(config(own))
        add_one(own)
    found, good = [], read_images(config(own, memory_gib=1.0)).fingerprint()

    def read(): found.append(read_images(config(own)).fingerprint())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert found == [good] * 4 and len(list(cache.iterdir())) == 1


def test_an_open_table_outlives_its_files(source):
    if os.name != "posix": pytest.skip("elsewhere an open file cannot be deleted")
    faces = read_images(config(source))
    before = faces.fingerprint()
    shutil.rmtree(cache_folder())
    assert faces.fingerprint() == before


# ---- the command line ------------------------------------------------------------------------------

def test_the_command_line_says_where_the_images_are(source, cache, capsys):
    words = ["data", "--data", str(source), "--data.size", "16"]
    assert cli.main(words) == 0
    small = capsys.readouterr().out
    assert cli.main([*words, "--data.memory-gib", "0"]) == 0
    large = capsys.readouterr().out
    new, = (line for line in large.splitlines() if line not in small.splitlines() and line)
    assert new == f"The images are on disk, in {stored_at(config(source))}" and "on disk" not in small


def test_memory_gib_has_a_range():
    cfg = tiny_wgan_gp()
    for bad in -1.0, float("nan"):
        data = replace(cfg.data, memory_gib=bad)
        with pytest.raises(UserError, match="memory_gib"): check_config(replace(cfg, data=data))


# ---- memory ----------------------------------------------------------------------------------------
# Pages of a mapped file count as resident while the system has room for them, and are dropped when it has
# not. What a process cannot give back is its anonymous memory, which Linux tells apart.

linux = pytest.mark.skipif(not sys.platform.startswith("linux"),
                           reason="only Linux tells mapped files and memory of a process apart")
PROBE = """
import sys, threading
import numpy as np, torch
from torch import nn
from fer_synth.config import DataConfig
from fer_synth.data.batches import Batches, MirrorAndShift
from fer_synth.data.images import SPLITS
from fer_synth.data.load import read_images
from fer_synth.data.rows import join_rows
from fer_synth.runtime import start
from fer_synth.training.classifier import predict
start("cpu", 1)

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024     # MiB

def use(source):
    faces = read_images(DataConfig(source=source, size=64, channels=3, memory_gib=0.0))
    images, labels = faces.part("train")
    clf = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(48, len(faces.classes)))
    more_images, more_labels = join_rows(images, images[:10]), np.r_[labels, labels[:10]]
    settings = dict(transform=MirrorAndShift(), extra=10, extra_share=0.1)
    batches = Batches(more_images, more_labels, 64, 0, "probe", **settings)
    for step in range(50): batches[step]
    # small batches have small buffers
    answers = [predict(clf, faces.part(s)[0], batch=64) for s in SPLITS]
    faces.fingerprint()
    return len(faces.labels)

for _ in range(3): use(sys.argv[2])     # a small table, so that all libraries are loaded and all buffers made
before, peak, done = anonymous(), [0], threading.Event()
def watch():
    while not done.wait(0.002): peak[0] = max(peak[0], anonymous())
thread = threading.Thread(target=watch)
thread.start()
n = use(sys.argv[1])
done.set()
thread.join()
print(n, max(peak[0], anonymous()) - before)
"""


def probe(source, small):
    done = python(PROBE, source, small)
    assert done.returncode == 0, done.stderr
    n, peak = done.stdout.split()
    return int(n), float(peak)


def write_csv(path, n):
    numbers = np.random.default_rng(n).integers(0, 256, (n, 64), np.uint8).tolist()
    with path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for i, row in enumerate(numbers):
            usage = "PublicTest" if i % 5 == 0 else "Training"
            file.write(f"{i % 7},{' '.join(map(str, row))},{usage}\n")
    return path


@linux
def test_reading_a_large_source_takes_no_memory_for_its_pixels(tmp_path):
    """6,000 images of 64x64 in colour are 70 MiB. Their reading may take 1 KiB each for name, row and hash,
    and the allocator may keep four blocks of 3 MiB, a batch as floats: how many is a matter of chance."""
    small, large = write_csv(tmp_path/"small.csv", 1000), write_csv(tmp_path/"large.csv", 6000)
    n, peak = probe(large, small)
    assert n == 6000 and stored_at(DataConfig(source=str(large), size=64, channels=3)).exists()
    assert peak < 18, f"{peak:.1f} MiB"


@linux
def test_a_large_table_takes_no_memory_for_its_pixels(tmp_path):
    "40,000 images of 64x64 in colour, stored before: 469 MiB in a file with holes. Each may take half a KiB."
    small, large, n = write_csv(tmp_path/"small.csv", 1000), tmp_path/"large.csv", 40_000
    large.write_text("emotion,pixels,Usage\n")
    cfg = DataConfig(source=str(large), size=64, channels=3)
    folder = stored_at(cfg)
    folder.mkdir(parents=True)
    with ArrayFile(folder/"images.npy", np.uint8, (3, 64, 64)) as f:
        f.n = n
        f.file.truncate(f.file.tell() + n * 3 * 64 * 64)
    rows = np.arange(n)
    arrays = dict(labels=rows % 7, found=np.where(rows % 5, "train", "test"), blank=rows < 0,
                  hashes=np.array([f"{i:016x}" for i in rows]),
                  names=np.array([f"large.csv row {i}" for i in rows]))
    for k, v in arrays.items(): np.save(folder/f"{k}.npy", v)
    facts = {"count": n, "classes": list(FER_CLASSES), "skipped": [], "facts": {},
             "state": source_state(large)}
    (folder/"facts.json").write_text(json.dumps(facts))
    found, peak = probe(large, small)
    assert found == n
    assert peak < 24, f"{peak:.1f} MiB"
