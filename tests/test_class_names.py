"Class names of any script, length and spelling: in pictures, pages, widgets, terminals and file names."
import logging
import random
import unicodedata
import warnings
from html.parser import HTMLParser
from pathlib import Path

import ipywidgets
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from records import make_records

from fer_synth import figures, fonts, plots
from fer_synth.class_names import (bytes_of, columns, file_names, html_name, html_text, letters, pad,
                                   short_names, visible)
from fer_synth.experiment.results import write_images
from fer_synth.report import page
from fer_synth.report_pictures import PICTURES, embedded_pictures
from fer_synth.run_records import read_records
from fer_synth.steps import Paces, Plan, Step, plan_text
from fer_synth.widgets.browser import ImageBrowser
from fer_synth.widgets.confusion import ConfusionExplorer
from fer_synth.widgets.kit import Candidates, font
from fer_synth.widgets.monitor import TrainingMonitor, image_sheet
from fer_synth.widgets.tuner import ThresholdTuner
from fer_synth.words import Table, confusion_text

LEAVES = ("Corn_(maize)___Cercospora_leaf_spot Gray_leaf_spot", "Pepper,_bell___Bacterial_spot",
          "Potato___Early_blight", "Potato___Late_blight", "Tomato___Spider_mites Two-spotted_spider_mite",
          "Tomato___Tomato_Yellow_Leaf_Curl_Virus", "Tomato___Tomato_mosaic_virus", "Tomato___healthy")
ODD = ("<script>&*|`", "$x_1^2$ \\frac{", "سعيد جدا", "害怕", "a\nb\x1b[31m", 30 * "very " + "long")

any_name = st.text(st.characters(exclude_categories=()), min_size=1, max_size=40)
alike_names = st.text("ab_ …é\u0301害", min_size=1, max_size=30)
some_names = st.lists(st.one_of(any_name, alike_names), min_size=1, max_size=8, unique=True)
quickly = settings(max_examples=150, deadline=None)


@pytest.fixture
def no_fonts(monkeypatch): monkeypatch.setattr(fonts, "installed_fonts", lambda: ())


@pytest.fixture
def strict(caplog):
    "Every warning is an error, and whoever draws says nothing on the log."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with caplog.at_level(logging.WARNING): yield
    assert not caplog.records


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("names") / "odd", ODD, source="odd.zip", made=20)


@pytest.fixture(scope="module")
def leaf_run(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("names") / "leaves", LEAVES, source="leaves.zip", made=20)


# ---- short names -----------------------------------------------------------------------------------

@quickly
@given(some_names, st.integers(8, 40))
def test_short_names_fit_stay_apart_and_hide_nothing(names, most):
    short = short_names(names, most)
    assert list(short) == names
    assert all(len(text) <= most and columns(text) <= most for text in short.values())
    assert len({unicodedata.normalize("NFC", text) for text in short.values()}) == len(names)
    assert all(visible(text) == text and text.strip() for text in short.values())


def test_a_name_that_fits_is_left_alone():
    assert list(short_names(LEAVES, 60).values()) == list(LEAVES)


@pytest.mark.parametrize("most", [10, 14, 18, 24])
def test_leaves_with_a_common_beginning_keep_what_tells_them_apart(most):
    short = short_names(LEAVES, most)
    assert len(set(short.values())) == len(LEAVES)
    assert short["Tomato___healthy"].endswith("healthy")
    assert short["Tomato___Tomato_mosaic_virus"].endswith("virus")


def test_names_that_differ_only_far_inside_are_numbered():
    names = [80 * "a" + c + 80 * "a" for c in "xyz"]
    assert list(short_names(names, 9).values())[0] != list(short_names(names, 9).values())[2]


def test_a_thousand_long_names_are_shortened_fast_enough_and_differ():
    rng = random.Random(0)
    names = ["species " + "".join(rng.choices("abcdef _", k=200)) for _ in range(1000)]
    assert len(set(short_names(names, 12).values())) == 1000


def test_a_cut_does_not_part_what_belongs_together():
    family = "👨\u200d👩\u200d👧"
    text = short_names([family + 20 * "e\u0301"], 14)[family + 20 * "e\u0301"]
    assert text.startswith(family) and letters(text.split("…")[1])[0] == "e\u0301"


# ---- HTML ------------------------------------------------------------------------------------------

class Seen(HTMLParser):
    "The tags, attributes and text of a piece of HTML."

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], {}, ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data): self.text += data


@quickly
@given(any_name)
def test_html_shows_exactly_the_name(name):
    seen = Seen(f"<p>{html_text(name)}</p>")
    assert set(seen.tags) <= {"p", "bdi"} and seen.text == visible(name)
    tip = Seen(html_name(name, "short…"))
    assert tip.attributes.get("title", "short…") == visible(name) or name == "short…"


def test_words_from_right_to_left_are_set_apart():
    assert html_text("recall سعيد جدا, %") == "recall <bdi>سعيد جدا</bdi>, %"
    assert fonts.set_apart("سعيد: 3") == "\u200eسعيد\u200e: 3"


def test_the_page_escapes_and_shortens_and_tells_the_whole_name(odd_run, no_fonts):
    text = page(read_records(odd_run), set())
    assert "<script" not in text and "&lt;script&gt;&amp;*|`" in text
    assert "<bdi>سعيد جدا</bdi>" in text and r"a\nb\x1b[31m" in text and "\x1b" not in text
    assert f'title="{30 * "very "}long"' in text


# ---- pictures --------------------------------------------------------------------------------------

def texts_of(fig): return [t.get_text() for t in fig.findobj(Text) if t.get_visible()]


@settings(max_examples=25, deadline=None)
@given(some_names)
def test_pictures_of_any_names_are_drawn_without_a_warning(names):
    shown = list(fonts.labels(names, 14).values())
    assert len(set(shown)) == len(names)
    sheet = np.full((60, 200, 3), 255, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figures.png(figures.pixel_figure(sheet, [(5, 30, text, {}) for text in shown]), 50)
        assert image_sheet([(name, np.zeros((4, 4), np.uint8)) for name in names]).shape == (346, 640, 3)


@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
@pytest.mark.parametrize("name", [name for name, picture in PICTURES.items() if picture.named])
def test_every_picture_draws_odd_names(odd_run, no_fonts, strict, name, width):
    r = read_records(odd_run)
    if not PICTURES[name].needs(r): return
    fig = PICTURES[name].draw(r, width)
    figures.png(fig, 40)
    whole = " ".join(texts_of(fig))
    assert "class 4" in whole and "害" not in whole and "\n b" not in whole
    assert not any(t.get_parse_math() for t in fig.findobj(Text) if "$" in t.get_text())


def test_the_key_stands_beside_each_picture_with_names(odd_run, no_fonts, tmp_path):
    r, files = read_records(odd_run), set()
    for name in PICTURES:
        path = tmp_path / f"{name}.png"
        path.write_bytes(figures.png(figures.pixel_figure(np.zeros((40, 40, 3), np.uint8))))
        files.add(path)
    found = embedded_pictures(r, files)
    for name, picture in PICTURES.items(): assert ("class 4: 害怕" in found[name]["key"]) == picture.named
    assert page(r, files).count("In the picture, class 4: 害怕.") == sum(p.named for p in PICTURES.values())


@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
def test_leaves_differ_in_every_picture(leaf_run, width):
    r = read_records(leaf_run)
    recall = plots.recall_by_class(r.metrics, width).axes[0]
    assert len({t.get_text() for t in recall.get_yticklabels()}) == len(LEAVES)
    curves = plots.threshold_curves(r.metrics["threshold_curve"], {}, width)
    titles = [ax.get_title("left") for ax in curves.axes]
    assert len(set(titles)) == len(LEAVES)
    matrix = plots.confusion_pair(r.metrics, "real", width=width).axes[0]
    for ticks in (matrix.get_xticklabels(), matrix.get_yticklabels()):
        assert len({t.get_text() for t in ticks}) == len(LEAVES)


def lent_font():
    "A font that comes with matplotlib, and a character that it has and DejaVu Sans lacks."
    path = str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf")
    lent = fonts.characters_of_family("STIXGeneral", path) - fonts.known_characters()
    return path, min(chr(c) for c in lent if chr(c).isalpha())


def test_a_name_that_an_installed_font_has_is_drawn_in_it(monkeypatch, strict):
    path, letter = lent_font()
    name = f"class of {letter}"
    monkeypatch.setattr(fonts, "installed_fonts", lambda: ())
    assert fonts.labels(["a", name]) == {"a": "a", name: "class 2"}
    monkeypatch.setattr(fonts, "installed_fonts", lambda: (("STIXGeneral", path),))
    assert fonts.labels(["a", name])[name] == name and fonts.key_text(["a", name]) == ""
    assert fonts.families(name) == ["DejaVu Sans", "STIXGeneral"] and fonts.families("a") == ["DejaVu Sans"]
    sheet = np.full((60, 300, 3), 255, np.uint8)
    other = figures.png(figures.pixel_figure(sheet, [(5, 30, "class of ?", {"weight": "bold"})]))
    assert figures.png(figures.pixel_figure(sheet, [(5, 30, name, {"weight": "bold"})])) != other
    assert font(12).pieces(name) == [(fonts.REGULAR, "class of "), (path, letter)]


def test_chinese_is_drawn_where_a_font_has_it():
    if not fonts.can_draw("害怕"): pytest.skip("no font with Chinese characters on this machine")
    assert fonts.labels(["害怕"]) == {"害怕": "害怕"} and len(fonts.families("害怕")) > 1


def test_scripts_that_need_shaping_are_numbered_where_nobody_shapes(monkeypatch):
    monkeypatch.setattr(fonts, "SHAPES", False)
    assert fonts.labels(["happy", "سعيد", "Ёлка"]) == {"happy": "happy", "سعيد": "class 2", "Ёлка": "Ёлка"}


def test_the_number_of_a_class_is_never_the_name_of_another(no_fonts):
    shown = fonts.labels(["class 2", "害怕", "class #2"])
    assert len(set(shown.values())) == 3 and shown["害怕"] not in ("class 2", "class #2")


# ---- widgets ---------------------------------------------------------------------------------------

def html_of(view):
    "All HTML that a widget has on the page."
    own = [view.value] if isinstance(view, ipywidgets.HTML) else []
    return own + [part for child in getattr(view, "children", ()) for part in html_of(child)]


def check_widget(widget, drawn: bool):
    still = widget.still().data
    for part in (*html_of(widget.view), still):
        assert "<script" not in part and "\x1b" not in part
    assert widget.last_error is None and "class 4: 害怕" in still
    if drawn: assert "class 4: 害怕" in widget.legend.value


def test_the_image_browser_takes_odd_names(odd_run, no_fonts, strict):
    browser = ImageBrowser(odd_run, threaded=False)
    check_widget(browser, drawn=False)
    browser.filters.label.value = ODD[4]
    assert browser.state.filters.label == ODD[4]
    assert all(r"a\nb" in cell.pick.description for cell in browser.cells[:3])
    browser.maker.label.value = browser.card.label.value = ODD[1]
    assert browser.last_error is None


def test_the_threshold_tuner_takes_odd_names(odd_run, no_fonts, strict):
    tuner = ThresholdTuner(odd_run)
    for name in ODD: tuner.shown.value = name
    tuner.redraw.flush()
    check_widget(tuner, drawn=True)
    labels = [slider.description for slider in tuner.sliders.values()]
    assert len(set(labels)) == len(ODD) and not any("\n" in text for text in labels)
    assert r"\$x_1^2\$" in labels[1]         # the front ends read mathematics between bare dollar signs


def test_the_confusion_explorer_takes_odd_names(odd_run, no_fonts, strict):
    explorer = ConfusionExplorer(odd_run, threaded=False, n=20)
    explorer.controls.true.value, explorer.controls.predicted.value = ODD[0], ODD[3]
    assert explorer.state.choice.cell[1:] == (ODD[0], ODD[3])
    check_widget(explorer, drawn=True)


def test_the_training_monitor_takes_odd_names(odd_run, no_fonts, strict):
    check_widget(TrainingMonitor(odd_run), drawn=True)


def test_leaves_differ_in_the_widgets(leaf_run):
    tuner = ThresholdTuner(leaf_run)
    assert len({slider.description for slider in tuner.sliders.values()}) == len(LEAVES)
    axes = [h for h in html_of(ConfusionExplorer(leaf_run, threaded=False, n=5).view) if 'title="true ' in h]
    seen = [Seen(h) for h in axes[:len(LEAVES)]]
    assert [s.attributes["title"] for s in seen] == [f"true {name}" for name in LEAVES]
    assert len({s.text for s in seen}) == len(LEAVES) and max(len(s.text) for s in seen) <= 18


def test_a_sheet_of_some_classes_numbers_them_as_the_run_does(no_fonts, monkeypatch):
    written = []
    monkeypatch.setattr(type(font(12)), "write", lambda self, draw, xy, text, *rest: written.append(text))
    image_sheet([("害怕", np.zeros((8, 8), np.uint8))], ("happy", "sad", "害怕"))
    assert written == ["class 3"]


# ---- the terminal ----------------------------------------------------------------------------------

@quickly
@given(some_names)
def test_tables_on_a_terminal_are_aligned(names):
    lines = Table(["class", "n"], [[name, "1"] for name in names]).text().split("\n")
    assert len(lines) == len(names) + 1 and len({columns(line) for line in lines}) == 1
    assert len({columns(pad(name, 100)) for name in map(visible, names)}) == 1


def test_wide_characters_align_in_the_confusion_matrix(odd_run):
    lines = confusion_text(read_records(odd_run).metrics).split("\n")
    assert len(lines) == len(ODD) + 1 and len({columns(line) for line in lines}) == 1


def test_a_plan_with_a_gan_for_each_class_is_a_table_of_lines():
    steps = [Step(f"gan-1-{name}", "gan", {"n": i}, title=f"GAN, round 1, {name}")
             for i, name in enumerate(ODD)]
    text = plan_text(Plan(steps), None, Paces())
    lines = text.split("\n")[:-1]
    assert len(lines) == len(ODD) and "\x1b" not in text
    assert len({columns(line[:line.index("GAN,")]) for line in lines}) == 1


# ---- files -----------------------------------------------------------------------------------------

@quickly
@given(some_names)
def test_file_names_are_valid_and_distinct_everywhere(names):
    found = file_names(names)
    assert len({unicodedata.normalize("NFC", text.casefold()) for text in found.values()}) == len(names)
    for text in found.values():
        assert bytes_of(text) <= 160 and not set(text) & set('<>:"/\\|?*')
        assert all(unicodedata.category(c) not in ("Cc", "Cn", "Cs", "Zl", "Zp") for c in text)
        assert text[0] not in ".-~ " and text[-1] not in ". "


@pytest.mark.parametrize("name", ["CON", "nul.txt", "Com1", "lpt9.png"])
def test_devices_of_windows_are_no_file_names(name): assert file_names([name])[name] == "_" + name


def test_generated_images_of_an_odd_class_are_written(tmp_path):
    for name in ("n/a", "害怕", "CON", "..", 200 * "害"):
        classes, out = (name, "other"), tmp_path / str(len(list(tmp_path.iterdir())))
        images, probs = np.zeros((2, 1, 8, 8), np.uint8), np.full((2, 2), .5)
        text = write_images(out, images, name, {"seed": [1, 2]}, probs, classes).read_text(encoding="utf-8")
        assert len(list(out.glob("*.png"))) == 2 and f",{name}," in text


def test_the_folder_of_a_step_fits_into_a_file_system():
    folder = Step("gan-1-" + 85 * "害", "gan", {}).folder
    assert bytes_of(folder) < 200 and folder.startswith("gan-1-害")


def test_candidates_with_odd_names_can_be_browsed(no_fonts):
    table = Candidates(np.zeros((4, 1, 8, 8), np.uint8), ODD[:4], np.arange(4))
    assert "class 4" in ImageBrowser(table, threaded=False).still().data
