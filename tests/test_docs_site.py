"The documentation site without Quarto: every notebook has a page, every link leads somewhere, and nothing comes over a network."
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("nbconvert")
from test_repository import ROOT, load_tool

docs = load_tool("docs")


class Page(HTMLParser):
    "What a page refers to, and the places in it that can be referred to."
    def __init__(self, path: Path):
        super().__init__()
        self.links, self.resources, self.ids, self.tags, self.words = [], [], set(), set(), []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        if "id" in attrs: self.ids.add(attrs["id"])
        if tag == "a" and "href" in attrs: self.links.append(attrs["href"])
        elif "href" in attrs: self.resources.append(attrs["href"])
        self.resources += [attrs[k] for k in ("src", "poster", "data", "srcset") if attrs.get(k)]
    def handle_data(self, data): self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs") / "site"
    made = docs.build(out)
    return out, {p: Page(p) for p in made}


def test_every_notebook_has_a_page(site):
    out, pages = site
    expected = {p.relative_to(ROOT / "nbs").with_suffix(".html") for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert expected and expected == {p.relative_to(out) for p in pages} == {p.relative_to(out) for p in out.rglob("*.html")}


def test_links_lead_to_files_and_places_that_exist(site):
    out, pages = site
    broken = []
    for path, page in pages.items():
        for link in page.links + page.resources:
            address, _, part = link.partition("#")
            if re.match(r"https://|data:|mailto:", address): continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if not target.is_file() or not target.is_relative_to(out.resolve()): broken.append(f"{path.name}: {link}")
            elif part and target in pages and unquote(part) not in pages[target].ids: broken.append(f"{path.name}: no place {link}")
            elif address.endswith(".ipynb"): broken.append(f"{path.name}: {link} is a notebook, not a page")
    assert not broken


def test_nothing_is_loaded_over_a_network(site):
    out, pages = site
    for path, page in pages.items():
        assert not [r for r in page.resources if re.match(r"(https?:)?//", r)], path.name
        assert "script" not in page.tags and "iframe" not in page.tags, path.name
    for sheet in out.rglob("*.css"): assert not re.search(r"@import|url\(", sheet.read_text())


def test_the_index_lists_all_pages_in_reading_order(site):
    out, pages = site
    links = [l for l in pages[out / "index.html"].links if l.endswith(".html")]
    listed = [l for i, l in enumerate(links) if l not in links[:i]]
    assert set(listed) >= {p.relative_to(out).as_posix() for p in pages} - {"index.html"}
    rooms = [l for l in listed if re.match(r"\d\d_", l)]
    assert rooms and rooms == sorted(rooms)
    explore = [i for i, l in enumerate(listed) if l.startswith("explore/")]
    assert not explore or max(explore) < listed.index(rooms[0])


def test_readers_see_code_and_pictures_and_no_directives(site):
    out, pages = site
    for path, page in pages.items():
        assert not re.search(r"#\|\s*(export|hide|default_exp|eval)", "".join(page.words)), path.name
        assert "application/vnd.jupyter.widget-view" not in page.text and "Open in Colab" not in page.resources
    pictures = sum(len([o for o in c["outputs"] if "image/png" in o.get("data", {})]) for c in json.loads((ROOT / "nbs" / "80_plots.ipynb").read_text())["cells"]
                   if c["cell_type"] == "code" and not "".join(c["source"]).startswith("#| hide"))
    assert pages[out / "80_plots.html"].text.count('src="data:image/png') == pictures > 3
    assert 'class="math"' in pages[out / "30_losses.html"].text and "lVert" not in re.sub(r'alt="[^"]*"', "", pages[out / "30_losses.html"].text)


def test_formulas_become_pictures_and_code_stays_code():
    render = lambda text: docs.prepared(docs.nbformat.v4.new_notebook(cells=[docs.nbformat.v4.new_markdown_cell(text)])).cells[0].source
    assert render("`echo $HOME $PATH` costs $5 or $6") == "`echo $HOME $PATH` costs $5 or $6"
    assert render(r"a $x^2$ b").startswith('a <img class="math" alt="x^2"') and render(r"a $x^2$ b").endswith("> b")
    assert render(r"$\nonsense{x}$") == r"<code>\nonsense{x}</code>"


@pytest.fixture
def small(tmp_path):
    "A repository of two notebooks, with a way to add a link to the first."
    def make(link: str) -> Path:
        (tmp_path / "nbs" / "explore").mkdir(parents=True)
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "a.png").write_bytes(b"png")
        for name, text in (("index", f"# Here\n\nOne. {link}"), ("explore/there", "# There\n\n[back](../index.ipynb#Here) ![p](../../images/a.png) [![b](https://x.y/b.svg)](https://x.y)")):
            nb = docs.nbformat.v4.new_notebook(cells=[docs.nbformat.v4.new_markdown_cell(text)])
            docs.nbformat.write(nb, tmp_path / "nbs" / f"{name}.ipynb")
        return tmp_path
    return make


def test_links_between_folders_are_turned(small, tmp_path):
    out = tmp_path / "out"
    docs.build(out, small("[on](explore/there.ipynb) [dir](../images) ![p](../images/a.png)"))
    here, there = Page(out / "index.html"), Page(out / "explore" / "there.html")
    assert {"explore/there.html", "https://github.com/fer-synth/fer_synth/tree/main/images"} <= set(here.links)
    assert {"../index.html#Here", "https://x.y"} <= set(there.links) and "Here" in here.ids
    assert "images/a.png" in here.resources and "../images/a.png" in there.resources and (out / "images" / "a.png").is_file()


def test_a_broken_link_ends_the_build(small, tmp_path):
    with pytest.raises(docs.BrokenLink, match="index.ipynb links to gone.ipynb"): docs.build(tmp_path / "out", small("[on](gone.ipynb)"))


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit, match="holds something else"): docs.main(["--out", str(tmp_path)])
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_quarto_is_used_where_present_and_may_fail(tmp_path, monkeypatch, capsys):
    asked, built = [], []
    monkeypatch.setattr(docs.shutil, "which", lambda name, path=None: f"/bin/{name}")
    monkeypatch.setattr(docs, "build", lambda out: built.append(out) or [])
    readme = (ROOT / "README.md").read_bytes()
    for code in (0, 1):
        monkeypatch.setattr(docs.subprocess, "run", lambda command, **_: asked.append(command) or type("Done", (), {"returncode": code}))
        docs.main([])
    assert asked == [["/bin/nbdev_docs"]] * 2 and built == [ROOT / "_docs"] and (ROOT / "README.md").read_bytes() == readme
    assert "by Quarto" in capsys.readouterr().out
