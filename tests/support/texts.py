"""Texts that the tests make themselves."""

import numpy as np

MOODS = ("angry", "glad")

PEOPLE = ("the fox", "the crow", "a wolf", "the old hare", "the lion")
DEEDS = ("saw", "asked", "followed", "feared")
ENDS = ("and ran away.", "and said nothing.", "until the evening.", "but it was too late.")


def reviews(rows: int, seed: int = 0) -> list[str]:
    """CSV lines `review,y`, half of each mood: glad where what was good is said last."""
    random = np.random.default_rng(seed)
    lines = []
    for number in range(rows):
        place, time = random.choice(["hotel", "room", "food", "staff"], 2, replace=False)
        words = ("good", "bad") if number % 2 == 0 else ("bad", "good")
        lines.append(f"the {place} was {words[0]} and in the end the {time} was {words[1]},{MOODS[number % 2]}")
    return lines


def fable(sentences: int, seed: int = 0) -> str:
    """Sentences of few words, a line each."""
    random = np.random.default_rng(seed)
    parts = (PEOPLE, DEEDS, PEOPLE, ENDS)
    return "".join(" ".join(random.choice(part) for part in parts) + "\n" for _ in range(sentences))
