"""How fast do the widgets answer?

`python tools/widget_latency.py [--browser] [--repeats 9]` writes tools/results/widget-latency.md. The first
table is the time from setting a control's value to the pictures being handed over, in Python alone. With
--browser there is a second one, from a JupyterLab in Chromium: from the event in the page (a key, a click, a
choice) until the last picture that it changed is decoded, the last word is there, and both are drawn: the way
to the kernel and back is in it.
"""
import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fer_synth.runtime import cpu_name
from fer_synth.widgets.browser import ImageBrowser
from fer_synth.widgets.browser_state import invented_images
from fer_synth.widgets.confusion import ConfusionExplorer
from fer_synth.widgets.confusion_state import from_answers
from fer_synth.widgets.tuner import ThresholdTuner

POOLS, SIDE = (1_000, 20_000, 100_000), 48


def took(change, values) -> list[float]:
    "Milliseconds of `change(value)` for each value, the first left out."
    times = []
    for v in values:
        began = time.perf_counter()
        change(v)
        times.append(1000 * (time.perf_counter() - began))
    return times[1:]


def browser_times(n: int, repeats: int) -> dict:
    b = ImageBrowser(invented_images(n), per_page=SIDE, threaded=False)
    b.draw.seconds = 0
    def narrow(v): b.filters.range.value = (v, 1)
    return {"image browser: page turn, 48 images": took(lambda _: b.pages.next.click(), range(repeats + 1)),
            "image browser: score filter": took(narrow, np.linspace(.1, .6, repeats + 1).round(2).tolist())}


def tuner_times(n: int, repeats: int) -> dict:
    images = invented_images(n)
    rng, k = np.random.default_rng(0), len(images.classes)
    probs = rng.dirichlet(np.ones(k), 2_000)
    t = ThresholdTuner(images, validation=(probs, rng.integers(k, size=len(probs))))
    t.redraw.seconds = 0
    slider = t.sliders[images.classes[0]]
    def move(v): slider.value = v
    values = np.linspace(.2, .8, repeats + 1).round(2).tolist()
    return {"threshold tuner: slider to chart, images and table": took(move, values)}


def confusion_times(n: int, repeats: int) -> dict:
    rng, k, names = np.random.default_rng(0), 5, [f"class {i}" for i in range(5)]
    arms = {a: rng.dirichlet(np.ones(k), (3, n)) for a in ("real", "augmented")}
    answers, images = from_answers(rng.integers(k, size=n), arms, names), np.zeros((n, 1, 32, 32), np.uint8)
    x = ConfusionExplorer(answers, images=images, n=20, threaded=False)
    cells = list(x.grids[2].buttons.values())
    def seed(v): x.controls.seed.value = v
    return {"confusion explorer: cell to images": took(lambda i: cells[i % 25].click(), range(repeats + 1)),
            "confusion explorer: seed to matrices": took(seed, [str(i % 3) for i in range(repeats + 1)])}


CELLS = {   # what stands in the notebooks that a browser opens
    "browser": """from fer_synth.widgets.browser import ImageBrowser
from fer_synth.widgets.browser_state import invented_images
ImageBrowser(invented_images({n}))""",
    "tuner": """import numpy as np
from fer_synth.widgets.browser_state import invented_images
from fer_synth.widgets.tuner import ThresholdTuner
images, rng = invented_images({n}), np.random.default_rng(0)
k = len(images.classes)
ThresholdTuner(images, validation=(rng.dirichlet(np.ones(k), 2_000), rng.integers(k, size=2_000)))""",
    "confusion": """import numpy as np
from fer_synth.widgets.browser_state import invented_images
from fer_synth.widgets.confusion import ConfusionExplorer
from fer_synth.widgets.confusion_state import from_answers
rng, made = np.random.default_rng(0), invented_images({n})
arms = {{a: rng.dirichlet(np.ones(5), (3, {n})) for a in ("real", "augmented")}}
ConfusionExplorer(from_answers(made.intended, arms, made.classes), images=made.images, threaded=False)""",
}
KEY = "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true})"
ACTS = {    # what is done there, the i-th time; `panel` is the widget
    "browser": {"image browser: page turn, 24 images": "panel.querySelector('button.fer-next').click()"},
    "tuner": {
        "threshold tuner: slider to chart, images and table":
            f"panel.querySelector('.fer-slider-0 .noUi-handle').dispatchEvent({KEY})",
    },
    "confusion": {
        "confusion explorer: cell to 24 images":
            "panel.querySelectorAll('.fer-matrix-difference .fer-cell')[i].click()",
        "confusion explorer: seed to matrices, recalls and images":
            "const s = panel.querySelector('.fer-seed select'); s.selectedIndex = 1 + i % 3; "
            "s.dispatchEvent(new Event('change', {bubbles: true}))",
    },
}
LOOP = """async ([selector, n]) => {
    const wait = ms => new Promise(done => setTimeout(done, ms)), panel = document.querySelector(selector);
    window.ferTimes = [];
    await wait(3000);       // until nobody looks on, and the still picture is drawn
    for (let i = 0; i < n; i++) {
        const p = {last: 0, waiting: 0};
        const drawn = () => requestAnimationFrame(() => { p.waiting--; p.last = performance.now(); });
        const observer = new MutationObserver(all => all.forEach(m => {
            p.waiting++;
            m.type === 'attributes' ? m.target.decode().then(drawn, drawn) : drawn();
        }));
        observer.observe(panel, {subtree: true, childList: true, characterData: true, attributes: true,
                                 attributeFilter: ['src']});
        const began = performance.now();
        ACT;
        while (!(p.last && !p.waiting && performance.now() - p.last > 400)) await wait(40);
        observer.disconnect();
        window.ferTimes.push(p.last - began);
        await wait(2500);   // the still picture again
    }
}"""


def page_times(connect, leave, name: str, repeats: int) -> dict:
    "What can be done in a widget, and milliseconds from the event in the page to the last change it causes."
    found = {}
    for event, act in ACTS[name].items():
        script = f"given => {{ ({LOOP.replace('ACT', act)})(given); }}"
        connect().evaluate(script, [f".fer-{name}", repeats + 1])
        leave()
        time.sleep(3 + 3.3 * (repeats + 1))
        connect().wait_for_function(f"() => ferTimes.length > {repeats}")
        found[event] = connect().evaluate("() => ferTimes")[1:]
    return found


def browser_table(repeats: int) -> dict:
    "Pool size -> name -> times, from a real JupyterLab."
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import browser
    import nbformat
    why = browser.missing("jupyterlab")
    if why: raise SystemExit(f"No browser can be driven: {why}.")
    with tempfile.TemporaryDirectory() as place:
        for part in ("notebooks", "home"): (Path(place) / part).mkdir()
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        for n in POOLS:
            for name, code in CELLS.items():
                cells = [nbformat.v4.new_code_cell(code.format(n=n))]
                notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
                nbformat.write(notebook, Path(place) / "notebooks" / f"{name}-{n}.ipynb")
        found = {n: {} for n in POOLS}
        lab = browser.lab(Path(place) / "notebooks", Path(place) / "home")
        with lab as site, browser.alone(site) as (connect, leave):
            for n in POOLS:
                for name in CELLS:
                    page = browser.visit(site, f"{name}-{n}.ipynb", page=connect())
                    browser.pixels(page, f".fer-{name} img")
                    found[n] |= page_times(connect, leave, name, repeats)
                    connect().goto("about:blank")
                    site.end_kernels()
    return found


def table(found: dict) -> list[str]:
    "Lines of a table: a row for each event, a column for each pool."
    head = " | ".join(["event", *(f"{n:,} images" for n in POOLS)])
    lines = ["", f"| {head} |", "| --- | --- | --- | --- |"]
    for name in found[POOLS[0]]:
        times = [found[n][name] for n in POOLS]
        cells = [f"{statistics.median(ms):.0f} ({max(ms):.0f})" for ms in times]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--browser", action="store_true", help="measure in JupyterLab, too")
    given = options.parse_args()
    load, n = os.getloadavg()[0], given.repeats
    found = {pool: browser_times(pool, n) | tuner_times(pool, n) | confusion_times(pool, n) for pool in POOLS}
    command = "python tools/widget_latency.py" + " --browser" * given.browser
    lines = ["", f"Rows of the confusion explorer are test rows. Made by `{command}`.", "",
             "From a control's new value to the pictures being handed over, in Python alone, one thread:",
             *table(found)]
    if given.browser:
        title = ("In JupyterLab, from the event in the page to the last changed picture and word being drawn "
                 "there (Chromium on the same cores):")
        lines += ["", title, *table(browser_table(n))]
    lines[0] = (f"Milliseconds, median (worst) of {n}; {cpu_name()}, {os.cpu_count()} cores, "
                f"Python {platform.python_version()}; "
                f"load {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end.")
    text = "\n".join([*lines, ""])
    (Path(__file__).parent / "results" / "widget-latency.md").write_text(text)
    print(text)


if __name__ == "__main__": main()
