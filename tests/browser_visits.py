"What a person does in each notebook of nbs/explore; the tests of JupyterLab and of Voila share it."
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import ROOT, drag, pixels, press, shot, steady, visit, wait_changed, wait_shown, wait_text

EXPLORE = ROOT / "nbs" / "explore"
# The width of an element, and how often in a row it was the same: it may still be on its way.
SETTLED = """const now = document.querySelector(s).getBoundingClientRect().width;
    const settled = window.ferSettled = now === window.ferWidth ? (window.ferSettled || 0) + 1 : 0;
    window.ferWidth = now;"""
SAYS = "([s, t]) => document.querySelector(s).innerText === t"
LONG = 900  # seconds that the tour may take on a slow machine; it trains


def part(page, selector: str) -> str:
    "A name for the first panel that `selector` finds, for selectors of what is inside it."
    page.locator(selector).first.wait_for()
    page.evaluate("s => { document.querySelector(s).id = 'fer-here'; }", selector)
    return "#fer-here "


def text(page, selector: str) -> str: return page.locator(selector).first.inner_text()


def wait_said(page, selector: str, words: str) -> None:
    "Wait until the text of an element holds `words`; a button and a line beside it need not change at once."
    page.locator(selector).first.filter(has_text=words).wait_for()


def wait_for(page, truth: str, *values) -> None:
    "Wait until a JavaScript function of `values` says true."
    page.wait_for_function(f"values => ({truth})(...values)", arg=list(values), polling=100)


def handle(page, slider: str): return page.locator(f"{slider} .noUi-handle").first


def no_error(page) -> None:
    "No panel says that something went wrong."
    assert not page.locator(".fer-error").all_inner_texts()


def inspect_images(page) -> None:
    here = part(page, ".fer-browser")
    turn_pages(page, here)
    decide(page, here)
    look_closely(page, here)
    open_folds(page, here)
    narrow_down(page, here)


def turn_pages(page, here: str) -> None:
    "By mouse and by keyboard; never a blank picture in between."
    images, number = here + "img.fer-face", page.locator(here + ".fer-page input")
    first = pixels(page, images)
    with steady(page, images):
        page.locator(here + "button.fer-next").click()
        second = wait_changed(page, images, first)
    assert len(second) == len(first)
    wait_for(page, "s => document.querySelector(s).value === '2'", here + ".fer-page input")
    with steady(page, images):
        press(page, page.locator(here + "button.fer-next"), "Enter")
        third = wait_changed(page, images, second)
        press(page, page.locator(here + "button.fer-previous"), "Space")
        wait_shown(page, images, second)
        press(page, page.locator(here + "button.fer-previous"), "Space")
        wait_shown(page, images, first)
    number.fill("3")
    number.press("Enter")
    wait_shown(page, images, third)
    press(page, page.locator(here + "button.fer-first"), "Enter")
    wait_shown(page, images, first)


def decide(page, here: str) -> None:
    "Keep or drop an image, by mouse and by keyboard: the words on its button change, undo brings them back."
    images, toggle = here + "img.fer-face", here + "button.fer-toggle"
    undo = page.locator(here + "button.fer-undo")
    first, before = pixels(page, images), text(page, toggle)
    with steady(page, images):
        page.locator(toggle).first.click()
        wait_text(page, toggle, before)
        undo.click()
        page.wait_for_function(SAYS, arg=[toggle, before])
        press(page, page.locator(toggle).first, "Space")
        wait_text(page, toggle, before)
        press(page, undo, "Enter")
        page.wait_for_function(SAYS, arg=[toggle, before])
    wait_shown(page, images, first)


def look_closely(page, here: str) -> None:
    "The card of an image, and the next one's."
    card = text(page, here + ".fer-card")
    page.locator(here + "button.fer-pick").nth(2).click()
    card = wait_text(page, here + ".fer-card", card)
    large = pixels(page, here + "img.fer-card-face")
    press(page, page.locator(here + "button.fer-next-face"), "Space")
    wait_changed(page, here + "img.fer-card-face", large)
    assert wait_text(page, here + ".fer-card", card) != card
    shot(page, "inspect-images-card")


def open_folds(page, here: str) -> None:
    "The closest real images; a morph between two images of the last round."
    def fold(title: str) -> None: page.locator(here).get_by_text(title, exact=True).first.click()
    fold("Closest real images")
    press(page, page.locator(here + "button.fer-near"), "Enter")
    assert len(wait_changed(page, here + "img.fer-real", [])) >= 3
    fold("Morph, classes, styles")
    rounds, shown = page.locator(here + ".fer-round select"), pixels(page, here + "img.fer-face")
    rounds.select_option(index=rounds.locator("option").count() - 1)      # its generator has a checkpoint
    wait_changed(page, here + "img.fer-face", shown)
    page.locator(here + "button.fer-pick").first.click()
    for name in ("fer-a", "fer-next-face", "fer-b"): page.locator(here + f"button.{name}").click()
    morph, slider = here + "img.fer-morph-face", handle(page, here + ".fer-morph")
    three = "s => [...document.querySelectorAll(s)].filter(e => e.getClientRects().length).length === 3"
    page.wait_for_function(three, arg=morph)
    between = pixels(page, morph)
    with steady(page, morph, slider):
        press(page, slider, "ArrowRight", 4)
        between = wait_changed(page, morph, between)
        drag(page, slider, -60)
        wait_changed(page, morph, between)
    shot(page, "inspect-images-morph")


def narrow_down(page, here: str) -> None:
    "Only images of a high score, by the mouse, then all again; other sizes; another class by the list."
    images = here + "img.fer-face"
    where, shown = text(page, here + ".fer-where"), pixels(page, images)
    drag(page, handle(page, here + ".fer-range"), 60)
    wait_text(page, here + ".fer-where", where)
    narrow = wait_changed(page, images, shown)
    page.locator(here + "button.fer-clear").click()
    wait_changed(page, images, narrow)

    def wait_width(sign: str, width: float) -> None:
        wait_for(page, f"(s, w) => {{ {SETTLED} return settled >= 3 && now {sign} w; }}", images, width)
    def width() -> float: return page.locator(images).first.bounding_box()["width"]
    old, slider = width(), handle(page, here + ".fer-size")
    press(page, slider, "ArrowRight", 4)
    wait_width(">", old)
    old = width()
    drag(page, slider, -40)
    wait_width("<", old)

    where, shown = text(page, here + ".fer-where"), pixels(page, images)
    choose = page.locator(here + ".fer-class select")
    choose.select_option(index=choose.locator("option").count() - 1)
    assert wait_text(page, here + ".fer-where", where) != where
    wait_changed(page, images, shown)
    shot(page, "inspect-images-one-class")


def tune_thresholds(page) -> None:
    here = part(page, ".fer-tuner")
    chart, table = here + "img.fer-chart", here + ".fer-table-words"
    slider = handle(page, here + ".fer-slider-0")

    # One class by the arrow keys, then by the mouse: chart and counts follow, nothing is blank on the way.
    for move in (lambda: press(page, slider, "ArrowRight", 5),
                 lambda: drag(page, slider, 60),
                 lambda: press(page, slider, "Home")):
        before, counts = pixels(page, chart), text(page, table)
        with steady(page, chart, slider):
            move()
            wait_changed(page, chart, before)
            wait_text(page, table, counts)
    shot(page, "tune-thresholds-one-class")

    # All classes at once, the suggestion of the search, and back.
    before, counts = pixels(page, chart), text(page, table)
    with steady(page, chart, handle(page, here + ".fer-slider-all")):
        press(page, handle(page, here + ".fer-slider-all"), "ArrowRight", 5)
        wait_text(page, table, counts)
    counts = text(page, table)
    page.locator(here + "button.fer-take").click()
    after = wait_text(page, table, counts)
    press(page, page.locator(here + "button.fer-undo"), "Enter")
    wait_text(page, table, after)

    # Another score: another axis.
    before, choose = pixels(page, here + "img.fer-chart.fer-chart"), page.locator(here + ".fer-score select")
    choose.select_option(index=1)
    wait_changed(page, chart, before)
    shot(page, "tune-thresholds-another-score")


def cell_of(sentence: str) -> tuple[str, str]:
    "The true and the predicted class that a sentence of the confusion explorer is about."
    names = re.match(r"true (.+?), predicted (.+?):", sentence)
    assert names, sentence
    return names[1], names[2]


def confusion(page) -> None:
    here = part(page, ".fer-confusion")
    sentence, images = here + ".fer-sentence", here + ".fer-faces"

    # A cell by the mouse, another by the keyboard: the sentence is about it, its images (or rows) are there.
    before = text(page, sentence)
    page.locator(here + ".fer-matrix-difference .fer-cell").nth(1).click()
    before = wait_text(page, sentence, before)
    true, predicted = cell_of(before)
    assert true != predicted
    page.locator(images).first.wait_for()
    shown = text(page, images)
    press(page, page.locator(here + ".fer-matrix-this .fer-cell").first, "Space")
    true, predicted = cell_of(wait_text(page, sentence, before))
    wait_text(page, images, shown)
    assert true == predicted
    visible = "s => [...document.querySelectorAll(s)].some(e => e.getClientRects().length)"
    page.wait_for_function(visible, arg=f"{here}img.fer-face, {here}table.fer-rows")
    shot(page, "confusion-cell")

    # Counts instead of shares, one seed instead of all: the numbers in the cells and the recall change.
    cell = here + ".fer-matrix-this .fer-cell"
    number = text(page, cell)
    page.locator(here + ".fer-mode button").nth(1).click()
    wait_text(page, cell, number)
    recall, choose = pixels(page, here + "img.fer-recall"), page.locator(here + ".fer-seed select")
    with steady(page, here + "img.fer-recall", in_place=False):
        choose.select_option(index=1)
        wait_changed(page, here + "img.fer-recall", recall)
    shot(page, "confusion-one-seed")


def study(page) -> None:
    "Another comparison moves the forest plot and the sentence; two arms open image by image."
    here = part(page, ".fer-study")
    forest, sentence = here + "img.fer-forest", here + ".fer-sentence"
    before, drawn = text(page, sentence), pixels(page, forest)
    press(page, page.locator(here + ".fer-role button").nth(1), "Enter")
    wait_text(page, sentence, before)
    wait_changed(page, forest, drawn)
    shot(page, "study-against-real")
    press(page, page.locator(here + "button.fer-open"), "Space")
    page.locator(".fer-confusion .fer-matrix-this .fer-cell").first.wait_for()
    shot(page, "study-two-arms")


def watch_training(page) -> None:
    here = part(page, ".fer-monitor")
    wait_for(page, "s => document.querySelector(s)?.innerText.startsWith('Finished after')",
             here + ".fer-headline")
    wait_for(page, "s => document.querySelector(s).disabled", here + "button.fer-stop")
    assert len(pixels(page, here + "img.fer-curves")) == len(pixels(page, here + "img.fer-samples")) == 1

    # The run of the notebook was stopped, and its panel says how to go on.
    page.locator(".fer-monitor").nth(1).wait_for()
    page.evaluate("() => { document.querySelectorAll('.fer-monitor')[1].id = 'fer-own'; }")
    page.wait_for_function(SAYS, arg=["#fer-own button.fer-stop", "Stopped"])
    wait_said(page, "#fer-own .fer-status", "fer-synth resume")
    wait_said(page, "#fer-own .fer-headline", "GAN, round 1: step")
    shot(page, "watch-training-stopped")


def tour(page) -> None:
    "It trains and shows; the last section has been reached, with a picture in each."
    wait_for(page, "n => [...document.images].filter(i => i.naturalWidth > 50).length >= n", 10)
    shot(page, "tour")


VISITS = {"inspect_images": inspect_images, "tune_thresholds": tune_thresholds, "confusion": confusion,
          "study": study, "watch_training": watch_training, "tour": tour}


def files(folder: Path) -> set[str]:
    found = (p for p in folder.rglob("*") if p.is_file() and ".ipynb_checkpoints" not in p.parts)
    names = {p.relative_to(folder).as_posix() for p in found}
    return {name for name in names if not name.startswith("runs/recorded")}     # the copy that may be changed


def go(where, name: str) -> None:
    """Open a notebook, run it, and do what people do there. No cell fails, the console has no error, and no
    file is left behind."""
    if not (EXPLORE / f"{name}.ipynb").exists(): pytest.skip(f"nbs/explore/{name}.ipynb is not written yet")
    before, seconds = files(where.home / "work"), LONG if name == "tour" else 300
    page = visit(where, f"{name}.ipynb", seconds, height=2000)     # so high that nothing has to be scrolled
    try:
        shot(page, name)
        with pictured(page, name): VISITS[name](page)
        no_error(page)
        assert not page.errors, page.errors
        assert files(where.home / "work") == before, "running the notebook left files beside it"
    finally: where.leave(page)


@contextmanager
def pictured(page, name: str):
    "Where the block fails, a picture of the window is kept, and what the panels say about it."
    try: yield
    except BaseException as e:
        shot(page, f"failed-{name}")
        said = page.locator(".fer-status").all_inner_texts()
        e.add_note(f"the panels say {said}, the console {page.errors}")
        raise


KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
GROWING = """
import json, shutil, tempfile, threading, time
from pathlib import Path
from fer_synth.records import RunFolder
from fer_synth.steps import Store, read_plan
from fer_synth.widgets.monitor import TrainingMonitor
from fer_synth.widgets.kit import recorded_run
folder = Path(tempfile.mkdtemp()) / "growing"
later = shutil.ignore_patterns("*.safetensors", "predictions.npz", "metrics.json")
shutil.copytree(recorded_run(), folder, ignore=later)
plan, store = read_plan(RunFolder(folder)), Store(RunFolder(folder))
log = [(step, line) for step in plan for line in store.folder(step).lines()]
for step in plan:
    (store.folder(step) / "stats.jsonl").unlink(missing_ok=True)
    store.write_note(step, state="partial")
def write(step, line):
    for before in plan.steps[:plan.steps.index(step)]:
        if store.state(before) != "done": store.write_note(before, state="done")
    with open(store.folder(step) / "stats.jsonl", "a") as f: f.write(json.dumps(line) + "\\n")
for step, line in log[:30]: write(step, line)
def grow():
    for step, line in log[30:]:
        time.sleep(1.5)     # so that there are lines left when a slow machine opens it again
        write(step, line)
threading.Thread(target=grow, daemon=True).start()
monitor = TrainingMonitor(folder)
monitor
"""


def write_monitor(path: Path) -> None:
    "A notebook that watches a run folder to which lines are added, as by a run in another process."
    import nbformat
    cell = nbformat.v4.new_code_cell(GROWING.strip())
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL), path)
