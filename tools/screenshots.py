"""Pictures of the widgets for README, from a real JupyterLab.

`python tools/screenshots.py [faces thresholds confusion monitor study]` writes images/widget-*.png. Needs
chromium and the development environment; tests/browser.py drives both."""
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import browser

LIMIT = 250_000   # bytes of a picture
MONITOR = """import shutil
from fer_synth.widgets.monitor import TrainingMonitor
from fer_synth.widgets.kit import recorded_run
TrainingMonitor(shutil.copytree(recorded_run(), "runs/demo"))"""     # the picture shows this place
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
AT_REST = """() => [...document.querySelectorAll('.fer-confusion .fer-cancel')]
    .every(e => !e.getClientRects().length)"""


def choose_face(page) -> None:
    "A face's card, the page as it opens."
    card = page.locator(".fer-browser .fer-card").first
    before = card.inner_text()
    page.locator(".fer-browser button.fer-pick").nth(4).click()
    browser.wait_text(page, ".fer-browser .fer-card", before)


def choose_line(page) -> None:
    "One threshold moved away from where it was."
    before = browser.pixels(page, ".fer-tuner img.fer-chart")
    browser.press(page, page.locator(".fer-tuner .fer-slider-2 .noUi-handle").first, "ArrowRight", 12)
    browser.wait_changed(page, ".fer-tuner img.fer-chart", before)


def choose_cell(page) -> None:
    "A cell that the generated faces changed, with its test faces."
    page.locator(".fer-confusion .fer-matrix-difference .fer-cell").nth(4).click()
    page.locator(".fer-confusion img.fer-face").first.wait_for()
    page.wait_for_function(AT_REST)                                   # nothing is being computed
    browser.wait_changed(page, ".fer-confusion img.fer-face", [])     # all faces have come


SHOTS = {  # name -> notebook, class of the widget, what is done before the picture is taken
    "faces": ("inspect_images.ipynb", ".fer-browser", choose_face),
    "thresholds": ("tune_thresholds.ipynb", ".fer-tuner", choose_line),
    "confusion": ("confusion.ipynb", ".fer-confusion", choose_cell),
    "monitor": ("monitor.ipynb", ".fer-monitor", lambda page: None),
    "study": ("study.ipynb", ".fer-panel", lambda page: None),
}


def cropped(png: bytes, rim: int = 12) -> Image.Image:
    "A picture with an even rim of white around what is shown."
    image = Image.open(io.BytesIO(png)).convert("RGB")
    box = image.convert("L").point(lambda v: 255 * (v < 250)).getbbox() or (0, 0, *image.size)
    return ImageOps.expand(image.crop(box), rim, "white")


def small(image: Image.Image, path: Path) -> Path:
    "Write a PNG with as many colours as fit into the limit."
    for colours in (256, 128, 64, 32):
        file = io.BytesIO()
        few = image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(file, "PNG", optimize=True)
        if file.tell() < LIMIT: break
    else: raise SystemExit(f"{path.name} has {file.tell():,} bytes, more than {LIMIT:,}.")
    path.write_bytes(file.getvalue())
    return path


def take(names, out: Path = ROOT / "images") -> list[Path]:
    "Open the notebooks, run them, and keep a picture of each widget."
    import nbformat
    with tempfile.TemporaryDirectory() as place:
        notebooks, home = Path(place) / "notebooks", Path(place) / "home"
        ignored = shutil.ignore_patterns(".ipynb_checkpoints")
        shutil.copytree(ROOT / "nbs" / "explore", notebooks, ignore=ignored)
        home.mkdir()
        monitor = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MONITOR)], metadata=KERNEL)
        nbformat.write(monitor, notebooks / "monitor.ipynb")
        out.mkdir(exist_ok=True)
        made = []
        with browser.lab(notebooks, home) as site:
            for name in names:
                notebook, widget, act = SHOTS[name]
                page = browser.visit(site, notebook, height=2600)
                page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
                browser.pixels(page, f"{widget} img")
                act(page)
                page.evaluate("() => document.activeElement && document.activeElement.blur()")
                picture = page.locator(widget).first.screenshot(animations="disabled")
                made.append(small(cropped(picture), out / f"widget-{name}.png"))
                site.leave(page)
        return made


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(SHOTS)
    if set(wanted) - set(SHOTS): raise SystemExit(__doc__)
    why = browser.missing("jupyterlab")
    if why: raise SystemExit(f"No pictures can be taken: {why}.")
    for path in take(wanted): print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")
