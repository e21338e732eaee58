"""The multimodal VRNN as a library: train it, then ask for one modality from the other. `python -m examples.mmvrnn`"""

import argparse
from pathlib import Path

import numpy as np

import models
from examples import plots
from models.config import MMVRNNConfig, ModalityConfig, TrainingConfig
from models.synthetic import spirals


def main() -> None:
    """Prints the losses and the test errors; the pictures and the model go to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="sequences to train on")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("var/examples"), help="folder of the pictures and the model")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    models.use_threads(1)  # networks this small gain nothing from more

    # Two modalities of 50 steps, two numbers a step: m1 is a noisy spiral, m2 the same one turned and shrunk.
    train, test = spirals(args.rows, steps=50, seed=1), spirals(200, steps=50, seed=2)
    modalities = [ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in ("m1", "m2")]
    config = MMVRNNConfig(modalities=tuple(modalities))
    dataset, epochs = models.Dataset.from_arrays(train, "sequence"), []
    for event in models.fit(config, dataset, TrainingConfig(epochs=args.epochs), seed=1):
        if isinstance(event, models.Epoch):
            epochs.append(event.metrics)
            print(f"epoch {event.epoch}: loss {event.metrics['validation_loss']:.1f} nats on held-out sequences")
        elif isinstance(event, models.Finished):
            models.save(event.model, args.out / "mmvrnn.safetensors", metadata={"data": "spirals"})
    predictor = models.load(args.out / "mmvrnn.safetensors")

    def ask(target: str, *given: str) -> np.ndarray:
        """The mean of `target`, at every step of the test data, with only the modalities `given` shown."""
        present = {name: np.ones(test[name].shape[:2], dtype=bool) for name in given}
        answer = predictor.reconstruct({name: test[name] for name in given}, present, None, targets=[target])
        return answer[target]["mean"]

    for given, target in [("m1", "m2"), ("m2", "m1")]:
        error, spread = np.square(ask(target, given) - test[target]).mean(), test[target].var(axis=(0, 1)).mean()
        print(f"{target} from {given}: test MSE {error:.3f}, predicting the mean {spread:.3f}")
    m1, m2 = test["m1"], test["m2"]
    rebuilt = {"m1": m1, "m1 rebuilt": ask("m1", "m1", "m2"), "m2": m2, "m2 rebuilt": ask("m2", "m1", "m2")}
    plots.panels(args.out / "mmvrnn-data.png", dict(train))
    plots.losses(args.out / "mmvrnn-losses.png", epochs)
    plots.panels(args.out / "mmvrnn-reconstruction.png", rebuilt)
    plots.panels(args.out / "mmvrnn-m2-from-m1.png", {"m1": m1, "m2, not shown": m2, "m2 from m1": ask("m2", "m1")})


if __name__ == "__main__":
    main()
