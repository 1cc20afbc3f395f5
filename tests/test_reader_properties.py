"""Any input gives a table of images or one sentence: random trees, archives, tables, arrays and bytes.

`HYPOTHESIS_PROFILE=long` reads twenty times as many inputs.
"""
import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import unicodedata
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from fer_synth.config import DataConfig, UserError
from fer_synth.data.images import ImageSet, describe
from fer_synth.data.load import read_images

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
EXAMPLES = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 1


def inputs(n):
    "Settings for about `n` inputs; they are the same ones every time, and no test depends on time."
    return settings(max_examples=n * EXAMPLES, deadline=None, derandomize=True,
                    suppress_health_check=list(HealthCheck))


def stored(kind, mode, seed):
    "The bytes of a small image, different for each seed."
    rng = np.random.default_rng(seed)
    shape = (8, 8) if mode in ("L", "I;16", "F", "1") else (8, 8, len(mode))
    pixels = rng.integers(0, 256, shape)
    array = {"I;16": np.uint16, "F": np.float32, "1": bool}.get(mode, np.uint8)
    file = io.BytesIO()
    Image.fromarray((pixels > 128) if mode == "1" else pixels.astype(array)).save(file, kind)
    return file.getvalue()


PICTURES = [("PNG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "I;16"), ("PNG", "1"),
            ("JPEG", "L"), ("TIFF", "F"), ("GIF", "L"), ("BMP", "RGB"), ("WEBP", "RGB")]
pictures = st.builds(lambda kind, seed: stored(*kind, seed), st.sampled_from(PICTURES), st.integers(0, 10**6))


@st.composite
def spoilt(draw, data):
    "Bytes with some of them changed, or cut short."
    data = bytearray(draw(data))
    for _ in range(draw(st.integers(0, 3))):
        if data: data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[:draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


contents = st.one_of(pictures, pictures, pictures, spoilt(pictures), st.binary(max_size=40),
                     st.sampled_from([b"", b"text", b"<html>", b"emotion,pixels\n0,1 2 3 4\n"]))
WORDS = [
    "train", "Train", "TEST", "val", "validation", "PublicTest", "PrivateTest", "fer_train", "test2", "eval",
    "images", "labels", "masks",
    "happy", "Happy", "sad", "wütend", "wu\u0308tend", "害怕", "a", "b", "class 1", "$x$", "<b>",
    "@eaDir", "__MACOSX", ".git", "lost+found", "..", ".", "CON", "a\x1bb", "a\x7fb", "\u202eabc",
    "x" * 200, "train.csv", "0", "1"]
NAMES = ["1.png", "2.PNG", "3.jpg", "4.jfif", "5.heic", "6", "7.txt", "8.csv", "Thumbs.db", "9.tif",
         ".hidden", "x.jpg_large", "f.npy"]
words = st.one_of(st.sampled_from(WORDS), st.text(max_size=4))


@st.composite
def trees(draw):
    "Names and bytes of the files of a source: a sound tree, and anything else beside it."
    files = {}
    splits = draw(st.lists(words, max_size=3))
    classes = draw(st.lists(words, min_size=1, max_size=3))
    for split in splits or [""]:
        for name in classes:
            for i in range(draw(st.integers(0, 4))):
                files[f"{split}/{name}/{i}.png".lstrip("/")] = draw(pictures)
    for _ in range(draw(st.integers(0, 6))):
        folders = draw(st.lists(words, max_size=4))
        files["/".join([*folders, draw(st.sampled_from(NAMES))])] = draw(contents)
    return files


def as_folder(path, files):
    for name, data in files.items():
        file = path/name.replace("\0", "")
        if ".." in name or name.startswith("/"): continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        except (OSError, ValueError): continue   # no file system has such a name, or a file is a folder too
    return path


def as_zip(path, files):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # of names that come twice
        with zipfile.ZipFile(path, "w") as z:
            for name, data in files.items(): z.writestr(zipfile.ZipInfo(name or "x"), data)
    return path


def as_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            try: t.addfile(info, io.BytesIO(data))
            except (UnicodeError, ValueError): continue
    return path


def outcome(source, **options):
    """'table', or 'sentence'; anything else is a failure.

    Nothing is written beside the source or on the terminal.
    """
    before = sorted(source.parent.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)       # archives are closed when they are collected
        try:
            images = read_images(DataConfig(source=str(source), size=8, **options))
            assert describe(images).isprintable() or "\n" in describe(images)
            check_table(images)
            result = "table"
        except UserError as e:
            text = str(e)
            assert "\n" not in text and text.endswith((".", "'?")), text
            assert not {unicodedata.category(c) for c in text} & {"Cc", "Cs", "Zl", "Zp"}, ascii(text)
            result = "sentence"
    assert sorted(source.parent.rglob("*")) == before
    return result


def check_table(images: ImageSet):
    "A table that is one: every class in every split, nothing in two splits."
    assert images.images.dtype == np.uint8 and images.images.shape[2:] == (8, 8)
    every_class = set(range(len(images.classes)))
    for split in ("train", "val", "test"): assert set(images.part(split)[1].tolist()) == every_class
    assert len(set(images.classes)) == len(images.classes)
    assert all(name == name.strip("\0") for name in images.classes)
    train = set(images.hashes[images.split == "train"])
    assert not train & set(images.hashes[images.split != "train"])


@pytest.fixture
def seen():
    "How often each outcome came, printed with -s."
    counts = Counter()
    yield counts
    print(dict(counts))


in_every_form = pytest.mark.parametrize("make, name", [
    pytest.param(as_folder, "x", id="folder"),
    pytest.param(as_zip, "x.zip", id="zip"),
    pytest.param(as_tar, "x.tar.gz", id="tar")])


@in_every_form
def test_random_trees(make, name, seen):
    @inputs(50)
    @given(trees(), st.booleans(), st.sampled_from([1, 3]))
    def check(files, skip_bad, channels):
        with tempfile.TemporaryDirectory() as place:
            (Path(place)/"x").mkdir()
            seen[outcome(make(Path(place)/name, files), skip_bad=skip_bad, channels=channels)] += 1
    check()
    assert seen["sentence"] > 0


SPLITS = [["train", "val", "test"],
          ["Training", "PublicTest", "PrivateTest"],
          ["fer_train", "fer_test"],
          ["all"]]
CLASSES = ["happy", "sad", "wütend", "害怕", "<b>", "$x$", "class 1", "CON"]
OTHERS = ["readme.md", "Thumbs.db", "@eaDir/1.jpg", "happy/notes.txt", ".hidden", "labels.csv"]


@st.composite
def sound_trees(draw):
    "A tree that must be read: splits in some spelling, classes, and files that must be accounted for."
    files, seed = {}, draw(st.integers(0, 10**6))
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    kind = draw(st.sampled_from(PICTURES))
    for split in draw(st.sampled_from(SPLITS)):
        above = "" if split == "all" else f"{split}/"
        for name in classes:
            for i in range(12):
                seed += 1
                files[f"{above}{name}/{i}.png"] = stored(*kind, seed)
    images = len(files)
    others = draw(st.lists(st.sampled_from(OTHERS), unique=True))
    for name in others: files[name] = b"name,label\n"
    wrap = draw(st.sampled_from(["", "data/", "archive/faces/"]))
    return {wrap + name: data for name, data in files.items()}, images, len(classes), len(others)


@in_every_form
def test_sound_trees_are_read_and_every_file_is_accounted_for(make, name):
    @inputs(12)
    @given(sound_trees())
    def check(tree):
        files, images, classes, others = tree
        with tempfile.TemporaryDirectory() as place:
            (Path(place)/"x").mkdir()
            source = make(Path(place)/name, files)
            report = read_images(DataConfig(source=str(source), size=8)).report
            assert sum(sum(n.values()) for n in report["found"].values()) == images
            assert len(report["classes"]) == classes
            folders = make is as_folder       # a folder of the system counts as one entry there
            left_out = sum(sum(facts["endings"].values()) for facts in report["left_out"].values())
            assert left_out == others and (folders or left_out == len(files) - images)
    check()


CELLS = ["0", "3", "6", "7", "9", "happy", "", "Training", "PublicTest", "1 2 3 4", "1 2 3", "256 0 0 0",
         "-1 0 0 0", "1  2 3 4 ", "é", "\"", "\n", "a\0b", "1e3", "٣", "²", "99999999999999999999 1 1 1"]
HEADS = ["emotion,pixels,Usage", "emotion,pixels", "emotion, Usage, pixels", "pixels,emotion", "pixels",
         "emotion", "", "a,b,c", "emotion,pixels,emotion", "EMOTION,Pixels", "\ufeffemotion,pixels",
         "emotion;pixels"]
cells = st.one_of(st.sampled_from(CELLS), st.text(max_size=5))
heads = st.sampled_from(HEADS)


@st.composite
def tables(draw):
    "A table of any text, in any encoding; half of them nearly sound."
    if draw(st.booleans()):
        rows = [[str(c), " ".join(str((7 * i + 3 * j + c) % 256) for j in range(4)), u]
                for i, u in enumerate(["Training"] * 8 + ["PublicTest"] * 4) for c in (0, 3)]
        for _ in range(draw(st.integers(0, 2))):
            cell = draw(cells)
            row = draw(st.integers(0, len(rows) - 1))
            rows[row][draw(st.integers(0, 2))] = cell
        head = "emotion,pixels,Usage"
    else:
        head, rows = draw(heads), draw(st.lists(st.lists(cells, max_size=4), max_size=6))
    separator = draw(st.sampled_from([",", ",", ";", "\t"]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    text = end.join([head.replace(",", separator), *(separator.join(row) for row in rows)])
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32"]))
    return text.encode(encoding, "replace")


TABLE_NAMES = ["train.csv", "test.csv", "fer2013.csv", "x.tsv", "data/val.csv"]
TABLE_SOURCES = {"csv": "fer2013.csv", "zip": "x.zip", "gz": "fer.csv.gz", "folder": "x"}   # kind -> its name


def test_random_tables(seen):
    @inputs(100)
    @given(st.lists(tables(), min_size=1, max_size=2),
           st.sampled_from(["csv", "zip", "gz", "folder"]),
           st.booleans(),
           st.lists(st.sampled_from(TABLE_NAMES), min_size=2, max_size=2, unique=True))
    def check(data, kind, skip_bad, names):
        with tempfile.TemporaryDirectory() as place:
            source = Path(place)/TABLE_SOURCES[kind]
            if kind == "csv": source.write_bytes(data[0])
            elif kind == "gz": source.write_bytes(gzip.compress(data[0]))
            elif kind == "zip": as_zip(source, dict(zip(names, data)))
            else:
                source.mkdir()
                as_folder(source, dict(zip(names, data)))
            seen[outcome(source, skip_bad=skip_bad)] += 1
    check()
    assert seen["sentence"] > 0


ARRAY_NAMES = ["images", "labels", "x_train", "y_train", "x_test", "y_test", "split", "classes", "names",
               "train_images"]


@st.composite
def npz_files(draw):
    "Arrays under many names, shapes and types."
    n = draw(st.integers(0, 30))
    shapes = st.sampled_from([(n, 4, 4), (n, 4, 4, 3), (n, 1, 4, 4), (n, 16), (n,), (n, 1), (), (n, 3, 2),
                              (0,), (n, 2, 2, 2, 2)])
    types = st.sampled_from(["u1", "f4", "i8", "?", "U3", "S2", "c8", "M8[s]", "u2"])
    names = st.sampled_from(ARRAY_NAMES)
    arrays = {}
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        arrays[name] = rng.integers(0, draw(st.sampled_from([2, 9, 300])), draw(shapes)).astype(draw(types))
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        arrays |= {"images": rng.integers(0, 256, (40, 4, 4), np.uint8), "labels": np.arange(40) % 3}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def sound_npz(seed):
    "Arrays that must be read."
    rng, file = np.random.default_rng(seed), io.BytesIO()
    np.savez(file, images=rng.integers(0, 256, (40, 4, 4), np.uint8), labels=np.arange(40) % 3)
    return file.getvalue()


sound_arrays = st.builds(sound_npz, st.integers(0, 99))


def test_random_arrays(seen):
    @inputs(60)
    @given(st.one_of(npz_files(), sound_arrays, spoilt(npz_files())), st.booleans())
    def check(data, skip_bad):
        with tempfile.TemporaryDirectory() as place:
            (Path(place)/"x.npz").write_bytes(data)
            seen[outcome(Path(place)/"x.npz", skip_bad=skip_bad)] += 1
    check()
    assert seen["sentence"] > 0 and seen["table"] > 0


STARTS = [b"", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"Rar!", b"7z\xbc\xaf",
          b"\x89PNG\r\n", b"\x93NUMPY\1\0v\0{", b"emotion,pixels\n",
          b"\xff\xfe", b"\xef\xbb\xbf", b"\x80\x04", b"%PDF", b"\x89HDF"]


def archive_bytes(kind):
    "A sound small archive."
    files = {f"{s}/{c}/{i}.png": stored("PNG", "L", hash((k, j, i)) % 9999)
             for k, s in enumerate(("train", "test"))
             for j, c in enumerate("ab")
             for i in range(4)}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place)/"x"
        if kind == "zip": return as_zip(path, files).read_bytes()
        data = as_tar(path, files, "w").read_bytes()
    return {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](data)


ARCHIVES = [archive_bytes(kind) for kind in ("zip", "tar", "gz", "bz2", "xz")]


def test_random_bytes_and_spoilt_archives(seen):
    random_bytes = st.builds(bytes.__add__, st.sampled_from(STARTS), st.binary(max_size=600))

    @inputs(150)
    @given(st.one_of(random_bytes, spoilt(st.sampled_from(ARCHIVES))),
           st.sampled_from(["x.zip", "x.csv", "x.tar.gz", "x.npz", "x", "x.tsv"]))
    def check(data, name):
        with tempfile.TemporaryDirectory() as place:
            (Path(place)/name).write_bytes(data)
            seen[outcome(Path(place)/name)] += 1
    check()
    assert seen["sentence"] > 0 and seen["table"] > 0
