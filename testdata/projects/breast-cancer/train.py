"""Trains the classifier, and resumes from a checkpoint where there is one.

Run by a SageMaker training job, which sets SM_MODEL_DIR (what is written there
becomes model.tar.gz) and SM_HP_<NAME> for each hyperparameter; runs as well on
a desk, with the options below.
"""

import argparse
import json
import os
from pathlib import Path

import dataset
from model import Model, measure


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=int(os.environ.get("SM_HP_EPOCHS", "30")))
    parser.add_argument("--learning-rate", type=float, default=float(os.environ.get("SM_HP_LEARNING_RATE", "0.002")))
    parser.add_argument("--model-dir", type=Path, default=Path(os.environ.get("SM_MODEL_DIR", "model")))
    parser.add_argument("--report-dir", type=Path, default=Path("report"))
    parser.add_argument("--checkpoint-dir", type=Path, default=Path("/opt/ml/checkpoints"))
    return parser.parse_args(arguments)


def resume(directory):
    """Return (model, epochs done) of the checkpoint, or (None, 0)."""
    path = directory / "checkpoint.json"
    if not path.exists():
        return None, 0
    fields = json.loads(path.read_text())
    return Model.from_json(fields["model"]), fields["epoch"]


def checkpoint(directory, model, epoch):
    """Write the checkpoint so that it is whole or absent, whenever we are stopped."""
    part = directory / "checkpoint.json.part"
    part.write_text(json.dumps({"epoch": epoch, "model": model.to_json()}))
    part.replace(directory / "checkpoint.json")


def main(arguments=None):
    options = parse(arguments)
    (train_x, train_y), (test_x, test_y) = dataset.split(*dataset.load())
    print(f"{len(train_y)} samples to learn from, {len(test_y)} to test with")

    model, done = resume(options.checkpoint_dir)
    if done:
        print(f"resuming after epoch {done}")
    else:
        model = Model.for_features(train_x)

    history = []
    for epoch in range(done + 1, options.epochs + 1):
        model.train_epoch(train_x, train_y, learning_rate=options.learning_rate, seed=epoch)
        train, test = measure(model, train_x, train_y), measure(model, test_x, test_y)
        history.append({"epoch": epoch, "train": train, "test": test})
        print(
            f"epoch={epoch} train_loss={train['loss']:.4f} train_accuracy={train['accuracy']:.4f} "
            f"test_loss={test['loss']:.4f} test_accuracy={test['accuracy']:.4f}",
            flush=True,
        )
        if options.checkpoint_dir.is_dir():
            checkpoint(options.checkpoint_dir, model, epoch)

    metrics = {"train": measure(model, train_x, train_y), "test": measure(model, test_x, test_y), "history": history}
    for directory in (options.model_dir, options.report_dir):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.json").write_text(model.to_json() + "\n")
        (directory / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"test accuracy {metrics['test']['accuracy']:.4f}; the model is in {options.model_dir}")


if __name__ == "__main__":
    main()
