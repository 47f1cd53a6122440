"""Cards: volumes as numbers."""

import pytest

from tunesmith import GOALS, Card, Volume
from tunesmith.components.cards import short


@pytest.mark.parametrize(
    ("number", "written"),
    [(500, "500"), (1000, "1k"), (1500, "1.5k"), (2e4, "20k"), (999_999, "1M"), (1.4e12, "1.4T"), (5e9, "5B")],
)
def test_counts_are_written_short(number, written):
    assert short(number) == written


def test_a_volume_reads_as_people_write_it():
    assert str(Volume("a", "tokens", 10**10, 5 * 10**10, open_ended=True)) == "10B-50B+ tokens"
    assert str(Volume("b", "pairs", 10_000, 60_000)) == "10k-60k pairs"


@pytest.mark.parametrize(
    ("unit", "low", "high", "said"),
    [("bytes", 1, 2, "unit should be one of tokens, rows"), ("rows", 3, 2, "a range"), ("rows", 0, 2, "a range")],
)
def test_a_volume_that_is_none_is_refused(unit, low, high, said):
    with pytest.raises(ValueError, match=said):
        Volume("chats", unit, low, high)


def test_a_card_of_four_texts_is_still_a_card():
    card = Card("-", "Never.", "None.", "Little.")
    assert card.volumes == () and card.serves() == ()


def test_goals_of_a_card_and_of_its_volumes_count():
    one, other = Volume("a", "rows", 1, 2, goals=("task",)), Volume("b", "rows", 3, 4)
    card = Card("-", "-", "-", "-", (one, other), goals=("style",))
    assert card.serves() == ("style", "task")
    assert card.volumes_for("task") == (one,)
    assert card.volumes_for("style") == (other,)
    assert card.volumes_for("poetry") == (one, other)


def test_built_in_methods_carry_the_table_of_the_guide(registry):
    cards = {cls.name: cls.card for plugin, cls in registry.entries("method") if plugin.distribution == "tunesmith"}
    ranges = {(name, str(volume)) for name, card in cards.items() for volume in card.volumes}
    guide = {
        **{volume: ["cpt"] for volume in ("5B-20B tokens", "10B-50B+ tokens", "1B-5B tokens")},
        **{volume: ["sft"] for volume in ("1k-10k rows", "500-2k rows", "100k-1M rows", "2k-5k rows")},
        "100k-1M pairs": ["rm"],
        "10k-60k pairs": ["dpo", "orpo"],
        "10k-50k prompts": ["grpo", "rloo", "ppo"],
    }
    assert {(name, text) for text, names in guide.items() for name in names} <= ranges
    for name, card in cards.items():
        assert card.volumes and card.serves(), f"{name} has no volumes or no goals"
        assert set(card.serves()) <= set(GOALS)
        assert all(volume.source for volume in card.volumes)
