"""Judges a trained model on the samples that it has not seen.

Exits with 3 where the model is not good enough: a pipeline can tell that from
a crash.
"""

import argparse
import sys
from pathlib import Path

import dataset
from model import Model, measure

NOT_GOOD_ENOUGH = 3


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--accuracy", type=float, default=0.95, help="the least accuracy to accept")
    parser.add_argument("--recall", type=float, default=0.9, help="the least share of malignant samples to find")
    options = parser.parse_args(arguments)

    model = Model.from_json(options.model.read_text())
    _, (features, labels) = dataset.split(*dataset.load())
    result = measure(model, features, labels)
    always_benign = 1 - sum(labels) / len(labels)
    print(f"accuracy={result['accuracy']:.4f} recall={result['recall']:.4f} loss={result['loss']:.4f}")
    print(f"(calling every sample benign would have an accuracy of {always_benign:.4f})")
    for name in ("accuracy", "recall"):
        least = getattr(options, name)
        if result[name] < least:
            print(f"{name} is {result[name]:.4f}, below {least}", file=sys.stderr)
            return NOT_GOOD_ENOUGH
    return 0


if __name__ == "__main__":
    sys.exit(main())
