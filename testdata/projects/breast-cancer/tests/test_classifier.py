"""python3 -m unittest discover tests"""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import dataset
import evaluate
import train
from model import Model, measure


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        return function(*arguments), out.getvalue()


class DatasetTest(unittest.TestCase):
    def test_is_the_published_one(self):
        features, labels = dataset.load()
        self.assertEqual(len(features), 569)
        self.assertEqual(sum(labels), 212)
        self.assertEqual({len(row) for row in features}, {30})

    def test_split_is_stratified_disjoint_and_stable(self):
        features, labels = dataset.load()
        (train_x, train_y), (test_x, test_y) = dataset.split(features, labels)
        self.assertEqual(len(train_y) + len(test_y), 569)
        self.assertAlmostEqual(sum(train_y) / len(train_y), sum(test_y) / len(test_y), delta=0.01)
        self.assertFalse({tuple(row) for row in train_x} & {tuple(row) for row in test_x})
        self.assertEqual(dataset.split(features, labels)[1], (test_x, test_y))

    def test_refuses_a_short_row(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "short.csv"
            path.write_text("1,30,malignant,benign\n1,2,0\n")
            with self.assertRaisesRegex(ValueError, "row 1 has 2 features"):
                dataset.load(path)


class ModelTest(unittest.TestCase):
    def test_learns_a_line(self):
        features = [[float(x), float(-x)] for x in range(-20, 21) if x]
        labels = [int(row[0] > 0) for row in features]
        model = Model.for_features(features)
        before = measure(model, features, labels)["loss"]
        for epoch in range(20):
            model.train_epoch(features, labels, learning_rate=0.1, seed=epoch)
        after = measure(model, features, labels)
        self.assertLess(after["loss"], before / 2)
        self.assertEqual(after["accuracy"], 1)

    def test_json_keeps_the_predictions(self):
        features, labels = dataset.load()
        model = Model.for_features(features)
        model.train_epoch(features, labels, learning_rate=0.1)
        again = Model.from_json(model.to_json())
        self.assertEqual(model.probability(features[0]), again.probability(features[0]))

    def test_refuses_another_format(self):
        with self.assertRaisesRegex(ValueError, "model format 2"):
            Model.from_json('{"format": 2}')


class TrainTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def train(self, epochs):
        return quietly(
            train.main,
            [
                f"--epochs={epochs}",
                f"--model-dir={self.directory / 'model'}",
                f"--report-dir={self.directory / 'report'}",
                f"--checkpoint-dir={self.directory}",
            ],
        )[1]

    def test_resumes_where_it_was_interrupted(self):
        self.assertIn("epoch=2 ", self.train(2))
        log = self.train(4)
        self.assertIn("resuming after epoch 2", log)
        self.assertNotIn("epoch=2 ", log)
        self.assertIn("epoch=4 ", log)
        history = json.loads((self.directory / "model" / "metrics.json").read_text())["history"]
        self.assertEqual([entry["epoch"] for entry in history], [3, 4])

    def test_evaluate_accepts_a_trained_model_and_no_other(self):
        self.train(10)
        good = self.directory / "report" / "model.json"
        self.assertEqual(quietly(evaluate.main, [str(good)])[0], 0)
        untrained = self.directory / "untrained.json"
        untrained.write_text(Model.for_features(dataset.load()[0]).to_json())
        code, log = quietly(evaluate.main, [str(untrained)])
        self.assertEqual(code, evaluate.NOT_GOOD_ENOUGH)
        self.assertIn("accuracy is", log)


if __name__ == "__main__":
    unittest.main()
