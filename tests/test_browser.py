"""The notebooks of nbs/explore in a real browser: in JupyterLab, and as pages without code, served by Voila
with the options of `make app`. One browser for both; one server each."""
import os
import shutil
import urllib.error
import urllib.request

import browser
import browser_visits
import pytest
from browser_visits import EXPLORE


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    "A running browser; each page has its own cookies and storage."
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as running: yield running


@pytest.fixture(scope="module")
def jupyterlab(request, tmp_path_factory):
    "A running JupyterLab over a copy of nbs/explore, with the monitor's notebook beside."
    if browser.missing("jupyterlab"): pytest.skip(browser.missing("jupyterlab"))
    folder = tmp_path_factory.mktemp("notebooks") / "explore"
    shutil.copytree(EXPLORE, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    browser_visits.write_monitor(folder / "monitor.ipynb")
    running = request.getfixturevalue("chromium")
    with browser.lab(folder, tmp_path_factory.mktemp("lab"), running) as site: yield site


@pytest.fixture(scope="module")
def voila(request, tmp_path_factory):
    "A running Voila over a copy of nbs/explore."
    if browser.missing("voila"): pytest.skip(browser.missing("voila"))
    running = request.getfixturevalue("chromium")
    with browser.voila(EXPLORE, tmp_path_factory.mktemp("voila"), running) as site: yield site


@pytest.mark.parametrize("name", browser_visits.VISITS)
def test_in_jupyterlab(jupyterlab, name): browser_visits.go(jupyterlab, name)


def test_the_monitor_lives_on_when_the_browser_is_closed_and_opened_again(jupyterlab):
    page = browser.visit(jupyterlab, "monitor.ipynb")
    with browser_visits.pictured(page, "monitor"):
        here = browser_visits.part(page, ".fer-monitor")
        picture = here + "img.fer-curves"
        curves = browser.pixels(page, picture)
        with browser.steady(page, picture): browser.wait_changed(page, picture, curves)
        line = browser_visits.text(page, here + ".fer-headline")
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        assert not page.errors
    page.context.close()     # as when a laptop is shut: the kernel goes on
    jupyterlab.pages.remove(page)
    page = browser.open_notebook(jupyterlab, "monitor.ipynb")
    with browser_visits.pictured(page, "monitor-again"):
        here = browser_visits.part(page, ".fer-monitor")
        picture = here + "img.fer-curves"
        assert browser.wait_text(page, here + ".fer-headline", line) != line
        curves = browser.pixels(page, picture)
        browser.wait_changed(page, picture, curves)
        browser.shot(page, "monitor-again")

        # Stop, pressed twice, asks the run to end; here nobody obeys.
        stop = page.locator(here + "button.fer-stop")
        stop.click()
        page.wait_for_function(browser_visits.SAYS, arg=[here + "button.fer-stop", "Press again to stop"])
        browser.press(page, stop, "Enter")
        page.wait_for_function(browser_visits.SAYS, arg=[here + "button.fer-stop", "Stopping"])
        browser_visits.wait_said(page, here + ".fer-status", "Asked to stop")
        assert not page.errors
    jupyterlab.leave(page)


def test_an_error_in_a_cell_is_seen(jupyterlab):
    "The helper that runs notebooks would notice."
    import nbformat
    cells = [nbformat.v4.new_code_cell(text) for text in ("1 / 0", "print('not reached')")]
    bad = jupyterlab.home / "work" / "bad.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=browser_visits.KERNEL), bad)
    with pytest.raises(AssertionError, match="ZeroDivisionError"): browser.visit(jupyterlab, "bad.ipynb")
    jupyterlab.leave(jupyterlab.pages[-1])
    bad.unlink()


@pytest.mark.parametrize("name", browser_visits.VISITS)
def test_in_voila(voila, name):
    if name == "tour" and not os.environ.get("FER_ALL"):
        pytest.skip("the tour trains; it is run in JupyterLab, and here with FER_ALL=1")
    browser_visits.go(voila, name)


def test_the_first_page_lists_the_notebooks_and_leads_to_them(voila):
    page = voila.page()
    page.goto(f"{voila.address}/?token={voila.token}")
    names = {p.name for p in EXPLORE.glob("*.ipynb")}
    links = {a.inner_text().strip(): a.get_attribute("href") for a in page.locator("a").all()}
    assert names <= set(links) and all("/voila/render/" in links[n] for n in names)
    assert not page.errors
    browser.shot(page, "list")
    voila.leave(page)


def test_nobody_without_the_token_sees_a_page(voila):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try: body = direct.open(f"{voila.address}/", timeout=browser.PATIENCE).read().decode()
    except urllib.error.HTTPError as e: assert e.code in (401, 403)
    else: assert "ipynb" not in body and "oken" in body      # the page that asks for it
