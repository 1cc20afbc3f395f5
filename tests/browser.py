"A real browser in front of a real JupyterLab or Voila, started and ended by a test, with pictures kept."
import base64
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120  # seconds that a condition may take on a slow machine; nothing waits longer than it must
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]   # nothing but the server is reached
HARMLESS = (  # patterns of console errors that say nothing about a notebook
    r"cdn\.jsdelivr\.net/npm/(@fortawesome|font-awesome)",      # icons of Voila's page that nobody uses
    r"colab\.research\.google\.com/assets/colab-badge\.svg",   # the badge is a picture from the network
    r"favicon",                                                # the server has no such icon
    r"WebSocket connection to .* failed: (WebSocket is closed|Close received)",   # it was left meanwhile
)


def missing(server: str) -> str:
    "Why no browser can be driven here; '' where one can."
    import importlib.util
    if not CHROMIUM:
        return ("no chromium on this machine "
                "(Debian: apt-get install -y --no-install-recommends chromium fonts-dejavu-core)")
    absent = [m for m in ("playwright", server) if importlib.util.find_spec(m) is None]
    return f"{' and '.join(absent)} not installed (pip install -e .[dev])" if absent else ""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def surroundings(home: Path) -> dict[str, str]:
    "Environment of a server: no settings of this person are read or written; the kernel runs this python."
    folders = {"HOME": "", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data",
               "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
               "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTEST", "XDG_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    places = {k: str(home / v) for k, v in folders.items()}
    return {**kept, **places, "JUPYTER_PLATFORM_DIRS": "1", "PATH": path}


def quiet_settings(folder: Path) -> None:
    "JupyterLab asks nothing, tells no news, and draws every cell at once."
    silence = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    tracker = {"autoStartDefaultKernel": True, "windowingMode": "none"}
    for name, values in {"apputils-extension/notification": silence,
                         "notebook-extension/tracker": tracker,
                         "docmanager-extension/plugin": {"autosave": False}}.items():
        file = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))


def end(process: subprocess.Popen) -> None:
    "End a server and all that it started: politely, then not."
    for sign, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        try: os.killpg(process.pid, sign)
        except ProcessLookupError: break
        try: process.wait(seconds)
        except subprocess.TimeoutExpired: continue
    process.wait()


def direct(address, seconds: float = PATIENCE):
    "An answer of a server, without a proxy in between."
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=seconds)


def wait_for_answer(process: subprocess.Popen, address: str, log: Path) -> None:
    "Return when a server answers, with whatever it be."
    until = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")
        try: direct(address, 5).close()
        except urllib.error.HTTPError: return
        except OSError: time.sleep(.1)
        else: return


@contextmanager
def server(command: list[str], home: Path, address: str, token: str, cwd: Path | None = None, **more: str):
    """A server that answers; its output goes to `home/server.log`. It ends with the block, and with this
    process. `more` is put into its environment."""
    here = sys.platform == "linux" and shutil.which("setpriv")
    guard = [here, "--pdeathsig", "TERM"] if here else []
    environment = {**surroundings(home), "JUPYTER_TOKEN": token, **more}
    with open(home / "server.log", "w") as log:
        process = subprocess.Popen(
            [*guard, *command], cwd=cwd or home, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_answer(process, f"{address}?token={token}", home / "server.log")
            yield process
        finally: end(process)


@dataclass
class Site:
    "A running server with the notebooks of a folder, and a browser."
    kind: str      # lab or voila
    address: str
    token: str
    home: Path     # server.log, and the copy of the notebooks in home/work
    browser: object
    shots: Path    # where pictures go
    pages: list = field(default_factory=list)

    def page(self, width: int = 1280, height: int = 900):
        "A new window; its console errors are collected in `page.errors`."
        page = self.browser.new_context(viewport={"width": width, "height": height}).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.errors, page.site = [], self
        def said(message):
            if message.type == "error": note(page, f"{message.text} [{message.location.get('url', '')}]")
        page.on("console", said)
        page.on("pageerror", lambda e: note(page, f"uncaught: {e}"))
        self.pages.append(page)
        return page

    def leave(self, page) -> None:
        "Close a window, and end the kernels: the next notebook needs the memory."
        page.errors = []
        page.context.close()
        self.pages.remove(page)
        if self.kind == "lab": self.end_kernels()

    def end_kernels(self) -> None:
        "Of JupyterLab, all."
        headers = {"Authorization": f"token {self.token}"}
        def ask(path: str, method: str = "GET"):
            address = f"{self.address}/api/{path}"
            return direct(urllib.request.Request(address, method=method, headers=headers))
        for kernel in json.load(ask("kernels")): ask(f"kernels/{kernel['id']}", "DELETE")


def note(page, text: str) -> None:
    if not any(re.search(p, text, re.S) for p in HARMLESS): page.errors.append(text)


@contextmanager
def chromium(home: Path):
    "A running browser. Inside the block no other event loop can run in this thread."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        environment = {**os.environ, "HOME": str(home)}
        running = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
        try: yield running
        finally: running.close()


@contextmanager
def site(kind: str, folder: Path, home: Path, running, command, path: str):
    "A server over a copy of `folder`, whose files stay as they are, and a browser: `running`, or an own one."
    home = Path(home)
    shutil.copytree(folder, home / "work", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
    quiet_settings(home / "settings")
    port, token = free_port(), secrets.token_hex(16)
    address = f"http://127.0.0.1:{port}"
    shots = Path(os.environ.get("FER_SHOTS") or home / "shots").absolute()
    words = [sys.executable, "-m", *command(port, home / "work")]
    own = chromium(home) if running is None else nullcontext(running)
    with server(words, home, address + path, token), own as browser:
        yield Site(kind, address, token, home, browser, shots)


@contextmanager
def alone(where: Site, width: int = 1280, height: int = 1600):
    """A browser of its own that goes on while nobody is connected to it: being watched makes it slower. Gives
    a function that connects and gives its one page, and one that leaves it to itself."""
    port, held = free_port(), []
    command = [CHROMIUM, *FLAGS, "--headless", f"--remote-debugging-port={port}",
               f"--user-data-dir={where.home / 'alone'}", f"--window-size={width},{height}", "about:blank"]
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    home = {**os.environ, "HOME": str(where.home)}
    process = subprocess.Popen(command, env=home, start_new_session=True, **nowhere)
    def connect():
        until = time.monotonic() + PATIENCE
        while not held:
            try: held.append(where.browser.browser_type.connect_over_cdp(f"http://127.0.0.1:{port}"))
            except Exception:
                if time.monotonic() > until: raise
                time.sleep(.2)
        page = held[0].contexts[0].pages[0]
        page.set_default_timeout(PATIENCE * 1000)
        page.errors, page.site = [], where
        return page
    def leave(): held.pop().close()
    try: yield connect, leave
    finally: end(process)


def lab(folder: Path, home: Path, running=None):
    "JupyterLab over a copy of `folder`; `home` is an empty folder for everything it writes."
    def command(port: int, work: Path) -> list[str]:
        return ["jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={work}",
                "--LabApp.news_url=None",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                "--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True"]
    return site("lab", folder, home, running, command, "/api/status")


def voila(folder: Path, home: Path, running=None):
    "Voila over a copy of `folder`, with the options of `make app`, and with tracebacks."
    options = re.search(r"^APP := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    def command(port: int, work: Path) -> list[str]:
        return ["voila", str(work), *options, f"--port={port}", "--show_tracebacks=True"]
    return site("voila", folder, home, running, command, "/")


KERNEL = "() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel"
READY = "() => window.jupyterapp && window.jupyterapp.commands.hasCommand('notebook:run-all-cells')"
IDLE = f"""() => {{
    const k = ({KERNEL})();
    return !!k && k.connectionStatus === 'connected' && k.status === 'idle';
}}"""


def open_notebook(where: Site, name: str, seconds: float = 3 * PATIENCE, page=None, **size):
    """A window with the notebook, `page` or a new one: in JupyterLab with its kernel connected and idle, in
    Voila when the cells have run."""
    page = page or where.page(**size)
    if where.kind == "voila":
        address = f"{where.address}/voila/render/{name}?token={where.token}"
        page.goto(address, wait_until="domcontentloaded", timeout=seconds * 1000)
        return page
    page.goto(f"{where.address}/lab/tree/{name}?token={where.token}&reset", wait_until="domcontentloaded")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.wait_for_function(READY)
    page.wait_for_function(IDLE)
    return page


CELLS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(c => c.type === 'code' && c.sharedModel.source.trim())
    .map(c => ({
        count: c.executionCount,
        error: c.sharedModel.outputs.filter(o => o.output_type === 'error')
            .map(o => o.ename + ': ' + o.evalue).join('; ')
    }))"""
RUN = """() => {
    window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.allRan = true; });
}"""
RAN = f"""() => {{
    const cells = ({CELLS})(), k = ({KERNEL})();
    return cells.some(c => c.error) || (window.allRan && k.status === 'idle' && cells.every(c => c.count));
}}"""
DRAWN = """() => {
    const e = document.getElementById('rendered_cells');
    if (!e || getComputedStyle(e).display === 'none') return false;
    return !e.innerText.includes('Loading widget') && !e.querySelector('.voila-skeleton-container');
}"""
STDERR = "[data-mime-type='application/vnd.jupyter.stderr']"


def run_all(page, seconds: float = PATIENCE) -> None:
    "Run every cell and wait for the last; an error in a cell is raised here. Voila has run them by itself."
    if page.site.kind == "lab":
        page.evaluate(RUN)
        page.wait_for_function(RAN, timeout=seconds * 1000)
        wrong = [c["error"] for c in page.evaluate(CELLS) if c["error"]]
    else:
        page.wait_for_function(DRAWN, timeout=seconds * 1000)
        wrong = [t for t in page.locator(STDERR).all_inner_texts() if "Traceback" in t]
    assert not wrong, wrong[0]


def visit(where: Site, name: str, seconds: float = 3 * PATIENCE, page=None, **size):
    "Open a notebook and let it run to its end."
    page = open_notebook(where, name, seconds, page, **size)
    try: run_all(page, seconds)
    except BaseException:
        shot(page, f"failed-{name}")
        raise
    return page


def shot(page, name: str) -> Path:
    "Keep a picture of the window."
    page.site.shots.mkdir(parents=True, exist_ok=True)
    path = page.site.shots / f"{page.site.kind}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png"
    page.screenshot(path=str(path))
    return path


PIXELS = """s => [...document.querySelectorAll(s)].filter(i => i.getClientRects().length).map(i => {
    if (!i.complete || !i.naturalWidth) return '';
    const c = document.createElement('canvas'); c.width = i.naturalWidth; c.height = i.naturalHeight;
    c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL(); })"""


def pixels(page, selector: str) -> list[str]:
    """What the visible pictures that `selector` finds show, each as a text, once all are there; two are equal
    when every pixel is."""
    there = f"s => {{ const now = ({PIXELS})(s); return now.length > 0 && now.every(x => x); }}"
    page.wait_for_function(there, arg=selector, polling=100)
    return page.evaluate(PIXELS, selector)


CHANGED = f"""([s, old]) => {{
    const now = ({PIXELS})(s), all = now.join(), same = all === window.ferLast;
    window.ferCalm = same ? (window.ferCalm || 0) + 1 : 0;
    window.ferLast = all;
    return window.ferCalm >= 3 && now.length > 0 && now.every(x => x) && all !== old;
}}"""


def wait_changed(page, selector: str, before: list[str]) -> list[str]:
    """Wait until the pictures show something else, all of them something, and stay so: a page of images
    arrives image by image."""
    page.wait_for_function(CHANGED, arg=[selector, ",".join(before)], polling=100)
    return pixels(page, selector)


def wait_shown(page, selector: str, expected: list[str]) -> None:
    "Wait until the pictures are these."
    same = f"([s, wanted]) => ({PIXELS})(s).join() === wanted"
    page.wait_for_function(same, arg=[selector, ",".join(expected)], polling=100)


def wait_text(page, selector: str, before: str) -> str:
    "Wait until the text of an element is another one."
    other = "([s, old]) => { const e = document.querySelector(s); return e && e.innerText !== old; }"
    page.wait_for_function(other, arg=[selector, before], polling=100)
    return page.locator(selector).first.inner_text()


FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
WATCH = """s => {
    const seen = [...document.querySelectorAll(s)].filter(e => e.getClientRects().length);
    const w = {elements: seen.length, turns: 0, sources: 0, gone: 0, moved: 0, scrolled: 0};
    const box = e => {
        const r = e.getBoundingClientRect();
        return [r.left, r.top, r.width, r.height].map(Math.round);
    };
    const place = e => {
        const p = (e.closest('.fer-panel') || document.body).getBoundingClientRect();
        const r = e.getBoundingClientRect();
        return [r.left - p.left, r.top - p.top, r.width, r.height].map(Math.round).join();
    };
    w.boxes = seen.map(box);
    const last = seen.map(e => e.src), places = seen.map(place);
    const look = () => {
        w.turns++;
        seen.forEach((e, i) => {
            if (!e.isConnected || !e.getClientRects().length) { w.gone++; return; }
            if (place(e) !== places[i]) w.moved++;
            if (box(e).join() !== w.boxes[i].join()) w.scrolled++;
            if (e.src !== last[i]) { w.sources++; last[i] = e.src; }
        });
        if (!w.done) requestAnimationFrame(look);
    };
    window.ferWatch = w; look(); return w.boxes;
}"""


def blank(picture, box, scale: float) -> bool:
    """Whether the part of the window inside `box` (left, top, width, height) is of one colour, as it is where
    no picture is drawn."""
    x, y, w, h = (round(v * scale) for v in box)
    low, high = picture.crop((x + 1, y + 1, x + w - 1, y + h - 1)).convert("L").getextrema()
    return high - low < 4


@contextmanager
def screencast(page):
    "The frames that the browser shows during the block, as PNG in base64."
    frames, cdp = [], page.context.new_cdp_session(page)
    def keep(event):
        frames.append(event["data"])
        cdp.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})
    cdp.on("Page.screencastFrame", keep)
    cdp.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})
    try:
        yield frames
        page.evaluate(FRAME)
    finally:
        cdp.remove_listener("Page.screencastFrame", keep)
        cdp.send("Page.stopScreencast")
        cdp.detach()


@contextmanager
def steady(page, selector: str, *targets, in_place: bool = True):
    """Look at pictures during the block, twice. At every turn of the browser's drawing: is each still the
    same element, where it was in its panel, as large as it was? And in every frame that the browser showed:
    is there a picture, where there was one before? `targets` are what the block acts on: they are brought
    into view first, since a page that scrolls cannot be compared. `in_place=False` allows it to be pushed by
    a text above that grows. Gives a dict that holds the counts afterwards."""
    from PIL import Image
    for target in (page.locator(selector).first, *targets): target.scroll_into_view_if_needed()
    first, boxes, counts = Image.open(io.BytesIO(page.screenshot())), page.evaluate(WATCH, selector), {}
    def in_window(x, y, w, h): return x >= 0 and y >= 0 and x + w <= first.width and y + h <= first.height
    inside = [box for box in boxes if in_window(*box) and not blank(first, box, 1)]
    with screencast(page) as frames: yield counts
    watched = page.evaluate("() => { window.ferWatch.done = true; return window.ferWatch; }")
    shown = [Image.open(io.BytesIO(base64.b64decode(f))) for f in frames]
    counts.update({k: watched[k] for k in ("elements", "turns", "sources", "gone", "moved", "scrolled")})
    counts.update(frames=len(shown), watched=len(inside))
    counts["blank"] = sum(blank(f, box, f.width / first.width) for f in shown for box in inside)
    seen = counts["watched"] and counts["turns"] >= 2 and counts["frames"]
    assert seen, f"nothing was seen of {selector}: {counts}"
    moved, blanked = in_place and counts["moved"], counts["blank"] and not counts["scrolled"]
    assert not counts["gone"] and not moved and not blanked, f"{selector} flickers: {counts}"


TRACK = """h => {
    const base = h.closest('.noUi-base'), t = {places: [], done: false};
    const look = () => {
        t.places.push(h.getBoundingClientRect().left - base.getBoundingClientRect().left);
        if (!t.done) requestAnimationFrame(look);
    };
    window.ferDrag = t; look();
}"""
def drag(page, handle, dx: float, steps: int = 8, calm: float = 600) -> None:
    """Drag a slider's handle by the mouse, in steps, as a hand would. In no frame does it jump back, as it
    would if the kernel's answer to an earlier step moved it; nor in the `calm` milliseconds after it is let
    go."""
    handle.scroll_into_view_if_needed()
    b = handle.bounding_box()
    x, y = b["x"] + b["width"] / 2, b["y"] + b["height"] / 2
    handle.evaluate(TRACK)
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(1, steps + 1):
        page.mouse.move(x + dx * i / steps, y)
        page.evaluate(FRAME)
    page.mouse.up()
    page.wait_for_timeout(calm)
    places = page.evaluate("() => { window.ferDrag.done = true; return window.ferDrag.places; }")
    moves = zip(places, places[1:])
    back = [(round(a), round(b)) for a, b in moves if (b - a) * dx < 0 and abs(b - a) > 1.5]
    forward = (places[-1] - places[0]) * dx > 0
    assert not back and forward, f"the handle jumps: {back or [round(p) for p in places]}"


def press(page, target, key: str, times: int = 1) -> None:
    "Give an element the focus, and press a key."
    target.focus()
    for _ in range(times): page.keyboard.press(key)
