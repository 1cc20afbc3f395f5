"""The session of nbs/session.ipynb, done by a browser as a person does it.

`python tools/session.py` writes images/session-*.png. It copies the repository, types `make lab`, tunes a
rule, trains with it in a terminal, and looks at what came out. About five minutes; needs chromium and the
development environment."""
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from screenshots import AT_REST, ROOT, browser, cropped, small

SMALLER = (      # what makes the run one of a minute or two
    "--warmup.steps 100 --gan.steps 40 --gan.later-steps 10 --gan.gen-width 32 --gan.batch 32 --clf.epochs 3"
    " --clf.batch 64 --selection.max-pool 600 --out runs/mine")


def checkout(place: Path) -> Path:
    "A copy of the files that are, or would be, in the repository, with this environment as its .venv."
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, found.split("\0")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name)
    (place / ".venv").symlink_to(sys.prefix)
    return place


@contextmanager
def opened(home: Path):
    "JupyterLab as `make lab` starts it, and a browser before it."
    here, port, token = checkout(home / "fer_synth"), browser.free_port(), secrets.token_hex(16)
    browser.quiet_settings(home / "settings")
    for name in (".bash_profile", ".bashrc"): (home / name).write_text("PS1='$ '\n")
    address = f"http://127.0.0.1:{port}"
    options = (f"ARGS=--no-browser --allow-root --ServerApp.port={port} --ServerApp.port_retries=0"
               " --LabApp.expose_app_in_browser=True")
    status = f"{address}/api/status"
    server = browser.server(["make", "lab", options], home, status, token, here, PYTHONPATH=str(here))
    with server, browser.chromium(home) as running:
        yield browser.Site("lab", address, token, home, running, home / "shots")


def keep(target, name: str) -> None:
    "A picture of a part of the window."
    path = small(cropped(target.screenshot(animations="disabled")), ROOT / "images" / f"session-{name}.png")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB", flush=True)


def notebook(site, name: str, line: str = "", height: int = 2600):
    "Open a notebook, put a line in the place of the one that begins with `run =`, and run all cells."
    page = browser.open_notebook(site, f"nbs/explore/{name}.ipynb", width=1180, height=height)
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    if line:
        page.locator(".jp-CodeCell .cm-content").filter(has_text=re.compile("^run = ")).first.click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type(line)
    browser.run_all(page, 300)
    return page


def tune(site) -> str:
    "Move two lines and save the rule; the command that the tuner names."
    page = notebook(site, "tune_thresholds")
    panel, chart = page.locator(".fer-tuner").first, ".fer-tuner img.fer-chart"
    for slider, dx in (("fer-slider-0", 12), ("fer-slider-1", -8)):
        before = browser.pixels(page, chart)
        browser.drag(page, page.locator(f".fer-tuner .{slider} .noUi-handle").first, dx)
        browser.wait_changed(page, chart, before)
    page.locator(".fer-tuner button.fer-save").click()
    said = browser.wait_text(page, ".fer-tuner .fer-status", "")
    page.evaluate("() => document.activeElement && document.activeElement.blur()")
    keep(panel, "2-rule")
    site.leave(page)
    return said


def train(site, command: str):
    "The run, in JupyterLab's terminal; another page watches it."
    page = site.page(width=1100, height=860)
    page.goto(f"{site.address}/lab?token={site.token}&reset", wait_until="domcontentloaded")
    page.locator(".jp-Launcher").first.wait_for()
    page.locator(".lm-MenuBar-itemLabel", has_text="File").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="New").first.hover()
    page.locator(".lm-Menu-itemLabel").get_by_text("Terminal", exact=True).last.click()
    page.locator(".jp-Terminal .xterm-screen").first.click()
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.wait_for_timeout(1500)     # the shell greets
    for line in (". .venv/bin/activate", f"{command} {SMALLER}"):
        page.keyboard.type(line)
        page.keyboard.press("Enter")
        page.wait_for_timeout(1000)
    began, records = time.monotonic(), site.home / "fer_synth" / "runs" / "mine"
    return page, began, records


def wait_for(run: Path, pattern: str, seconds: float = 600) -> None:
    "Until a run folder holds such a file."
    until = time.monotonic() + seconds
    while not list(run.glob(pattern)):
        if time.monotonic() > until: raise SystemExit(f"{run / pattern} did not appear.")
        time.sleep(.5)


def main() -> None:
    why = browser.missing("jupyterlab")
    if why: raise SystemExit(f"No pictures can be taken: {why}.")
    with tempfile.TemporaryDirectory() as place, opened(Path(place)) as site:
        page = site.page(height=700)
        page.goto(f"{site.address}/?token={site.token}", wait_until="domcontentloaded")
        page.get_by_text("tune_thresholds.ipynb").first.wait_for()
        page.locator(".jp-Launcher").first.wait_for()
        keep(page, "1-lab")
        site.leave(page)

        said = tune(site)
        print(said)
        terminal, began, run = train(site, re.search(r"fer-synth run .*", said)[0])
        wait_for(run, "steps/gan-1-*/samples/000020.png")
        page = notebook(site, "watch_training", "run = newest_run()")
        page.wait_for_timeout(3000)
        keep(page.locator(".fer-monitor").first, "3-watch")
        page.context.close()
        site.pages.remove(page)
        wait_for(run, "report.html")
        print(f"{time.monotonic() - began:.0f} s of training")
        terminal.wait_for_timeout(2000)
        keep(terminal.locator(".jp-Terminal").first, "4-terminal")
        terminal.context.close()
        site.pages.remove(terminal)

        page = notebook(site, "confusion", "run = newest_run()")
        page.wait_for_function(AT_REST)
        page.locator(".fer-confusion .fer-matrix-difference .fer-cell").nth(4).click()
        page.locator(".fer-confusion img.fer-face").first.wait_for()
        browser.wait_changed(page, ".fer-confusion img.fer-face", [])
        page.evaluate("() => document.activeElement && document.activeElement.blur()")
        keep(page.locator(".fer-confusion").first, "5-confusion")
        site.leave(page)

        page = notebook(site, "inspect_images", "run = newest_run()")
        browser.pixels(page, ".fer-browser img.fer-face")
        page.locator(".fer-browser button.fer-pick").nth(3).click()
        page.wait_for_timeout(1000)
        page.evaluate("() => document.activeElement && document.activeElement.blur()")
        keep(page.locator(".fer-browser").first, "6-faces")
        site.leave(page)


if __name__ == "__main__": main()
