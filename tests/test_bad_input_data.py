"Hostile, broken and leaky data sets: one clear sentence for each, nothing left behind, no leak gets through."
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from fer_synth.config import DataConfig, UserError
from fer_synth.data.images import SPLITS, assign_splits, describe, find_duplicates, split_groups
from fer_synth.data.load import read_images
from fer_synth.data.sources import read_source
from fer_synth.data.tables import FER_CLASSES

REAL = Path(__file__).parents[2]/"shared"/"data"/"fer2013.zip"
CLASSES = "fear", "happy", "sad"


def pixels(seed, shape=(16, 16)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(array):
    f = io.BytesIO()
    Image.fromarray(array).save(f, "PNG")
    return f.getvalue()


def good_files(n=8):
    "Name -> bytes of a sound data set: n training and 3 test images of each class."
    files = {}
    for k, c in enumerate(CLASSES):
        for i in range(n): files[f"train/{c}/{i}.png"] = png(pixels(1000 * k + i))
        for i in range(3): files[f"test/{c}/{i}.png"] = png(pixels(1000 * k + 100 + i))
    return files


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items(): z.writestr(name, data)
    return path


def make_folder(path, files):
    for name, data in files.items():
        (path/name).parent.mkdir(parents=True, exist_ok=True)
        (path/name).write_bytes(data)
    return path


def make_csv(rows, head="emotion,pixels,Usage"):
    lines = [",".join([str(row[0]), " ".join(map(str, row[1].ravel())), *row[2:]]) for row in rows]
    return "\n".join([head, *lines]).encode()


def read(source, **changes):
    return read_images(DataConfig(source=str(source), **{"size": 8, **changes}))


def files_around(source):
    return sorted(Path(source).parent.rglob("*")) if Path(source).parent.exists() else []


def fails(source, *parts, **changes):
    "Reading must raise one sentence with all the parts, and leave the folder around the source as it was."
    around = files_around(source)
    with pytest.raises(UserError) as e: read(source, **changes)
    text = str(e.value)
    assert "\n" not in text and text.endswith((".", "'?")) and all(p in text for p in parts), text
    assert files_around(source) == around


# ---- sources that cannot be read ----------------------------------------------------------------

def test_missing_path(tmp_path):
    fails(tmp_path/"none.zip", "none.zip does not exist")


def test_empty_folder(tmp_path):
    (tmp_path/"faces").mkdir()
    fails(tmp_path/"faces", "holds no images")


def test_not_a_zip(tmp_path):
    (tmp_path/"x.zip").write_bytes(b"hello")
    fails(tmp_path/"x.zip", "neither a folder nor a zip")


@pytest.mark.parametrize("keep", [3, 0.1, 0.5, 0.99])
def test_zip_cut_short(tmp_path, keep):
    data = make_zip(tmp_path/"x.zip", good_files()).read_bytes()
    (tmp_path/"x.zip").write_bytes(data[:keep if isinstance(keep, int) else int(keep * len(data))])
    fails(tmp_path/"x.zip", "damaged zip", "cut short")


def test_zip_without_images(tmp_path):
    fails(make_zip(tmp_path/"x.zip", {"readme.txt": b"hello"}), "holds no images")


@pytest.mark.parametrize("name", ["../x.png", "train/../../x.png", "/etc/x.png", "..\\x.png", "C:\\x.png"])
def test_zip_with_names_that_point_outside(tmp_path, name):
    fails(make_zip(tmp_path/"x.zip", {**good_files(), name: b""}), "unsafe name")


def test_zip_that_declares_too_much(tmp_path):
    path = make_zip(tmp_path/"x.zip", {**good_files(), "notes.txt": bytes(4 << 20)})
    fails(path, "expands to", "max_gib", max_gib=0.003)


def test_zip_that_lies_about_its_size(tmp_path):
    "A member that declares 100 bytes and holds 8 MiB is cut at what it declared, and named."
    path = make_zip(tmp_path/"x.zip", {**good_files(), "train/sad/big.png": bytes(8 << 20)})
    data = path.read_bytes()
    assert data.count(struct.pack("<I", 8 << 20)) == 2
    path.write_bytes(data.replace(struct.pack("<I", 8 << 20), struct.pack("<I", 100)))
    fails(path, "train/sad/big.png", "does not decode", max_gib=0.003)


def test_zip_packed_by_another_method(tmp_path):
    with zipfile.ZipFile(tmp_path/"x.zip", "w", zipfile.ZIP_BZIP2) as z:
        z.writestr("train/sad/1.png", bytes(1 << 20))
    fails(tmp_path/"x.zip", "other than deflate")


def test_encrypted_zip(tmp_path):
    path = make_zip(tmp_path/"x.zip", good_files(1))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    fails(path, "encrypted")


def test_links_that_go_round(tmp_path):
    folder = make_folder(tmp_path/"faces", good_files())
    (folder/"train"/"sad"/"up").symlink_to(folder)
    fails(folder, "link back")


def test_links_to_other_folders_are_followed(tmp_path):
    folder = make_folder(tmp_path/"faces", good_files())
    (tmp_path/"linked").mkdir()
    for split in ("train", "test"): (tmp_path/"linked"/split).symlink_to(folder/split)
    assert read(tmp_path/"linked").fingerprint() == read(folder).fingerprint()


@pytest.mark.parametrize("kind", ["broken link", "link to itself", "pipe", "no permission"])
def test_files_that_cannot_be_opened(tmp_path, kind):
    folder = make_folder(tmp_path/"faces", good_files())
    path = folder/"train"/"sad"/"odd.png"
    if kind == "broken link": path.symlink_to(tmp_path/"nowhere")
    if kind == "link to itself": path.symlink_to(path)
    if kind == "pipe": os.mkfifo(path)
    if kind == "no permission":
        if os.geteuid() == 0: pytest.skip("the superuser may read everything")
        path.write_bytes(png(pixels(0)))
        path.chmod(0)
    fails(folder, "train/sad/odd.png", "does not decode")
    assert read(folder, skip_bad=True).report["skipped"] == 1


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    folder = make_folder(tmp_path/"faces", good_files())
    def refuse(self): raise PermissionError(13, "Permission denied", str(self))
    with monkeypatch.context() as m:
        m.setattr(Path, "iterdir", refuse)
        with pytest.raises(UserError, match="cannot be read .Permission denied."): read(folder)


# ---- pictures ------------------------------------------------------------------------------------

BAD_PICTURES = {
    "text": b"not a picture", "empty": b"", "half": png(pixels(5))[:120],
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "bomb": png(np.zeros((8000, 8000), np.uint8)),
    "huge": png(np.zeros((1, 1), np.uint8)).replace(b"IHDR\0\0\0\1\0\0\0\1", b"IHDR\0\1\0\0\0\1\0\0")}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", BAD_PICTURES)
@pytest.mark.parametrize("make", [make_zip, make_folder])
def test_picture_that_does_not_decode(tmp_path, kind, make):
    path = make(tmp_path/"x", {**good_files(), "train/sad/bad.png": BAD_PICTURES[kind]})
    fails(path, "train/sad/bad.png", "does not decode", "fewer pixels" if kind == "bomb" else "skip_bad")
    faces = read(path, skip_bad=True)
    assert faces.report["skipped"] == 1 and faces.report["skipped_names"] == ["train/sad/bad.png"]
    assert "train/sad/bad.png" in describe(faces) and faces.report["found"]["train"]["sad"] == 8


def test_only_bad_pictures(tmp_path):
    path = make_zip(tmp_path/"x.zip", {f"train/{c}/1.png": b"no" for c in CLASSES})
    fails(path, "no image that decodes", skip_bad=True)


def test_picture_outside_the_layout(tmp_path):
    strays = {"extra/more/1.png": png(pixels(0)), "preview.png": png(pixels(1))}
    path = make_zip(tmp_path/"x.zip", {**good_files(), **strays})
    fails(path, "'extra/more/1.png' and 'preview.png' fit into no class")
    with pytest.raises(UserError) as e: read(path)
    assert "skip" not in str(e.value)           # a person may want these images
    assert sorted(read(path, skip_bad=True).report["skipped_names"]) == ["extra/more/1.png", "preview.png"]


def test_names_cannot_repaint_the_terminal(tmp_path):
    path = make_zip(tmp_path/"x.zip", {**good_files(), "train/sad/\x1b[2Jx.png": b"no"})
    fails(path, "train/sad/\\x1b[2Jx.png")


def test_one_class_only(tmp_path):
    files = {k: v for k, v in good_files().items() if "sad" in k}
    fails(make_zip(tmp_path/"x.zip", files), "only the class 'sad'")
    fails(make_zip(tmp_path/"y.zip", good_files()), "only the class 'sad'", classes=("sad",))


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_missing_from_a_split(tmp_path, split):
    files = {k: v for k, v in good_files().items() if not k.startswith(f"{split}/sad")}
    fails(make_zip(tmp_path/"x.zip", files), "class 'sad'", f"{split} split")


def test_class_too_small_to_cut(tmp_path):
    counts = {"fear": 10, "happy": 10, "sad": 2}
    files = {f"{c}/{i}.png": png(pixels(100 * k + i))
             for k, (c, n) in enumerate(counts.items()) for i in range(n)}
    fails(make_zip(tmp_path/"x.zip", files), "class 'sad'", "of 2 in all")


def test_unknown_class(tmp_path):
    path = make_zip(tmp_path/"x.zip", good_files())
    fails(path, "no class 'hapy'", "did you mean 'happy'", classes=("hapy", "sad"))


# ---- CSV -----------------------------------------------------------------------------------------

def csv_rows():
    return [(c, pixels(1000 * c + i + 100 * (u != "Training")), u)
            for c in (2, 3, 4) for u, n in (("Training", 8), ("PublicTest", 3)) for i in range(n)]


def end_last_row(text, with_):
    "The CSV file with another end of its last pixels."
    return text.removesuffix(b",PublicTest").rsplit(b" ", 1)[0] + with_ + b",PublicTest"


@pytest.mark.parametrize("spoil, parts", [
    (lambda t: end_last_row(t, b""), ["row 34", "255 pixels", "256"]),
    (lambda t: t.replace(b"\n2,", b"\n2,7 ", 1), ["row 2", "257 pixels", "256"]),
    (lambda t: t.replace(b",PublicTest", b" abc,PublicTest", 1), ["row 10", "'abc'"]),
    (lambda t: t.replace(b",PublicTest", b" -3,PublicTest", 1), ["row 10", "'-3'"]),
    (lambda t: end_last_row(t, b" 256"), ["row 34", "256 is more than 255"]),
    (lambda t: end_last_row(t, b" 99999999999999999999999"), ["row 34", "more than 255"]),
    (lambda t: t.replace(b"\n2,", b"\n9,", 1), ["row 2", "emotion '9'"]),
    (lambda t: t.replace(b"\n2,", b"\nsad,", 1), ["row 3", "emotion '2'", "as in the first row"]),
    (lambda t: t.replace(b",PublicTest", b",Later", 1), ["row 10", "Usage 'later'"]),
    (lambda t: t.replace(b",PublicTest", b"", 1), ["row 10", "2 cells"]),
    (lambda t: t.replace(b"pixels", b"picture", 1), ["lacks the column 'pixels'"]),
    (lambda t: t.split(b"\n")[0], ["holds no images"]),
    (lambda t: b"", ["lacks the column"]),
    (lambda t: t + b"\n\xff\xfe", ["not a readable CSV"]),
    (lambda t: t + b'\n"' + b"1 " * 200_000, ["not a readable CSV"]),
], ids=["too few", "too many", "letters", "negative", "256", "huge number", "emotion", "emotion name",
        "usage", "cells", "column", "no rows", "empty", "bytes", "long cell"])
@pytest.mark.parametrize("zipped", [False, True])
def test_spoilt_csv(tmp_path, spoil, parts, zipped):
    text = spoil(make_csv(csv_rows()))
    path = tmp_path/("x.zip" if zipped else "fer2013.csv")
    if zipped: make_zip(path, {"fer2013/fer2013.csv": text})
    else: path.write_bytes(text)
    fails(path, *parts)


def test_spoilt_rows_are_skipped_when_asked(tmp_path):
    text = make_csv(csv_rows()).replace(b",PublicTest", b" abc,PublicTest", 1)
    (tmp_path/"fer2013.csv").write_bytes(text)
    report = read(tmp_path/"fer2013.csv", skip_bad=True).report
    assert report["skipped_names"] == ["fer2013.csv row 10"] and report["found"]["test"]["fear"] == 2


def test_both_official_test_halves(tmp_path):
    rows = csv_rows() + [(c, pixels(9000 + 10 * c + i), "PrivateTest") for c in (2, 3, 4) for i in range(2)]
    (tmp_path/"fer2013.csv").write_bytes(make_csv(rows))
    faces = read(tmp_path/"fer2013.csv")
    assert faces.report["counts"] == {s: dict.fromkeys(CLASSES, n) for s, n in zip(SPLITS, (8, 3, 2))}
    assert faces.report["cut"] == []


# ---- the same faces, whatever they are stored in ---------------------------------------------------

def test_folder_zip_and_csv_are_equal(tmp_path):
    rows = csv_rows()
    split = {"Training": "train", "PublicTest": "test"}
    files = {f"{split[u]}/{FER_CLASSES[c]}/{i}.png": png(p) for i, (c, p, u) in enumerate(rows)}
    wrapped = {"top/deep/" + k: v for k, v in files.items()}
    wrapped |= {"__MACOSX/._a.png": b"", "top/.DS_Store": b""}
    (tmp_path/"fer2013.csv").write_bytes(make_csv(rows))
    cells = [line.split(b",") for line in make_csv(rows[::-1]).splitlines()[1:]]
    lines = [b",".join((emotion, usage, numbers)) for emotion, numbers, usage in cells]
    icml = b"\n".join([b"emotion, Usage, pixels", *lines])
    tables = {"data/icml_face_data.csv": icml, "data/test.csv": b"pixels\n1 2 3 4"}
    sources = [make_folder(tmp_path/"tree", files), make_zip(tmp_path/"tree.zip", files),
               make_zip(tmp_path/"wrapped.zip", wrapped), tmp_path/"fer2013.csv",
               make_zip(tmp_path/"csv.zip", tables)]
    for cfg in ({}, {"channels": 3, "size": 24}, {"classes": ("sad", "happy")}):
        tables = [read(s, **cfg) for s in sources]
        assert len({t.fingerprint() for t in tables}) == 1
        for t in tables:
            for key in ("source", "blank_names", "layout", "left_out", "notes"): del t.report[key]
        assert len({str(t.report) for t in tables}) == 1


def test_plain_layout_equals_train_csv(tmp_path):
    rows = [r[:2] for r in csv_rows()]
    (tmp_path/"train.csv").write_bytes(make_csv(rows, "emotion,pixels"))
    files = {f"{FER_CLASSES[c]}/{i}.png": png(p) for i, (c, p) in enumerate(rows)}
    folder = make_folder(tmp_path/"tree", files)
    a, b = read(folder), read(tmp_path/"train.csv")
    assert a.fingerprint() == b.fingerprint() and a.report["cut"] == ["test", "val"]
    assert a.fingerprint() == read(folder).fingerprint() != read(folder, split_seed=1).fingerprint()


def test_train_without_test(tmp_path):
    files = {k: v for k, v in good_files(20).items() if k.startswith("train")}
    faces = read(make_zip(tmp_path/"x.zip", files))
    assert faces.report["cut"] == ["test", "val"] and "test, val" in describe(faces)
    assert faces.report["counts"] == {s: dict.fromkeys(CLASSES, n) for s, n in zip(SPLITS, (14, 2, 4))}


def test_sizes_colours_and_class_order(tmp_path):
    files = {f"{c}/{i}.png": png(pixels(10 * k + i, (20 + i, 30, 3)))
             for k, c in enumerate("abcdefghij") for i in range(6)}
    faces = read(make_zip(tmp_path/"x.zip", files), channels=3, size=16, classes=tuple("jca"))
    assert faces.classes == ("j", "c", "a")
    assert faces.images.shape == (18, 3, 16, 16) and faces.images.dtype == np.uint8
    for row in range(18):
        letter = faces.names[row][0]
        assert faces.classes[faces.labels[row]] == letter
    assert read(tmp_path/"x.zip").images.shape == (60, 1, 8, 8)


def test_limit_takes_from_training_only(tmp_path):
    path = make_zip(tmp_path/"x.zip", good_files(20))
    full, some = read(path), read(path, limit=5)
    assert some.report["counts"]["train"] == dict.fromkeys(CLASSES, 5)
    assert some.report["limited"] == dict.fromkeys(CLASSES, 13)
    for s in ("val", "test"): assert (full.hashes[full.split == s] == some.hashes[some.split == s]).all()
    assert set(some.hashes) < set(full.hashes)


# ---- leaks ---------------------------------------------------------------------------------------

def planted(tmp_path):
    "Two training copies of test images, one of a validation image, a conflict, a blank image, and a pair."
    files = good_files(20)
    for k, c in enumerate(CLASSES):
        for i in range(3): files[f"valid/{c}/{i}.png"] = png(pixels(50_000 + 10 * k + i))
    files["train/sad/leak1.png"] = files["test/sad/0.png"]
    files["train/happy/leak2.png"] = files["test/sad/1.png"]
    files["train/fear/leak3.png"] = files["valid/fear/2.png"]
    files["train/fear/conflict.png"] = files["train/happy/7.png"]
    files["train/sad/pair.png"] = files["train/sad/7.png"]
    files["train/fear/blank.png"] = png(np.full((16, 16), 77, np.uint8))
    return make_zip(tmp_path/"planted.zip", files)


def test_planted_leaks_are_found_and_dropped(tmp_path):
    faces = read(planted(tmp_path))
    r = faces.report
    assert r["duplicates"] == {"groups": 5, "images": 10, "across_splits": 3, "val_and_test": 0,
                               "conflicting": 2}
    assert r["dropped"] == {"fear": 1, "happy": 1, "sad": 1}
    assert r["counts"]["train"] == {"fear": 22, "happy": 20, "sad": 21}
    assert r["blank"] == 1 and r["blank_names"] == ["train/fear/blank.png"]
    assert not {n for n in faces.names if "leak" in n}
    assert not set(faces.hashes[faces.split == "train"]) & set(faces.hashes[faces.split != "train"])
    assert "3 groups; 3 images dropped" in describe(faces)


def test_leaks_are_kept_when_asked(tmp_path):
    faces = read(planted(tmp_path), drop_leaks=False)
    assert sum(faces.report["dropped"].values()) == 0 and sum("leak" in n for n in faces.names) == 3
    assert faces.report["duplicates"]["across_splits"] == 3


def photograph(seed):
    "A smooth random picture, as unlike the next one as two photographs."
    noise = np.random.default_rng(seed).normal(size=(48, 48))
    field = gaussian_filter(noise, 3)
    return ((field - field.min()) / np.ptp(field) * 200).astype(np.uint8)


def near_files():
    "Photographs in three official splits, and copies of some of them that are not exact."
    files = {}
    for split, first, n in (("train", 0, 20), ("val", 20, 4), ("test", 24, 4)):
        for k, c in enumerate(CLASSES):
            for i in range(first, first + n): files[f"{split}/{c}/{i}.png"] = png(photograph(100 * k + i))
    mirrored, brighter = photograph(24)[:, ::-1], photograph(125) + np.uint8(40)
    files["train/fear/mirrored.png"] = png(np.ascontiguousarray(mirrored))      # of test/fear/24.png
    files["val/happy/brighter.png"] = png(brighter)                             # of test/happy/25.png
    files["train/sad/again.jpg"] = jpeg(photograph(221))                        # of val/sad/21.png
    return files


def jpeg(array):
    f = io.BytesIO()
    Image.fromarray(array).save(f, "JPEG", quality=60)
    return f.getvalue()


def test_near_duplicates_never_straddle_splits(tmp_path):
    path = make_zip(tmp_path/"x.zip", near_files())
    exact, near = read(path), read(path, dedup="near")
    assert exact.report["near"] is None and sum(exact.report["dropped"].values()) == 0
    counts = {"groups": 3, "images": 6, "across_splits": 3, "val_and_test": 1, "conflicting": 0}
    assert near.report["near"] == counts
    assert near.report["dropped"] == {"fear": 1, "happy": 1, "sad": 1}
    left = set(exact.names) - set(near.names)
    assert left == {"train/fear/mirrored.png", "val/happy/brighter.png", "train/sad/again.jpg"}
    counted = read_images(DataConfig(source=str(path), size=8), count_near=True)
    assert counted.fingerprint() == exact.fingerprint() and counted.report["near"] == near.report["near"]
    assert "near-duplicates      3 groups, 6 images" in describe(counted)


def test_near_duplicates_stay_together_when_splits_are_cut(tmp_path):
    "Flattened to one split, in memory and on disk, at any size of the images."
    files = {"/".join(name.split("/")[1:]).replace("/", f"/{name.split('/')[0]}-"): data
             for name, data in near_files().items()}
    path = make_zip(tmp_path/"x.zip", files)
    tables = [read(path, dedup="near", size=size) for size in (8, 24)]
    split = [dict(zip(t.names, t.split)) for t in tables]
    assert split[0] == split[1] and tables[0].report["cut"] == ["test", "val"]
    assert split[0]["fear/train-mirrored.png"] == split[0]["fear/test-24.png"]
    assert split[0]["sad/train-again.jpg"] == split[0]["sad/val-21.png"]


tables = st.integers(2, 120).flatmap(lambda n: st.tuples(
    st.lists(st.integers(0, 60), min_size=n, max_size=n), st.lists(st.integers(0, 3), min_size=n, max_size=n),
    st.lists(st.sampled_from(["train", "train", "train", "val", "test"]), min_size=n, max_size=n)))


@settings(max_examples=150, deadline=None)
@given(tables, st.floats(0.01, 0.9), st.integers(0, 5))
def test_cut_keeps_groups_together_and_shares_bounded(table, share, seed):
    hashes, labels = np.array([f"{h:04x}" for h in table[0]]), np.array(table[1])
    aside = split_groups(labels, hashes, share, f"{seed}:val")
    assert not set(hashes[aside]) & set(hashes[~aside])
    for c in set(table[1]): assert aside[labels == c].sum() <= max(1, round(share * (labels == c).sum()))
    order = np.random.default_rng(seed).permutation(len(labels))
    assert (split_groups(labels[order], hashes[order], share, f"{seed}:val") == aside[order]).all()


@settings(max_examples=150, deadline=None)
@given(tables, st.integers(0, 3), st.integers(0, 3))
def test_no_table_leaks(table, seed, limit):
    hashes, labels, split = np.array([f"{h:04x}" for h in table[0]]), np.array(table[1]), np.array(table[2])
    new, cut = assign_splits(split, labels, hashes, DataConfig(split_seed=seed, limit=limit))
    train = set(hashes[new == "train"])
    assert not train & set(hashes[np.isin(new, ["val", "test"])])
    for s in {"val", "test"} - set(cut): assert ((new == s) == (split == s)).all()
    if limit: assert max(np.bincount(labels[new == "train"], minlength=1)) <= limit
    duplicates = find_duplicates(hashes, split, labels)
    by_hash = {h: [i for i, g in enumerate(table[0]) if g == h] for h in table[0]}
    groups = [g for g in by_hash.values() if len(g) > 1]
    assert duplicates["groups"] == len(groups) and duplicates["images"] == sum(map(len, groups))
    assert duplicates["across_splits"] == sum(len({table[2][i] for i in g}) > 1 for g in groups)
    assert duplicates["conflicting"] == sum(len({table[1][i] for i in g}) > 1 for g in groups)


# ---- anything at all -------------------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["zip", "csv"])
def test_flipped_bytes_give_a_table_or_a_sentence(tmp_path, kind):
    "Whatever happens to a file on its way, the answer is a table or a `UserError`, never another exception."
    path = tmp_path/f"x.{kind}"
    data = make_zip(path, good_files(3)).read_bytes() if kind == "zip" else make_csv(csv_rows())
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(250):
        spoilt = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)): spoilt[at] = rng.integers(256)
        path.write_bytes(spoilt[:rng.integers(1, len(data))] if rng.random() < 0.1 else spoilt)
        try:
            read(path)
            outcomes.append("table")
        except UserError: outcomes.append("sentence")
    assert set(outcomes) <= {"table", "sentence"} and "sentence" in outcomes


# ---- the real data -----------------------------------------------------------------------------------

@pytest.mark.skipif(not REAL.exists(), reason="the real FER2013 zip is not beside this repository")
def test_real_fer2013():
    found = read_source(REAL, 4)
    assert not found.strays and not found.left_out.counts and len(found.items) == 28709 + 3589
    faces = read_images(DataConfig(source=str(REAL)))
    r = faces.report
    names = "angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"
    assert faces.classes == names and faces.images.shape[1:] == (1, 32, 32)
    assert r["found"] == {"train": dict(zip(names, (3995, 436, 4097, 7215, 4965, 4830, 3171))),
                          "test": dict(zip(names, (467, 56, 496, 895, 607, 653, 415)))}
    assert r["counts"]["test"] == r["found"]["test"] and r["skipped"] == 0
    for c in names:
        assert r["counts"]["train"][c] + r["counts"]["val"][c] + r["dropped"][c] == r["found"]["train"][c]
        assert abs(r["counts"]["val"][c] - (r["found"]["train"][c] - r["dropped"][c]) / 10) <= 1
    assert r["duplicates"] == {"groups": 1240, "images": 2731, "across_splits": 241, "val_and_test": 0,
                               "conflicting": 41}
    assert r["blank"] == 12 and sum(r["dropped"].values()) == 315
    assert not set(faces.hashes[faces.split == "train"]) & set(faces.hashes[faces.split != "train"])
    assert max(map(len, describe(faces).splitlines())) <= 100
