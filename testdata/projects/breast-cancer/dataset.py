"""The Wisconsin diagnostic breast cancer data: reading it and splitting it."""

import csv
import random
from pathlib import Path

PATH = Path(__file__).parent / "data" / "wdbc.csv"

# 1 is the class that a screening must not miss.
MALIGNANT = 1


def load(path=PATH):
    """Return (features, labels): lists of 30 floats, and 1 for malignant."""
    with open(path, newline="") as file:
        rows = csv.reader(file)
        count, width, *_ = next(rows)
        features, labels = [], []
        for row in rows:
            *values, benign = row
            if len(values) != int(width):
                raise ValueError(f"{path}: row {len(labels) + 1} has {len(values)} features, not {width}")
            features.append([float(value) for value in values])
            labels.append(1 - int(benign))
    if len(labels) != int(count):
        raise ValueError(f"{path}: {len(labels)} rows, the header says {count}")
    return features, labels


def split(features, labels, test_share=0.25, seed=7):
    """Split into ((train features, labels), (test features, labels)).

    Each class is split by itself, so that both halves hold the same share of
    malignant samples, and the same seed always gives the same split.
    """
    shuffle = random.Random(seed)
    train, test = [], []
    for label in sorted(set(labels)):
        members = [index for index, value in enumerate(labels) if value == label]
        shuffle.shuffle(members)
        cut = round(len(members) * test_share)
        test += members[:cut]
        train += members[cut:]
    shuffle.shuffle(train)

    def pick(indices):
        return [features[index] for index in indices], [labels[index] for index in indices]

    return pick(train), pick(test)
