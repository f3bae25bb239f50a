"""Logistic regression, trained by mini-batch gradient descent with momentum."""

import json
import math
import random


class Model:
    """A linear classifier on standardised features."""

    def __init__(self, mean, scale, weights=None, bias=0.0):
        self.mean = mean
        self.scale = scale
        self.weights = weights if weights is not None else [0.0] * len(mean)
        self.bias = bias
        self._velocity = [0.0] * (len(mean) + 1)

    @classmethod
    def for_features(cls, features):
        """A new model that standardises with these features' mean and deviation.

        Pass the training features alone: the test set must stay unseen.
        """
        columns = list(zip(*features))
        mean = [sum(column) / len(column) for column in columns]
        scale = [
            math.sqrt(sum((value - middle) ** 2 for value in column) / len(column)) or 1.0
            for column, middle in zip(columns, mean)
        ]
        return cls(mean, scale)

    def _standardise(self, row):
        return [(value - middle) / scale for value, middle, scale in zip(row, self.mean, self.scale)]

    def _score(self, standardised):
        return _sigmoid(self.bias + sum(w * x for w, x in zip(self.weights, standardised)))

    def probability(self, row):
        """The probability that this sample is malignant."""
        return self._score(self._standardise(row))

    def train_epoch(self, features, labels, *, learning_rate, decay=0.01, momentum=0.9, batch=32, seed=0):
        """Go over all samples once, in an order that follows from the seed."""
        rows = [self._standardise(row) for row in features]
        order = list(range(len(rows)))
        random.Random(seed).shuffle(order)
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            gradient = [0.0] * (len(self.weights) + 1)
            for index in members:
                row = rows[index]
                error = self._score(row) - labels[index]
                for column, value in enumerate(row):
                    gradient[column] += error * value
                gradient[-1] += error
            for column in range(len(gradient)):
                slope = gradient[column] / len(members)
                if column < len(self.weights):
                    slope += decay * self.weights[column]
                self._velocity[column] = momentum * self._velocity[column] - learning_rate * slope
            self.weights = [w + v for w, v in zip(self.weights, self._velocity)]
            self.bias += self._velocity[-1]

    def to_json(self):
        return json.dumps(
            {
                "format": 1,
                "mean": self.mean,
                "scale": self.scale,
                "weights": self.weights,
                "bias": self.bias,
            }
        )

    @classmethod
    def from_json(cls, text):
        fields = json.loads(text)
        if fields.get("format") != 1:
            raise ValueError(f"model format {fields.get('format')!r} is not 1")
        return cls(fields["mean"], fields["scale"], fields["weights"], fields["bias"])


def measure(model, features, labels):
    """Return loss, accuracy and recall (share of malignant samples found)."""
    loss = right = found = 0.0
    for row, label in zip(features, labels):
        probability = min(max(model.probability(row), 1e-12), 1 - 1e-12)
        loss -= math.log(probability if label else 1 - probability)
        guess = probability >= 0.5
        right += guess == bool(label)
        found += guess and bool(label)
    count = len(labels)
    return {
        "loss": loss / count,
        "accuracy": right / count,
        "recall": found / max(1, sum(labels)),
    }


def _sigmoid(value):
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    power = math.exp(value)
    return power / (1 + power)
