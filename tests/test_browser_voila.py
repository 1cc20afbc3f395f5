"The notebooks of nbs/explore as pages without code, served by Voila with the options of `make app`, driven by a real browser."
import os
import urllib.error
import urllib.request

import browser
import browser_visits
import pytest

pytestmark = pytest.mark.skipif(bool(browser.missing("voila")), reason=browser.missing("voila") or "-")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "A running Voila over a copy of nbs/explore."
    if not browser_visits.EXPLORE.exists(): pytest.skip("nbs/explore is not written yet")
    with browser.voila(browser_visits.EXPLORE, tmp_path_factory.mktemp("voila")) as site: yield site


@pytest.mark.parametrize("name", browser_visits.VISITS)
def test_in_voila(pages, name):
    if name == "tour" and not os.environ.get("FER_ALL"): pytest.skip("the tour trains for minutes; it is run in JupyterLab, and here with FER_ALL=1")
    browser_visits.go(pages, name)


def test_the_first_page_lists_the_notebooks_and_leads_to_them(pages):
    page = pages.page()
    page.goto(f"{pages.address}/?token={pages.token}")
    names = {p.name for p in browser_visits.EXPLORE.glob("*.ipynb")}
    links = {a.inner_text().strip(): a.get_attribute("href") for a in page.locator("a").all()}
    assert names <= set(links) and all("/voila/render/" in links[n] for n in names)
    assert not page.errors
    browser.shot(page, "list")
    pages.leave(page)


def test_nobody_without_the_token_sees_a_page(pages):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try: body = direct.open(f"{pages.address}/", timeout=browser.PATIENCE).read().decode()
    except urllib.error.HTTPError as e: assert e.code in (401, 403)
    else: assert "ipynb" not in body and "oken" in body      # the page that asks for it
