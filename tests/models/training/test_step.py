"""One training step."""

import pytest
import torch
from torch import Tensor, nn

from models.config import MLPConfig, TrainingConfig
from models.mmvae import MMVAE
from models.multimodal import Parts
from models.training.distributed import Group
from models.training.step import Trainer, draws_random_numbers
from tests.models.small import sequence_model, static_config, static_model


class Noisy(nn.Linear):
    def forward(self, value: Tensor) -> Tensor:
        return super().forward(value) + torch.randn(())


@pytest.mark.parametrize("activation", ["silu", "relu", "gelu", "elu", "leaky_relu", "tanh"])
def test_networks_without_dropout_draw_no_random_numbers(activation: str) -> None:
    model = static_model(network=MLPConfig(hidden_features=(3,), activation=activation, normalisation="layer"))
    before = torch.get_rng_state()
    model.train().encoders[0](torch.zeros(2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert not draws_random_numbers(model)


def test_dropout_and_custom_modules_may_draw_random_numbers() -> None:
    assert draws_random_numbers(static_model(network=MLPConfig(hidden_features=(3,), dropout=0.1)))
    assert draws_random_numbers(sequence_model(network=MLPConfig(hidden_features=(3,), dropout=0.1)))
    assert draws_random_numbers(MMVAE(static_config(), Parts(encoders={"audio": Noisy(3, 8)})))


def test_a_model_has_the_vector_of_its_parameters_while_it_is_trained() -> None:
    model = static_model()
    trainer = Trainer(model, TrainingConfig(), Group(), 0, 1.0)
    assert model.parameter_vector is trainer.parameters.vector is not None
    trainer.finish(model.state_dict())
    assert model.parameter_vector is None


def test_a_model_with_parameters_of_several_types_has_no_such_vector() -> None:
    model = static_model()
    model.decoders.double()
    assert Trainer(model, TrainingConfig(), Group(), 0, 1.0).model.parameter_vector is None
