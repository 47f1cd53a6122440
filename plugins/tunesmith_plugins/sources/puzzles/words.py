"""Names for the things that puzzles are about; each is one word that stands for one thing only."""

from __future__ import annotations

PEOPLE = (  # noqa: SIM905
    "Ada Alma Anton Arne Astrid Aya Bela Bruno Carla Cato Chidi Clara Dalia Dario Dina Edda Elif Emil Enzo Esme Fadi "
    "Farah Finn Flora Gita Greta Gus Hana Hugo Ida Ines Ivo Jana Jonas Juno Kai Kamal Kira Lars Leila Lena Luca Malik "
    "Mara Mei Milan Mona Nadia Nico Nils Nora Olga Omar Oskar Paco Petra Quinn Rafi Rosa Ruben Sami Selma Silas Sofia "
    "Tarek Tess Theo Tove Uma Vera Viktor Wanda Xenia Yara Yusuf Zeno Zora"
).split()
DRINKS = "beer cider cocoa coffee juice lemonade mead milk soda sherry tea water wine".split()  # noqa: SIM905
PETS = "cat dog ferret finch goat hamster hare lizard newt parrot pony rabbit snake tortoise".split()  # noqa: SIM905
COLOURS = "black blue brown green grey orange pink purple red teal white yellow".split()  # noqa: SIM905
THINGS = (
    ("drinks", "Each drinks something else", DRINKS),
    ("owns the", "Each owns another pet", PETS),
    ("wears", "Each wears another colour", COLOURS),
)
"""How a person is said to have a thing, that all have different ones, and the things."""
