"""Blocks of code in an answer."""

import time

import pytest

from tunesmith.passages import last_code_block


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```\ntext\n```py\nb\nc\n```\n", "b\nc\n"),
        ("```py\na\n```\n```\nb\n```", "a\n"),
        ("```\na\n```\n```bash\nb\n```", "a\n"),
        ("```Python title=x.py\na\n```", "a\n"),
        ("```python{1,2}\na\n```", "a\n"),
        ("1. so:\n   ~~~python\n   a\n   ~~~\n", "   a\n"),
        ("````python\n```\na\n```\n````", "```\na\n```\n"),
        ("```python\n~~~\na\n```", "~~~\na\n"),
        ("```python\na\r\n```\r\n", "a\r\n"),
        ("```python\n```", ""),
        ("```python\na", None),
        ("```ruby\na\n```", None),
        ("`python a`", None),
        ("", None),
    ],
)
def test_the_last_block_of_the_language_counts(text, code):
    assert last_code_block(text, ("python", "py")) == code


@pytest.mark.parametrize(
    "text", ["```a\n" * 50_000, "```python" + " " * 500_000 + "`", "`" * 500_000, "~~~\n" * 100_000]
)
def test_hostile_text_takes_no_time(text):
    start = time.process_time()
    last_code_block(text, ("python",))
    assert time.process_time() - start < 1
