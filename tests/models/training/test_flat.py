"""All parameters as one vector."""

import torch

from models.architectures import build
from models.training.flat import FlatParameters
from tests.models.training.small import two


def test_parameters_and_gradients_are_views_of_one_vector_and_its_gradient() -> None:
    model = build(two())
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    flat = FlatParameters(model)
    (vector,) = flat.vectors
    assert flat.vector is vector
    assert vector.grad is not None
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is not None
        assert parameter.untyped_storage().data_ptr() == vector.untyped_storage().data_ptr()
        assert parameter.grad.untyped_storage().data_ptr() == vector.grad.untyped_storage().data_ptr()
        assert parameter.data_ptr() % 64 == vector.data_ptr() % 64
    views = flat.views(flat.gradients)
    torch.stack([parameter.square().sum() for parameter in model.parameters()]).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(views[name], 2 * parameter.detach())


def test_the_vector_is_not_a_parameter_of_the_model() -> None:
    model = build(two())
    names = list(model.state_dict())
    FlatParameters(model)
    assert list(model.state_dict()) == names


def test_parameters_of_several_types_are_several_vectors() -> None:
    model = build(two())
    model.decoders.double()
    flat = FlatParameters(model)
    assert {vector.dtype for vector in flat.vectors} == {torch.float32, torch.float64}
    assert flat.vector is None
    assert list(flat.views(flat.vectors)) == [name for name, _ in model.named_parameters()]


def test_released_parameters_have_separate_memory_and_no_gradient() -> None:
    model = build(two())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FlatParameters(model).release()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for parameter in model.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.nbytes
        assert parameter.grad is None
