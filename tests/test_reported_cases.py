"""Data as people really have it: inputs like those of public reports, each with the right result.

The repository of each report is named beside its input. The original inputs lie beside this repository
and are read too, where they are there; the small ones made here need nothing.
"""
import importlib
import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_synth import cli
from fer_synth.config import DataConfig, UserError, read_json
from fer_synth.data.images import describe
from fer_synth.data.load import read_images
from fer_synth.data.pixels import decode

CASES = Path(__file__).parents[2]/"shared"/"cases"/"inputs.tar.xz"
CLASSES = "angry", "fear", "happy"
COUNTS = {"train": 6, "val": 2, "test": 3}


def picture(seed, size=16):
    "An image with one bright corner, different for each seed."
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 200, (size, size)).astype(np.uint8)
    pixels[:3, :3] = 255
    return pixels


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def pictures(classes=CLASSES, counts=COUNTS, make=encoded, seed=0):
    "(split, class, number, bytes) of every image of a set."
    for split, n in counts.items():
        for name in classes:
            for i in range(n):
                yield split, name, i, make(picture(seed))
                seed += 1


def write(folder, files):
    for name, data in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(data)
    return folder


def tree(folder, pattern, names=None, ending="png", **options):
    "A folder whose files are called by a pattern such as '{split}/{label}/{i}.png'; `names`: of the splits."
    files = {pattern.format(split=(names or {}).get(s, s), label=c, i=i) + f"/{i}.{ending}": data
             for s, c, i, data in pictures(**options)}
    return write(folder, files)


def read(source, **settings):
    return read_images(DataConfig(source=str(source), **{"size": 16, **settings}))


def found(source, **settings):
    "Images of one class in each split of the source; all classes must have as many."
    report = read(source, **settings).report
    counts = {split: set(n.values()) for split, n in report["found"].items()}
    assert all(len(n) == 1 for n in counts.values()), report["found"]
    return {split: n.pop() for split, n in counts.items()}


def sentence(source, **settings):
    "The one sentence that reading a source ends in."
    with pytest.raises(UserError) as e: read(source, **settings)
    text = str(e.value)
    assert "\n" not in text and text.endswith((".", "'?"))
    return text


# ---- layouts: birdwcp/QCS#1, microsoft/FERPlus#5, Real-Time-Face-Expression-Recognition#2, DFMGAN#22 -------

SPLIT_NAMES = [
    ("FER2013Train", "FER2013Valid", "FER2013Test"),
    ("Training", "PublicTest", "PrivateTest"),
    ("TRAIN", "Validation", "TESTING"),
    ("train_images", "val_images", "test_images"),
    ("seg_train", "seg_dev", "seg_test"),
    ("trainingSet", "validationSet", "testSet"),
    ("train2017", "val2017", "test2017"),
    ("01-train", "02-valid", "03-test"),
    ("faces.training", "faces.validation", "faces.testing"),
    ("ferTrain", "ferEval", "ferTest"),
    ("entrenamiento", "validación", "prueba"),
    ("训练集", "验证集", "测试集"),
    ("training", "validation", "evaluation"),
    ("fertrain", "ferval", "fertest"),
    ("train data", "dev data", "test data")]


@pytest.mark.parametrize("names", SPLIT_NAMES, ids=lambda names: names[0])
def test_splits_are_recognised_in_any_spelling(tmp_path, names):
    names = dict(zip(COUNTS, names))
    assert found(tree(tmp_path/"first", "{split}/{label}", names)) == COUNTS
    layout = read(tmp_path/"first").report["layout"]
    assert all(f"{name}/<class>/ is {split}" in layout for split, name in names.items())
    if names["train"] != "fertrain": assert found(tree(tmp_path/"last", "{label}/{split}", names)) == COUNTS


@pytest.mark.parametrize("pattern", [
    "{split}/{split}/{label}",
    "{split}/images/{label}",
    "data/{split}/{label}",
    "images/images/{split}/{label}",
    "train-test-faces/{split}/{label}"])
def test_doubled_and_wrapping_folders_come_off(tmp_path, pattern):
    assert found(tree(tmp_path/"x", pattern)) == COUNTS


def test_a_tree_that_is_there_twice_counts_once(tmp_path):
    tree(tmp_path/"x"/"images", "{split}/{label}")
    tree(tmp_path/"x"/"images"/"images", "{split}/{label}")
    assert found(tmp_path/"x") == COUNTS
    report = read(tmp_path/"x").report
    assert report["left_out"]["repeats of other files"]["endings"] == {".png": 33}
    assert report["duplicates"]["groups"] == 0
    (tmp_path/"x"/"images"/"images"/"train"/"angry"/"0.png").write_bytes(encoded(picture(999)))
    assert "twice" in sentence(tmp_path/"x")
    (tmp_path/"x"/"images"/"images"/"train"/"angry"/"0.png").rename(
        tmp_path/"x"/"images"/"images"/"train"/"angry"/"other.png")
    assert "twice" in sentence(tmp_path/"x")


UNCLEAR = [
    ("{split}", "no class folders"),
    ("faces", "only the class 'faces'"),
    ("subject{i}/{label}", "either could be the classes"),
    ("{split}/subject{i}/{label}", "either could be the classes"),
    ("{label}/{split}/good", "no layout that can be read"),
    ("fold{i}/{label}", "either could be the classes"),
    ("{split}_{label}", "each name the train split"),
    ("{split}/images", "parts of a data set"),
    ("{label}/images", "either could be the classes")]


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("pattern, part", UNCLEAR)
def test_what_fits_two_layouts_or_none_stops(tmp_path, pattern, part, skip_bad):
    text = sentence(tree(tmp_path/"x", pattern), skip_bad=skip_bad)
    assert part in text and "skip" not in text


@pytest.mark.parametrize("extra, part", [
    ("bottle/ground_truth/crack/1.png", "no layout that can be read"),
    ("train_augmented/angry/1.png", "each name the train"),
    ("test/9.png/x/1.png", "class")])
def test_masks_and_second_training_folders_stop(tmp_path, extra, part):
    if extra.startswith("bottle"):
        files = {f"{k}/{s}/{c}/{i}.png": encoded(picture(i)) for k in ("bottle", "hazelnut")
                 for s, c in (("train", "good"), ("test", "good"), ("test", "crack")) for i in range(3)}
        write(tmp_path/"x", files)
    else: tree(tmp_path/"x", "{split}/{label}")
    write(tmp_path/"x", {extra: encoded(picture(5))})
    assert part in sentence(tmp_path/"x")


def test_a_class_may_be_called_train(tmp_path):
    classes = "bus", "car", "train"
    files = {f"{c}/{i}.png": encoded(picture(20 * k + i)) for k, c in enumerate(classes) for i in range(20)}
    assert read(write(tmp_path/"x", files)).classes == classes


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_unlabelled_split_stops_even_with_skip_bad(tmp_path, split):
    "fastai/fastai#2336: names like angry.5.jpg in one folder, or a test folder without classes."
    tree(tmp_path/"x", "{split}/{label}")
    folder = tmp_path/"x"/split
    for file in list(folder.rglob("*.png")): file.rename(folder/f"{file.parent.name}.{file.name}")
    for name in CLASSES: (folder/name).rmdir()
    part = f"'{split}' holds images but no class folders"
    for skip_bad in (False, True): assert part in sentence(tmp_path/"x", skip_bad=skip_bad)


# ---- pictures: PokeGAN#3, sd-scripts#1269, DIGITS#85, Pillow#274, thunder#58, Pillow#8348, fer#45 ----------

def rgba(pixels):
    "A face on a transparent background whose hidden colour is black."
    alpha = np.where(np.hypot(*np.mgrid[-1:1:16j, -1:1:16j]) < 0.9, 255, 0).astype(np.uint8)
    return encoded(np.dstack([pixels * (alpha > 0)] * 3 + [alpha]))


def palette(pixels):
    "The same as a palette image, in which one colour is transparent."
    shown = np.hypot(*np.mgrid[-1:1:16j, -1:1:16j]) < 0.9
    image = Image.fromarray(np.where(shown, np.maximum(pixels, 1), 0).astype(np.uint8)).convert("P")
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return file.getvalue()


@pytest.mark.parametrize("make", [rgba, palette])
@pytest.mark.parametrize("background, level", [("white", 255), ("#000", 0), ("grey", 128)])
def test_transparent_pictures_are_laid_on_the_background(tmp_path, make, background, level):
    faces = read(tree(tmp_path/"x", "{split}/{label}", make=make), background=background)
    assert (faces.images[:, 0, 0, 0] == level).all()
    assert faces.report["pixels"]["transparent"] == 33 and "transparent images   33" in describe(faces)


def test_an_unknown_background_is_refused(tmp_path):
    assert "data.background is 'whit'" in sentence(tree(tmp_path/"x", "{split}/{label}"), background="whit")


DEEP = {"8 in 16 bits": (lambda p: encoded(p.astype(np.uint16)), "8 bits", "png"),
        "12 in 16 bits": (lambda p: encoded((p / 255 * 4095).round().astype(np.uint16)), "12 bits", "png"),
        "14 in 16 bits": (lambda p: encoded((p / 255 * 16383).round().astype(np.uint16)), "14 bits", "png"),
        "16 bits": (lambda p: encoded(p.astype(np.uint16) * 257), "16 bits", "png"),
        "fractions": (lambda p: encoded((p / 255).astype(np.float32), "TIFF"), "fractions", "tif"),
        "0 to 255 as float": (lambda p: encoded(p.astype(np.float32), "TIFF"), "8 bits", "tif"),
        "32 bits": (lambda p: encoded(p.astype(np.int32) * 257, "TIFF"), "16 bits", "tif")}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_are_scaled_by_what_the_set_uses(tmp_path, kind):
    make, text, ending = DEEP[kind]
    deep = read(tree(tmp_path/"deep", "{split}/{label}", make=make, ending=ending))
    plain = read(tree(tmp_path/"plain", "{split}/{label}"))
    assert abs(np.sort(deep.images.ravel()).astype(int) - np.sort(plain.images.ravel())).max() <= 1
    assert text in deep.report["pixels"]["range"] and "more than 8 bits     33" in describe(deep)


def test_one_scale_serves_the_whole_set(tmp_path):
    "8-bit images stay as they are beside 12-bit ones, and a dark 12-bit image stays dark."
    tree(tmp_path/"x", "{split}/{label}")
    dark = (picture(1) / 255 * 400).astype(np.uint16)
    bright = (picture(2) / 255 * 4095).astype(np.uint16)
    write(tmp_path/"x", {"train/angry/0.png": encoded(dark), "train/angry/1.png": encoded(bright)})
    faces = read(tmp_path/"x")
    level = {name: x.max() for name, x in zip(faces.names, faces.images)}
    assert level["train/angry/0.png"] == round(400 / 4095 * 255)
    assert level["train/angry/1.png"] == level["train/angry/2.png"] == 255


@pytest.mark.parametrize("values, part", [
    ((-1, 1), "negative"),
    ((0, 16.5), "which value is white"),
    ((0, 1e6), "more than 16 bits")])
def test_a_range_that_says_nothing_stops(tmp_path, values, part):
    low, high = values
    def make(pixels): return encoded((low + pixels / 255 * (high - low)).astype(np.float32), "TIFF")
    assert part in sentence(tree(tmp_path/"x", "{split}/{label}", make=make, ending="tif"))


def test_colour_images_of_12_bits_stop(tmp_path):
    "Pillow keeps the upper 8 of 16 bits of a colour image, so 12 bits would be black."
    import struct, zlib
    def make(pixels):
        values = np.dstack([pixels / 255 * 4095] * 3).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        def chunk(kind, data):
            length, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
            return length + kind + data + check
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert "nearly black" in sentence(tree(tmp_path/"x", "{split}/{label}", make=make), channels=3)


@pytest.mark.parametrize("ending", ["jfif", "JPE", "jpg_large", "apng", "0001"])
def test_other_endings_are_read(tmp_path, ending):
    make = encoded if ending == "apng" else lambda pixels: encoded(pixels, "JPEG")
    assert found(tree(tmp_path/"x", "{split}/{label}", ending=ending, make=make)) == COUNTS


def test_pictures_of_a_kind_that_is_not_read_do_not_vanish(tmp_path):
    tree(tmp_path/"x", "{split}/{label}")
    for i in range(3): write(tmp_path/"x", {f"train/sad/{i}.heic": b"\0\0\0\x18ftypheic"})
    text = sentence(tmp_path/"x")
    assert "train/sad/0.heic" in text and "convert them" in text and "skip" not in text
    report = read(tmp_path/"x", skip_bad=True).report
    assert report["left_out"]["pictures of a kind that is not read"]["endings"] == {".heic": 3}


def test_what_is_left_out_is_counted_by_reason_and_ending(tmp_path):
    tree(tmp_path/"x", "{split}/{label}")
    write(tmp_path/"x", {"readme.md": b"",
                         "notes.TXT": b"",
                         "train/happy/Thumbs.db": b"",
                         "train/sad/1.xyz": b"?",
                         "train/happy/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg": b"",
                         "lost+found/#1.jpg": b"",
                         "$RECYCLE.BIN/x.jpg": b"",
                         ".Trash-1000/files/x.jpg": b"",
                         "labels.csv": b"name,label\n"})
    faces = read(tmp_path/"x")
    left_out = {reason: facts["endings"] for reason, facts in faces.report["left_out"].items()}
    assert left_out == {"hidden or of the system": {"no ending": 3, ".bin": 1, ".db": 1},
                        "tables": {".csv": 1},
                        "no pictures": {".md": 1, ".txt": 1, ".xyz": 1}}
    notes = " ".join(faces.report["notes"])
    assert "'train/sad'" in notes and "labels.csv was not read" in notes and "train/sad" in describe(faces)


def test_damaged_metadata_turn_nothing_and_say_nothing(tmp_path, capfd):
    "Exif that ends too early, as lxztju/pytorch_classification#23 has it."
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"
    def make(pixels): return encoded(pixels, "JPEG", quality=95, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(tree(tmp_path/"x", "{split}/{label}", make=make, ending="jpg")) == COUNTS
    assert capfd.readouterr() == ("", "")


# ---- tables: facial-expression-classifier-app, emotions-detector, microsoft/FERPlus#17 ---------------------

def rows(counts=COUNTS, codes=(0, 2, 3), usages=None):
    "Lines of a table in FER2013's form, by split."
    lines, seed = {}, 0
    for split, n in counts.items():
        for code in codes:
            for _ in range(n):
                cells = [str(code), " ".join(map(str, picture(seed).ravel()))]
                if usages: cells.append(usages[split])
                lines.setdefault(split, []).append(",".join(cells))
                seed += 1
    return lines


def table(lines, head="emotion,pixels"):
    return "\n".join([head, *lines]).encode()


USAGES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}


def whole_table(**options):
    lines = rows(usages=USAGES, **options)
    return table(sum(lines.values(), []), "emotion,pixels,Usage")


@pytest.mark.parametrize("names", [
    ("train", "val", "test"),
    ("train", "validation", "test_with_emotions"),
    ("fer_train", "fer_dev", "fer_test"),
    ("data/train", "data/val", "data/test")])
def test_tables_are_read_together(tmp_path, names):
    lines = rows()
    write(tmp_path/"x", {f"{name}.csv": table(lines[split]) for split, name in zip(COUNTS, names)})
    assert found(tmp_path/"x") == COUNTS


def test_a_table_that_is_not_read_is_named(tmp_path):
    lines = rows()
    write(tmp_path/"x", {"train.csv": table(lines["train"]),
                         "test_with_emotions.csv": table(lines["test"]),
                         "test.csv": b"pixels\n1 2 3 4\n",
                         "example_submission.csv": b"id,emotion\n1,2\n"})
    faces = read(tmp_path/"x")
    assert faces.report["found"].keys() == {"train", "test"}
    notes = " ".join(faces.report["notes"])
    assert "test.csv was not read: it has no column emotion" in notes
    assert "example_submission.csv was not read" in notes


def test_two_tables_for_one_split_stop(tmp_path):
    lines = rows()
    write(tmp_path/"x", {"train.csv": table(lines["train"]),
                         "test.csv": table(lines["test"]),
                         "test_new.csv": table(lines["val"])})
    assert "each name the test split" in sentence(tmp_path/"x")
    write(tmp_path/"y", {"a.csv": table(lines["train"]), "b.csv": table(lines["test"])})
    assert "not clear which split" in sentence(tmp_path/"y")


def test_a_table_goes_before_the_plots_of_a_readme(tmp_path):
    plots = {f"{folder}/0.png": encoded(picture(900)) for folder in ("media", "results")}
    write(tmp_path/"x", {"data/fer2013.csv": whole_table(), "preview.png": encoded(picture(7)), **plots})
    assert found(tmp_path/"x") == COUNTS
    assert read(tmp_path/"x").report["left_out"]["pictures beside a table"]["endings"] == {".png": 3}
    tree(tmp_path/"x", "{split}/{label}")
    assert "give the path of the one that is meant" in sentence(tmp_path/"x")


def test_code_7_is_contempt_and_unwanted_codes_do_not_stop(tmp_path):
    write(tmp_path/"x", {"ck.csv": whole_table(codes=(0, 3, 7))})
    assert read(tmp_path/"x").classes == ("angry", "contempt", "happy")
    write(tmp_path/"y", {"own.csv": whole_table(codes=(0, 3, 9))})
    assert "emotion '9'" in sentence(tmp_path/"y")
    faces = read(tmp_path/"y", classes=("angry", "happy"))
    assert faces.classes == ("angry", "happy") and "'emotion 9'" in " ".join(faces.report["notes"])


def test_votes_of_ferplus_are_named_as_not_read(tmp_path):
    votes = (b"Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
             b"Training,,9,0,0,0,0,0,0,0,0,1\n")
    write(tmp_path/"x", {"fer2013.csv": whole_table(), "fer2013new.csv": votes})
    assert found(tmp_path/"x") == COUNTS and "FER+" in " ".join(read(tmp_path/"x").report["notes"])
    write(tmp_path/"y", {"fer2013new.csv": votes})
    assert "FER+" in sentence(tmp_path/"y")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "utf-8"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_a_spreadsheet(tmp_path, encoding, separator):
    text = whole_table().decode().replace(",", separator).replace("\n", "\r\n")
    names = dict(zip("023", ("wütend", "ängstlich", "fröhlich")))
    text = "".join(names[line[0]] + line[1:] if line[0] in names else line for line in text.splitlines(True))
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    write(tmp_path/"x", {"fer.csv": mark + text.encode(encoding)})
    faces = read(tmp_path/"x")
    assert set(faces.classes) == {"wütend", "ängstlich", "fröhlich"}
    if separator == ";": assert "semicolons" in faces.report["layout"]


def test_cells_of_any_length(tmp_path):
    "A picture of 300x300 takes 320,000 characters, more than Python's csv reads by default."
    pixels = " ".join(["128"] * 299 + ["7"]) + " " + " ".join(["90"] * (300 ** 2 - 300))
    lines = [f"{code},{pixels} ,{usage}" for usage in USAGES.values() for code in (0, 3) for _ in range(2)]
    write(tmp_path/"x", {"large.csv": table(lines, "emotion,pixels,Usage")})
    assert read(tmp_path/"x", drop_leaks=False).images.shape == (12, 1, 16, 16)


def test_archives_under_a_wrong_name(tmp_path):
    import gzip, zipfile
    with zipfile.ZipFile(tmp_path/"fer2013.csv", "w") as z: z.writestr("fer2013.csv", whole_table())
    (tmp_path/"fer.zip").write_bytes(gzip.compress(whole_table()))
    with tarfile.open(tmp_path/"fer2013.tar.gz", "w:gz") as t:
        info = tarfile.TarInfo("fer2013/fer2013.csv")
        info.size = len(whole_table())
        t.addfile(info, io.BytesIO(whole_table()))
    prints = {read(tmp_path/name).fingerprint() for name in ("fer2013.csv", "fer.zip", "fer2013.tar.gz")}
    assert len(prints) == 1 and found(tmp_path/"fer2013.csv") == COUNTS


@pytest.mark.parametrize("module", ["gzip", "bz2", "lzma"])
def test_a_table_that_is_cut_short_while_packed(tmp_path, module):
    packed = importlib.import_module(module).compress(whole_table())
    (tmp_path/"fer2013.csv.packed").write_bytes(packed[:-len(packed) // 3])
    assert sentence(tmp_path/"fer2013.csv.packed")


# ---- names of classes: paperbanana#240, renpy#2327, DIGITS#1017 --------------------------------------------

def test_one_form_for_names_that_systems_spell_in_two_ways(tmp_path):
    mac, linux = ("wu\u0308tend", "glu\u0308cklich"), ("wütend", "glücklich")
    tree(tmp_path/"x", "{split}/{label}", classes=mac, counts={"train": 6})
    tree(tmp_path/"x", "{split}/{label}", classes=linux, counts={"val": 2, "test": 3}, seed=50)
    assert found(tmp_path/"x") == COUNTS
    for spelled in (linux[0], mac[0]):
        faces = read(tmp_path/"x", classes=("glücklich", spelled))
        assert faces.classes == ("glücklich", "wütend")


def test_names_that_differ_in_case_only(tmp_path):
    tree(tmp_path/"x", "{split}/{label}", classes=("Angry", "Happy"), counts={"train": 6})
    tree(tmp_path/"x", "{split}/{label}", classes=("angry", "happy"), counts={"val": 2, "test": 3})
    assert "'Angry' and 'angry' differ only in case" in sentence(tmp_path/"x")


@pytest.mark.parametrize("names", [
    (b"w\xfctend", b"b\xf6se"),
    ("害怕".encode(), "生气".encode()),
    (b"a\x1b", b"a\x1c")])
def test_names_of_other_systems_do_not_merge_classes(tmp_path, names):
    for k, name in enumerate(names):
        folder = Path((bytes(tmp_path) + b"/x/" + name).decode(errors="surrogateescape"))
        try: folder.mkdir(parents=True)
        except OSError: pytest.skip("this file system has no such names")
        for i in range(20): (folder/f"{i}.png").write_bytes(encoded(picture(50 * k + i)))
    faces = read(tmp_path/"x")
    assert len(faces.classes) == 2 and all(name.isprintable() for name in faces.classes)


# ---- the inputs themselves, where they are -----------------------------------------------------------------

RIGHT = {
    "c01_ferplus_folders": (24, 6, 8),
    "c01b_ferplus_flat": "no class folders",
    "c02_usage_folders": (24, 6, 8),
    "c03c_doubled": (24, 0, 8),
    "c03e_images_twice": (24, 6, 0),
    "c04b_mvtec": "no layout",
    "c04_class_first": (24, 6, 8),
    "s01_cutout_rgba": (24, 6, 8),
    "s01b_cutout_palette": (24, 6, 8),
    "s02_12bit": (24, 6, 8),
    "s02b_float01": (24, 6, 8),
    "s02c_8in16": (24, 6, 8),
    "s02e_mixed": (24, 6, 8),
    "s03_corrupt_exif": (24, 6, 8),
    "c06_jfif": (24, 6, 8),
    "c06b_jfif_class": (24, 6, 8),
    "t02d_train_test_labelled": (24, 0, 14),
    "t02e_train_test_both": (24, 0, 14),
    "t02f_train_val_test": (24, 6, 8),
    "t08_csv_and_picture": (24, 6, 8),
    "t08b_repo": (24, 6, 8),
    "t08c_repo_two": (24, 0, 14),
    "t04_ferplus_csv": "FER+",
    "t04b_both": (24, 6, 8),
    "c09_nfd": (24, 6, 8),
    "c09b_nfd_all": (24, 6, 8),
    "c10_cjk": (24, 6, 8),
    "c08_case": "differ only in case",
    "c15_flat_names": "no class folders",
    "c16_unlabelled_test": "no class folders",
    "c20_plantvillage": (10, 3, 4)}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    if not CASES.exists(): pytest.skip("the original inputs are not beside this repository")
    folder = tmp_path_factory.mktemp("cases")
    with tarfile.open(CASES) as t: t.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", RIGHT)
def test_the_original_input(cases, name):
    right = RIGHT[name]
    if isinstance(right, str): assert right in sentence(cases/name)
    else: assert found(cases/name) == {split: n for split, n in zip(COUNTS, right) if n}


def test_the_original_table_with_code_7(cases):
    assert read(cases/"t05_ck").report["found"]["train"]["contempt"] == 1


def test_the_original_pictures(cases):
    """Each decodes to its right values, within 4 grey levels.

    A palette's own rounding is allowed in 1 % of pixels.
    """
    truth = np.load(cases/"px"/"truth.npz")
    wrong = {}
    for name in truth:
        data = (cases/"px"/name).read_bytes()
        if name in ("empty.jpg", "html.jpg", "truncated.jpg"):
            with pytest.raises(OSError): decode(data)
            continue
        error = abs(decode(data).astype(int) - truth[name])
        allowed = 0.01 if "palette" in name or "gif" in name else 0
        if (error > 4).mean() > allowed: wrong[name] = error.max()
    assert not wrong and len(truth) == 50


def test_a_config_from_notepad(cases):
    "A byte order mark before JSON. (Its settings of the GAN are those of an older version.)"
    assert read_json(cases/"config_bom.json", "")["recipe"] == "tiny_wgan_gp"


def test_the_facts_of_an_original_input(cases, capsys):
    cli.main(["data", "--data.source", str(cases/"c06_jfif"), "--data.size", "16"])
    assert "train/<class>/ is train" in capsys.readouterr().out
