"""Reading numbers exactly."""

from fractions import Fraction

import pytest

from tunesmith.numerals import ascii_numerals, numeral


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("\u22125", -5),
        ("+ 3", 3),
        ("007", 7),
        (".5", "1/2"),
        ("5.", 5),
        ("0.1", "1/10"),
        (" 1,000 ", 1000),
        ("1 234 567.5", "2469135/2"),
        ("1.5e3", 1500),
        ("1E-2", "1/100"),
        (r"1.5 \times 10^{3}", 1500),
        (r"2 \cdot 10^{-1}", "1/5"),
        ("2*10**3", 2000),
        ("10^3", 1000),
        ("6.02\u00d710\u00b2\u00b3", 602 * 10**21),
        ("3/4", "3/4"),
        ("3/-4", "-3/4"),
        ("-3/4", "-3/4"),
        ("0.5/0.25", 2),
        (r"\frac{1}{3}", "1/3"),
        (r"\dfrac12", "1/2"),
        (r"-\frac{7}{2}", "-7/2"),
        ("2 1/2", "5/2"),
        ("2\u00bd", "5/2"),
        ("\u00bd", "1/2"),
        (r"2\frac{1}{2}", "5/2"),
        (r"0.\overline{3}", "1/3"),
        (r"0.1\overline{6}", "1/6"),
        ("\u0661\u066c\u0660\u0660\u0660\u066b\u0665", "2001/2"),
        ("\uff15", 5),
        ("9" * 100, 10**100 - 1),
    ],
)
def test_a_number_is_read_exactly(text, value):
    assert numeral(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "--5",
        "x",
        "5%",
        "5 cm",
        "1/0",
        r"\frac{1}{0}",
        "2 1/0",
        "1,00",
        "1,0000",
        "12,34",
        "1.2.3",
        "1_000",
        "0x10",
        "1 2",
        "inf",
        "nan",
        "1e401",
        "1e99999999",
        "9" * 101,
        "9" * 100000,
        "1/" + "9" * 101,
        "10^{9999}",
        "5/",
        "e5",
    ],
)
def test_anything_else_is_no_number(text):
    assert numeral(text) is None


def test_thousands_are_a_choice():
    assert numeral("1,000", thousands=False) is None
    assert numeral("1 000", thousands=False) is None
    assert numeral("1000", thousands=False) == 1000


def test_text_around_numbers_stays():
    assert ascii_numerals("x\u00b2 = \u0663") == "x^{2} = 3"
    assert ascii_numerals("plain") == "plain"
