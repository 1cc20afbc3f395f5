"""The documentation site without Quarto: every notebook has a page, every link leads somewhere, and nothing
comes over a network."""
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
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
    notebooks = [p.relative_to(ROOT / "nbs") for p in (ROOT / "nbs").rglob("*.ipynb")]
    expected = {p.with_suffix(".html") for p in notebooks if ".ipynb_checkpoints" not in p.parts}
    assert expected and expected == {p.relative_to(out) for p in pages}
    assert expected == {p.relative_to(out) for p in out.rglob("*.html")}


def fault(link: str, path: Path, out: Path, pages: dict) -> str:
    "What is wrong with a link of a page; '' where nothing is."
    address, _, part = link.partition("#")
    if re.match(r"https://|data:|mailto:", address): return ""
    target = (path.parent / unquote(address)).resolve() if address else path
    if not target.is_file() or not target.is_relative_to(out.resolve()): return "no such file"
    if part and target in pages and unquote(part) not in pages[target].ids: return "no such place"
    return "a notebook, not a page" if address.endswith(".ipynb") else ""


def test_links_lead_to_files_and_places_that_exist(site):
    out, pages = site
    links = [(link, path) for path, page in pages.items() for link in page.links + page.resources]
    faults = {f"{path.name}: {link}": fault(link, path, out, pages) for link, path in links}
    assert not {link: what for link, what in faults.items() if what}


def test_nothing_is_loaded_over_a_network(site):
    out, pages = site
    for path, page in pages.items():
        assert not [r for r in page.resources if re.match(r"(https?:)?//", r)], path.name
        assert "script" not in page.tags and "iframe" not in page.tags, path.name
    for sheet in out.rglob("*.css"): assert not re.search(r"@import|url\(", sheet.read_text())


def test_the_index_lists_all_pages_in_reading_order(site):
    out, pages = site
    links = [link for link in pages[out / "index.html"].links if link.endswith(".html")]
    listed = list(dict.fromkeys(links))
    assert set(listed) >= {p.relative_to(out).as_posix() for p in pages} - {"index.html"}
    rooms = [link for link in listed if re.match(r"\d{3}_", link)]
    assert rooms and rooms == sorted(rooms)
    explore = [i for i, link in enumerate(listed) if link.startswith("explore/")]
    assert not explore or max(explore) < listed.index(rooms[0])


def pictures_shown(notebook: Path) -> int:
    "How many pictures the cells of a notebook that are not hidden have as output."
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    shown = [c for c in cells if not "".join(c["source"]).startswith("#| hide")]
    return sum("image/png" in output.get("data", {}) for c in shown for output in c["outputs"])


def test_readers_see_code_and_pictures_and_no_directives(site):
    out, pages = site
    for path, page in pages.items():
        assert not re.search(r"#\|\s*(export|hide|default_exp|eval)", "".join(page.words)), path.name
        assert "application/vnd.jupyter.widget-view" not in page.text
        assert "Open in Colab" not in page.resources
    pictures = pages[out / "800_plots.html"].text.count('src="data:image/png')
    assert pictures == pictures_shown(ROOT / "nbs" / "800_plots.ipynb") > 3
    losses = pages[out / "300_losses.html"].text
    assert 'class="math"' in losses and "lVert" not in re.sub(r'alt="[^"]*"', "", losses)


def notebook(text: str):
    "One of a single markdown cell."
    return docs.nbformat.v4.new_notebook(cells=[docs.nbformat.v4.new_markdown_cell(text)])


def render(text: str) -> str:
    return docs.prepared(notebook(text)).cells[0].source


def test_formulas_become_pictures_and_code_stays_code():
    assert render("`echo $HOME $PATH` costs $5 or $6") == "`echo $HOME $PATH` costs $5 or $6"
    square = render(r"a $x^2$ b")
    assert square.startswith('a <img class="math" alt="x^2"') and square.endswith("> b")
    assert render(r"$\nonsense{x}$") == r"<code>\nonsense{x}</code>"


THERE = "# There\n\n[back](../index.ipynb#Here) ![p](../../images/a.png) [![b](https://x.y/b.svg)](https://x.y)"


@pytest.fixture
def small(tmp_path):
    "A repository of two notebooks, with a way to add a link to the first."
    def make(link: str) -> Path:
        (tmp_path / "nbs" / "explore").mkdir(parents=True)
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "a.png").write_bytes(b"png")
        docs.nbformat.write(notebook(f"# Here\n\nOne. {link}"), tmp_path / "nbs" / "index.ipynb")
        docs.nbformat.write(notebook(THERE), tmp_path / "nbs" / "explore" / "there.ipynb")
        return tmp_path
    return make


def test_links_between_folders_are_turned(small, tmp_path):
    out = tmp_path / "out"
    docs.build(out, small("[on](explore/there.ipynb) [dir](../images) ![p](../images/a.png)"))
    here, there = Page(out / "index.html"), Page(out / "explore" / "there.html")
    web = "https://github.com/fer-synth/fer_synth/tree/main/images"
    assert {"explore/there.html", web} <= set(here.links)
    assert {"../index.html#Here", "https://x.y"} <= set(there.links) and "Here" in here.ids
    assert "images/a.png" in here.resources and "../images/a.png" in there.resources
    assert (out / "images" / "a.png").is_file()


def test_a_broken_link_ends_the_build(small, tmp_path):
    root = small("[on](gone.ipynb)")
    words = "index.ipynb links to gone.ipynb"
    with pytest.raises(docs.BrokenLink, match=words): docs.build(tmp_path / "out", root)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit, match="holds something else"): docs.main(["--out", str(tmp_path)])
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_quarto_is_used_where_present_and_may_fail(tmp_path, monkeypatch, capsys):
    asked, built = [], []
    monkeypatch.setattr(docs.shutil, "which", lambda name, path=None: f"/bin/{name}")
    monkeypatch.setattr(docs, "build", lambda out: built.append(out) or [])
    readme, codes = (ROOT / "README.md").read_bytes(), iter((0, 1))

    def quarto(command, **more):
        asked.append(command)
        return SimpleNamespace(returncode=next(codes))

    monkeypatch.setattr(docs.subprocess, "run", quarto)
    for _ in range(2): docs.main([])
    assert asked == [["/bin/nbdev_docs"]] * 2 and built == [ROOT / "_docs"]
    assert (ROOT / "README.md").read_bytes() == readme
    assert "by Quarto" in capsys.readouterr().out
