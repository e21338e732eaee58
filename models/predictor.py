"""A trained model that takes and returns NumPy arrays. The service uses models through it alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models import generation, imputation, ops
from models.architectures import Model
from models.arrays import Arrays, to_arrays, to_batch, to_tensor
from models.batch import Batch, BatchError
from models.config import MMVAEConfig, MMVRNNConfig
from models.config.conditional import LACKING
from models.imputation import NoConditional
from models.io import bundle, checkpoint
from models.io.checkpoint import CheckpointError
from models.io.manifests import ARTIFACT
from models.mmvae import MMVAE
from models.mmvrnn import MMVRNN
from models.multimodal import NO_PARTS, Parts
from models.ops import Backend, elbo, posterior
from models.ops.explain import Served, explain


class Latent(NamedTuple):
    """Mean and standard deviation of q(z | inputs): (B, Z) or (B, T, Z) each.

    state: (B, F), the state from which the sequence's next piece continues; None for samples, and for models that
    smooth.
    """

    mean: np.ndarray
    standard_deviation: np.ndarray
    state: np.ndarray | None


class Score(NamedTuple):
    """The evidence lower bound in nats and its parts: (B,) for samples, (B, T) for the steps of sequences.

    bound = sum over m of log_likelihood[m] - kl. log_likelihood: name -> expected log p(x_m | z) of each given
    modality, 0 where it is absent. kl: KL(q(z | inputs) || p(z)).
    """

    bound: np.ndarray
    log_likelihood: dict[str, np.ndarray]
    kl: np.ndarray


class Predictor:
    """Inference for batches whose rows have any subset of the modalities. Several threads may share it.

    values: name -> (B, *shape) or (B, T, *shape). present: name -> (B,) or (B, T) bool, or one bool per element in the
    shape of the values; it has the keys of `values`. Numbers in absent places never matter. lengths: (B,) for
    sequences, None if all have T steps. A modality that is not in `values` is absent everywhere. Rows with different
    subsets share a batch, and a row's answer does not depend on the other rows. Answers at padding steps have no
    meaning. Raises `models.batch.BatchError` for values that do not fit.

    state: (B, F), from the answer for the sequences' earlier steps; None at their beginning. A sequence that comes in
    pieces gets the same answers as the whole sequence. Models that smooth need the whole sequence and refuse a state.

    n_samples = 0 uses the posterior mean. n_samples = S > 0 averages over S draws of the latent code. The draws depend
    on `seed` alone and are the same for each row: an answer does not depend on the row's place in the batch, and step t
    does not depend on the padding.
    """

    def __init__(self, model: Model) -> None:
        self._model = model.eval()
        self._kernel = posterior.kernel(model)

    @property
    def config(self) -> MMVAEConfig | MMVRNNConfig:
        """Architecture and modalities of the model."""
        return self._model.config

    @property
    def kernels(self) -> tuple[Served, ...]:
        """What computes each operation of the model."""
        return explain(self._model, next(self._model.parameters()).device)

    @property
    def memory_bytes(self) -> int:
        """The size of the weights and buffers."""
        tensors = [*self._model.parameters(), *self._model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def warm_up(self, rows: int = 1, steps: int = 2) -> None:
        """Answer once for made-up values: the first request then waits for no memory page and no choice of kernels."""
        lead = (rows,) if self.config.kind == "static" else (rows, steps)
        values = {
            modality.name: np.full((*lead, *modality.shape), modality.support.inside, modality.dtype)
            for modality in self.config.modalities
        }
        present = {name: np.ones(lead, dtype=bool) for name in values}
        self.encode(values, present)
        self.reconstruct(values, present, None, list(values))

    def encode(
        self,
        values: Arrays,
        present: Arrays,
        lengths: np.ndarray | None = None,
        state: np.ndarray | None = None,
    ) -> Latent:
        """Posterior mean and standard deviation of the latent codes."""
        kernel = self._kernel
        if isinstance(self._model, MMVAE) and lengths is None and state is None:
            reason = kernel if isinstance(kernel, str) else kernel.declines(values, present)
            if ops.serves("posterior", reason, self._model.backend) and not isinstance(kernel, str):
                return Latent(*kernel(values, present), None)
        return self._encode(values, present, lengths, state)

    @torch.inference_mode()
    def _encode(
        self,
        values: Arrays,
        present: Arrays,
        lengths: np.ndarray | None,
        state: np.ndarray | None,
    ) -> Latent:
        inputs = self._batch(values, present, lengths)
        start = self._state(state, inputs)
        model = self._model
        if isinstance(model, MMVAE):
            latent = model.encode(inputs)
            return Latent(latent.mean.numpy(), latent.standard_deviation.numpy(), None)
        trajectory = model.infer(model.evidence(inputs), None, start)
        mean, deviation = model.moments(trajectory)
        last = None if model.smoother else model.final_state(trajectory, inputs).numpy()
        return Latent(mean.numpy(), deviation.numpy(), last)

    @torch.inference_mode()
    def reconstruct(
        self,
        values: Arrays,
        present: Arrays,
        lengths: np.ndarray | None,
        targets: Sequence[str],
        n_samples: int = 0,
        seed: int = 0,
        state: np.ndarray | None = None,
    ) -> dict[str, dict[str, np.ndarray]]:
        """The predictive distribution of each target, observed or missing, in the user's units.

        Returns the `outputs` of each likelihood's `Facts`, as `Likelihood.describe` defines them: mean and
        standard_deviation for Gaussian and Laplace, rate and standard_deviation for Poisson and negative binomial,
        probability for Bernoulli, each of the target's shape; for categorical, probabilities (..., K) and category.
        """
        self._known(targets)
        inputs = self._batch(values, present, lengths)
        raws = self._decoded(inputs, targets, n_samples, seed, self._state(state, inputs))
        return {name: to_arrays(self._model.describe(name, raw, inputs.absence(name))) for name, raw in raws.items()}

    @torch.inference_mode()
    def impute(
        self,
        values: Arrays,
        present: Arrays,
        lengths: np.ndarray | None = None,
        *,
        targets: Sequence[str] | None = None,
        draws: int = 0,
        level: float = 0.9,
        seed: int = 0,
        rows: np.ndarray | None = None,
        state: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Complete values of the targets, by default of all modalities: given elements stay, missing ones are filled.

        Returns `completed`, name -> arrays (B, ...) or (B, T, ...), and `calibration`, (B,) int64: how the intervals of
        each row were fitted, as positions in `models.config.calibrations.CALIBRATIONS`. A target has `value`, what
        `reconstruct` answers, and for numbers and counts `lower` and `upper`: the interval in which a missing element
        lies with probability `level`. With `draws` = n > 0 also `draws`, (B, n, ...) or (B, n, T, ...): n joint
        completions of the row. They need a conditional part: `NoConditional` is raised without. `state` is that of
        `Latent`.

        rows: (B,) int64, the number of each row within its own request, by default 0 to B - 1. The random numbers of a
        row are a function of `seed` and its number.
        """
        names = list(self._model.index) if targets is None else list(targets)
        self._known(names)
        if draws < 0 or not 0 < level < 1:
            raise BatchError(f"draws is {draws} and level {level}, expected at least 0, and between 0 and 1")
        inputs, model = self._batch(values, present, lengths), self._model
        start = self._state(state, inputs)
        if model.conditional is not None:
            numbers = np.arange(inputs.rows) if rows is None else rows
            answers, calibration = imputation.joint(model, inputs, names, level, draws, seed, numbers, start)
        elif draws:
            raise NoConditional(f"the model {LACKING}")
        else:
            answers = imputation.marginals(model, inputs, names, level, start)
            calibration = imputation.calibration(model, inputs, names)
        return {
            "completed": {name: to_arrays(answer) for name, answer in answers.items()},
            "calibration": calibration.numpy(),
        }

    @torch.inference_mode()
    def score(
        self,
        values: Arrays,
        present: Arrays,
        lengths: np.ndarray | None = None,
        n_samples: int = 0,
        seed: int = 0,
    ) -> Score:
        """A lower bound of the observed values' log-likelihood: low for unusual values."""
        inputs = self._batch(values, present, lengths)
        noises: Iterable[Tensor | None] = [None]
        if n_samples:
            noises = self._noise(self._model.latent_shape(inputs), n_samples, seed).expand(
                -1, inputs.rows, *[-1] * len(self._model.latent_shape(inputs))
            )
        terms = [elbo.terms(self._model, inputs, inputs, noise) for noise in noises]
        kl = torch.stack([term.kl.sum(dim=-1) for term in terms]).mean(dim=0)
        names = list(terms[0].log_likelihood)
        each = {name: torch.stack([term.log_likelihood[name] for term in terms]).mean(dim=0) for name in names}
        bound = torch.stack(list(each.values())).sum(dim=0) - kl
        return Score(bound.numpy(), to_arrays(each), kl.numpy())

    @torch.inference_mode()
    def forecast(
        self,
        values: Arrays,
        present: Arrays,
        lengths: np.ndarray | None,
        horizon: int,
        targets: Sequence[str],
        n_samples: int = 100,
        seed: int = 0,
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        state: np.ndarray | None = None,
    ) -> dict[str, dict[str, np.ndarray]]:
        """The `horizon` steps after the end of each sequence: what `reconstruct` gives, of shape (B, horizon, ...).

        From S joint draws of the conditional part, as `impute` completes steps that are missing at the end; without
        such a part from S paths that are rolled out: the values drawn at one step are inputs of the next. Numbers and
        counts also have quantiles of the drawn values, (B, horizon, *shape, Q). n_samples = 0 rolls out means and gives
        no quantiles.
        """
        self._known(targets)
        model = self._model
        if isinstance(model, MMVAE):
            raise BatchError("samples have no time steps to forecast, expected a model of sequences")
        if horizon < 1:
            raise BatchError(f"horizon is {horizon}, expected at least 1")
        inputs = self._batch(values, present, lengths)
        start = self._state(state, inputs)
        if n_samples and model.conditional is not None:
            answers = generation.forecast_jointly(model, inputs, start, horizon, targets, n_samples, seed, quantiles)
        else:
            _, last = model.decode_from(inputs, [], None, start)
            answers = generation.forecast(model, last, horizon, targets, n_samples, seed, quantiles)
        return {name: to_arrays(answer) for name, answer in answers.items()}

    @torch.inference_mode()
    def sample(self, rows: int, steps: int | None = None, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Draws from the prior: for each modality a `value`, and the distribution from which it was drawn.

        steps: the length of the sequences, None for samples. Shapes (rows, ...) or (rows, steps, ...).
        """
        if rows < 1 or (steps is not None and steps < 1):
            raise BatchError(f"rows is {rows} and steps {steps}, expected at least 1")
        model = self._model
        if isinstance(model, MMVAE) and steps is None:
            answers = generation.samples(model, rows, seed)
        elif isinstance(model, MMVRNN) and steps is not None:
            answers = generation.sequences(model, rows, steps, seed)
        else:
            raise BatchError(f"steps is {steps} for a model of {self.config.kind} data")
        return {name: to_arrays(answer) for name, answer in answers.items()}

    def _decoded(
        self, inputs: Batch, targets: Sequence[str], n_samples: int, seed: int, state: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Likelihood parameters of each target, (S, B, ...): for S draws, or S = 1 for the posterior mean."""
        model = self._model
        noise = self._noise(model.latent_shape(inputs), n_samples, seed) if n_samples else None
        if isinstance(model, MMVAE):
            return model.decode(inputs, targets, noise)
        return model.decode_from(inputs, targets, noise, state)[0]

    def _known(self, targets: Sequence[str]) -> None:
        known = {modality.name for modality in self.config.modalities}
        if unknown := [name for name in targets if name not in known]:
            raise BatchError(f"targets has {', '.join(unknown)}, expected some of {', '.join(sorted(known))}")

    def _state(self, state: np.ndarray | None, inputs: Batch) -> Tensor | None:
        if state is None:
            return None
        model = self._model
        if isinstance(model, MMVAE) or model.smoother is not None:
            raise BatchError("a state is given, but this model sees each sequence as a whole")
        expected = (inputs.rows, model.recurrence.state_features)
        if state.shape != expected:
            raise BatchError(f"state has shape {state.shape}, expected {expected}")
        return to_tensor(state, np.float32)

    def _batch(self, values: Arrays, present: Arrays, lengths: np.ndarray | None) -> Batch:
        return to_batch(self.config.modalities, self.config.kind, values, present, lengths)

    def _noise(self, latent_shape: tuple[int, ...], n_samples: int, seed: int) -> Tensor:
        """(S, 1, Z) or (S, 1, T, Z). Drawn step by step, so that padding changes no earlier number."""
        *steps, features = latent_shape
        noise = np.random.default_rng(seed).standard_normal((*steps, n_samples, features), dtype=np.float32)
        return torch.from_numpy(np.moveaxis(noise, -2, 0)).unsqueeze(1)


def load(path: Path, parts: Parts = NO_PARTS, backend: Backend = "auto") -> Predictor:
    """The predictor of a checkpoint, or of a bundle.

    Raises `models.CheckpointError` when the file is neither, and `models.BundleError` for a damaged bundle.
    parts: the custom modules that the model was built with. backend: as in `models.build`.
    """
    if not bundle.is_bundle(path):
        return Predictor(checkpoint.load(path, parts, backend))
    with TemporaryDirectory(prefix="sensorium-", ignore_cleanup_errors=True) as folder:
        artifact = Path(folder) / ARTIFACT
        with artifact.open("wb") as file:
            bundle.extract(path, file)
        try:
            return Predictor(checkpoint.load(artifact, parts, backend))
        except CheckpointError as error:
            raise CheckpointError(f"{path.name}: {error}") from error
