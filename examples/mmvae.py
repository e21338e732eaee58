"""The multimodal VAE as a library: train it, then ask for one modality from the other. `python -m examples.mmvae`"""

import argparse
from pathlib import Path

import numpy as np

import models
from examples import plots
from models.config import MMVAEConfig, ModalityConfig, TrainingConfig
from models.synthetic import quadratic_sinusoidal


def main() -> None:
    """Prints the losses and the test errors; the pictures and the model go to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000, help="samples to train on")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("var/examples"), help="folder of the pictures and the model")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    models.use_threads(1)  # networks this small gain nothing from more

    # Two modalities of two numbers each: m1 is a noisy parabola, m2 a curve made of it.
    train, test = quadratic_sinusoidal(args.rows, seed=1), quadratic_sinusoidal(1000, seed=2)
    modalities = [ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in ("m1", "m2")]
    config = MMVAEConfig(modalities=tuple(modalities), latent_features=5)
    dataset, epochs = models.Dataset.from_arrays(train), []
    for event in models.fit(config, dataset, TrainingConfig(epochs=args.epochs), seed=1):
        if isinstance(event, models.Epoch):
            epochs.append(event.metrics)
            print(f"epoch {event.epoch}: loss {event.metrics['validation_loss']:.3f} nats on held-out rows")
        elif isinstance(event, models.Finished):
            models.save(event.model, args.out / "mmvae.safetensors", metadata={"data": "quadratic-sinusoidal"})
    predictor = models.load(args.out / "mmvae.safetensors")

    def ask(target: str, *given: str) -> np.ndarray:
        """The mean of `target`, of every test row, with only the modalities `given` shown to the model."""
        present = {name: np.ones(len(test[name]), dtype=bool) for name in given}
        answer = predictor.reconstruct({name: test[name] for name in given}, present, None, targets=[target])
        return answer[target]["mean"]

    for given, target in [("m1", "m2"), ("m2", "m1")]:
        error, spread = np.square(ask(target, given) - test[target]).mean(), test[target].var(axis=0).mean()
        print(f"{target} from {given}: test MSE {error:.4f}, predicting the mean {spread:.4f}")
    m1, m2 = test["m1"], test["m2"]
    rebuilt = {"m1": m1, "m1 rebuilt": ask("m1", "m1", "m2"), "m2": m2, "m2 rebuilt": ask("m2", "m1", "m2")}
    plots.panels(args.out / "mmvae-data.png", dict(train))
    plots.losses(args.out / "mmvae-losses.png", epochs)
    plots.panels(args.out / "mmvae-reconstruction.png", rebuilt)
    plots.panels(args.out / "mmvae-m2-from-m1.png", {"m1": m1, "m2, not shown": m2, "m2 from m1": ask("m2", "m1")})


if __name__ == "__main__":
    main()
