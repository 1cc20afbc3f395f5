"The notebooks of nbs/explore in a real JupyterLab, driven by a real browser."
import shutil

import browser
import browser_visits
import pytest

pytestmark = pytest.mark.skipif(bool(browser.missing("jupyterlab")), reason=browser.missing("jupyterlab") or "-")


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory):
    "A running JupyterLab over a copy of nbs/explore, with the monitor's notebook beside."
    folder = tmp_path_factory.mktemp("notebooks") / "explore"
    if browser_visits.EXPLORE.exists(): shutil.copytree(browser_visits.EXPLORE, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    folder.mkdir(exist_ok=True)
    browser_visits.write_monitor(folder / "monitor.ipynb")
    with browser.lab(folder, tmp_path_factory.mktemp("lab")) as site: yield site


@pytest.mark.parametrize("name", browser_visits.VISITS)
def test_in_jupyterlab(jupyterlab, name): browser_visits.go(jupyterlab, name)


def test_the_monitor_lives_on_when_the_browser_is_closed_and_opened_again(jupyterlab):
    page = browser.visit(jupyterlab, "monitor.ipynb")
    with browser_visits.pictured(page, "monitor"):
        here = browser_visits.part(page, ".fer-monitor")
        curves = browser.pixels(page, here + "img.fer-curves")
        with browser.steady(page, here + "img.fer-curves"): curves = browser.wait_changed(page, here + "img.fer-curves", curves)
        line = browser_visits.text(page, here + ".fer-headline")
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        assert not page.errors
    page.context.close()     # as when a laptop is shut: the kernel goes on
    jupyterlab.pages.remove(page)
    page = browser.open_notebook(jupyterlab, "monitor.ipynb")
    with browser_visits.pictured(page, "monitor-again"):
        here = browser_visits.part(page, ".fer-monitor")
        assert browser.wait_text(page, here + ".fer-headline", line) != line
        curves = browser.pixels(page, here + "img.fer-curves")
        browser.wait_changed(page, here + "img.fer-curves", curves)
        browser.shot(page, "monitor-again")

        # Stop, pressed twice, asks the run to end; here nobody obeys.
        stop = page.locator(here + "button.fer-stop")
        stop.click()
        page.wait_for_function(browser_visits.SAYS, arg=[here + "button.fer-stop", "Press again to stop"])
        browser.press(page, stop, "Enter")
        page.wait_for_function(browser_visits.SAYS, arg=[here + "button.fer-stop", "Stopping"])
        assert "Asked to stop" in browser_visits.text(page, here + ".fer-status") and not page.errors
    jupyterlab.leave(page)


def test_an_error_in_a_cell_is_seen(jupyterlab):
    "The helper that runs notebooks would notice."
    import nbformat
    bad = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in ("1 / 0", "print('not reached')")], metadata=browser_visits.KERNEL)
    nbformat.write(bad, jupyterlab.home / "work" / "bad.ipynb")
    with pytest.raises(AssertionError, match="ZeroDivisionError"): browser.visit(jupyterlab, "bad.ipynb")
    jupyterlab.leave(jupyterlab.pages[-1])
    (jupyterlab.home / "work" / "bad.ipynb").unlink()
