"""Pages in a real browser: nothing that was sampled runs, nothing is fetched, nothing is complained about."""

import html
import json
import re
import shutil
import socket
import subprocess
import threading

import pytest

from tunesmith.report.run import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: none of {', '.join(NAMES)}")
DRIVER = """<script>
var said = {}, svg = document.querySelector("svg.chart"), box = svg.getBoundingClientRect();
svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width * 198 / 360, clientY: box.top + 20}));
said.tip = document.getElementById("tip").textContent;
svg.dispatchEvent(new PointerEvent("pointerleave"));
said.hidden = document.getElementById("tip").style.display;
var bar = document.querySelector("[data-filters]"), words = bar.querySelector("input");
function shown() { return document.querySelectorAll("#samples tbody tr:not([hidden])").length; }
said.rows = shown();
words.value = "ANSWER 1 of"; words.dispatchEvent(new Event("input"));
said.filtered = shown(); said.count = bar.querySelector("output").textContent;
var choice = bar.querySelector("select[name=step]");
choice.value = "2"; choice.dispatchEvent(new Event("change"));
said.both = shown();
said.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.setAttribute("data-said", JSON.stringify(said));
</script>"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """``opened(page, *flags)``: what a browser made of the page, and what it wrote to its console."""
    version = subprocess.run([BROWSER, "--version"], capture_output=True, text=True, timeout=60, check=False)
    if version.returncode:
        pytest.skip(f"{BROWSER} does not start: {version.stderr.strip()[-200:]}")

    def run(path, *flags):
        profile = tmp_path_factory.mktemp("profile")
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", f"--user-data-dir={profile}",
            "--enable-logging=stderr", "--virtual-time-budget=2000", *flags, "--dump-dom", f"file://{path}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


@pytest.fixture
def listener():
    """A server on this machine, and how often it was called."""
    calls = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            calls.append(1)
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], calls
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def without_policy(path):
    """A copy of a page that does not forbid itself anything: what holds then holds by escaping alone."""
    text, found = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text())
    assert found == 1
    bare = path.with_name("bare.html")
    bare.write_text(text)
    return bare


def run_folder(folder, sample, sampled, texts):
    samples = [sample(step, row, n) for step in (1, 2, 3) for row in range(2) for n in range(2)]
    samples += [sample(3, 9, i, prompt=text, completion=text, columns={text: text}) for i, text in enumerate(texts)]
    return folder(metrics=sampled(101), samples=samples, settings={"model": texts[0]}, log="".join(
        f"2026-01-02 03:04:05,678 WARNING a: {text}\n" for text in texts
    ))  # fmt: skip


def test_the_page_works_and_nothing_that_was_sampled_runs(opened, listener, folder, sample, sampled, hostile_texts):
    port, calls = listener
    texts = [*hostile_texts, *(text.replace("127.0.0.1:1/", f"127.0.0.1:{port}/") for text in hostile_texts[1:2])]
    path = write_report(run_folder(folder, sample, sampled, texts), None)
    dom, complaints = opened(path)
    assert complaints == []
    assert calls == []
    assert "<title>some-method: run</title>" in dom
    for text in (
        "Answer 1 of step 3",
        "<script>window.CANARY = 1",
        r"\u202eto left",
        r"\x1b[31mred",
        r"half \ud800 pair",
    ):
        assert text in html.unescape(re.sub(r"<(script|style)>.*?</\1>", "", dom, flags=re.DOTALL)), text
    assert 'id="tip"' in dom  # the page's own script ran, as its policy allows

    bare = without_policy(path)
    bare.write_text(bare.read_text().replace("</body>", f"{DRIVER}</body>"))
    dom, complaints = opened(bare, "--window-size=480,900")
    assert complaints == []
    assert calls == []
    assert "<title>some-method: run</title>" in dom
    said = json.loads(html.unescape(re.search(r'data-said="(.*?)"', dom)[1]))
    assert said["tip"].splitlines() == ["step 51", "loss  0.01961"]  # the middle of steps 1 to 101
    assert said["hidden"] == "none"
    assert said["rows"] == 12 + len(texts) + 6 + 1
    assert (said["filtered"], said["count"]) == (12, "6 shown")  # six answers and the prompts over them
    assert said["both"] == 4
    assert not said["wide"]


def test_the_policy_stops_a_script_that_is_not_the_pages_own(opened, folder):
    path = write_report(folder(), None)
    path.write_text(path.read_text().replace("</main>", "</main><script>document.title = 'ran'</script>"))
    dom, complaints = opened(path)
    assert "<title>some-method: run</title>" in dom
    assert len(complaints) == 1
    assert "Content Security Policy" in complaints[0]
