"""Pages: whatever is put on one is a text, and the file stands alone."""

import html
import re
from html.parser import HTMLParser

import pytest

from tunesmith.report.markup import Markup, escape, join, tag, visible
from tunesmith.report.page import LONGEST, Page, details, facts, grid, notice, table, verbatim


class Elements(HTMLParser):
    """The elements of a page as a parser finds them, and the texts between them."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.opened, self.texts, self.inside = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, name, attributes):
        self.opened.append((name, dict(attributes)))

    def handle_data(self, text):
        self.texts.append(text)


def test_a_hostile_text_is_a_text_wherever_it_stands(tmp_path, hostile):
    text = hostile
    page = Page(text, text).section(
        text, text, notice(text, "error"), facts({text: text}), table([text], [[text]]), details(text, text),
        grid(text), verbatim(text), tag("b", text, title=text),
    )  # fmt: skip
    written = page.write(tmp_path / "page.html").read_text(encoding="utf-8")
    plain = Page("x", "x").section(
        "x", "x", notice("x", "error"), facts({"x": "x"}), table(["x"], [["x"]]), details("x", "x"), grid("x"),
        verbatim("x"), tag("b", "x", title="x"),
    )  # fmt: skip
    names = [name for name, _ in Elements(written).opened]
    assert names == [name for name, _ in Elements(plain.render()).opened]
    assert "".join(Elements(written).texts).count(visible(text)) == 15


def test_nothing_that_hides_or_turns_text_is_left(hostile):
    shown = visible(hostile)
    assert not set(shown) & {*map(chr, [*range(9), *range(11, 32), 0x7F, 0x85, 0x200B, 0x2028, 0x2029, 0x202E, 0x2066])}
    shown.encode("utf-8")  # no half of a surrogate pair is left


def test_lines_tabs_and_emoji_stay():
    text = "one\n\ttwo \U0001f469\u200d\U0001f680 \u05d0"
    assert visible(text) == text


def test_a_long_text_is_cut_and_what_is_left_out_is_counted():
    assert f"{10:,} more characters" in verbatim("x" * (LONGEST + 10))
    assert "more characters" not in verbatim("x" * LONGEST)


def test_markup_is_not_escaped_twice_and_other_values_are_escaped_once():
    assert tag("p", tag("b", "<"), "<", 3) == "<p><b>&lt;</b>&lt;3</p>"
    assert join([Markup("<i>"), "<i>"]) == "<i>&lt;i&gt;"
    assert escape(escape("&")) == "&amp;"


def test_attributes_that_are_none_or_false_are_left_out():
    assert tag("input", type="text", hidden=True, value=None, checked=False, data_a_b=1.5) == (
        '<input type="text" hidden data-a-b="1.5">'
    )


def test_the_page_names_no_other_file_and_allows_no_script_but_its_own():
    page = Page("title").section("heading", "text").render()
    found = Elements(page).opened
    assert not [name for name, _ in found if name in ("link", "img", "iframe", "object", "embed", "base", "form")]
    assert not [attributes for _, attributes in found if {"src", "style"} & attributes.keys()]
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = (a["content"] for n, a in found if n == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]+='", policy)
    assert [name for name, _ in found].count("script") == 1


def test_sections_without_blocks_are_left_out_and_three_have_links():
    page = Page("t").section("empty").section("one", "1").section("two", "2")
    assert "empty" not in page.render()
    assert "<nav" not in page.render()
    assert page.section("three", "3").render().count('href="#s') == 3


def test_access_tokens_are_masked(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    page = Page("t").section("s", "hf_abcdefghijklmn and correct-horse-battery")
    written = page.write(tmp_path / "page.html").read_text()
    assert "hf_***" in written
    assert "abcdefghijklmn" not in written
    assert "correct-horse" not in written


def test_a_page_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = Page("first").write(tmp_path / "page.html")
    before = path.read_text()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Page("second").write(path)
    assert path.read_text() == before
    assert html.escape("first") in before
