"""The recurrence of Mamba, in both of its forms, and the mixer that reads from both ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from varfm.models import mamba
from varfm.models.mamba import BiMamba, MambaSizes, Steps, scan_by_step, scan_in_blocks

FORMS = {"by step": scan_by_step, "in blocks": scan_in_blocks}
SIZES = MambaSizes(width=6, n_inner=10, n_states=3, rank=2, kernel=4)


def drawn_steps(n_steps: int, n: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Steps, Tensor, Tensor]:
    """Give steps, rates and a state; five channels with three states."""
    generator = torch.Generator().manual_seed(n_steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    size = normal(n, n_steps, 5).exp() * 0.1
    steps = Steps(size, size * normal(n, n_steps, 5), normal(n, n_steps, 3), normal(n, n_steps, 3))
    return steps, -normal(n, 3, 5).exp(), normal(n, 3, 5)


def mixer(dtype: torch.dtype = torch.float64) -> BiMamba:
    torch.manual_seed(0)
    return BiMamba(SIZES).to(dtype).requires_grad_(False)


def values(n_tokens: int, n: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, n_tokens, SIZES.width, generator=torch.Generator().manual_seed(n_tokens), dtype=dtype)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_state_that_halves_at_each_step_gives_halves(form: str) -> None:
    one = torch.ones(1, 4, 1)
    drive = torch.tensor([[[8.0], [0.0], [0.0], [16.0]]])
    with torch.inference_mode():
        found, state = FORMS[form](Steps(one, drive, one, one), torch.tensor([[[-1.0]]]), torch.zeros(1, 1, 1))
    assert found[0, :, 0].tolist() == [8, 4, 2, 17]
    assert state.item() == 17


@pytest.mark.parametrize("n_steps", [1, 2, 3, 16, 17, 130])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 3e-6)], ids=["64", "32"])
def test_both_forms_give_the_same(n_steps: int, dtype: torch.dtype, tolerance: float) -> None:
    given = drawn_steps(n_steps, dtype=dtype)
    with torch.inference_mode():
        found, state = scan_by_step(*given)
        others, other_state = scan_in_blocks(*given)
    assert (found - others).abs().max() <= tolerance * found.abs().max()
    assert (state - other_state).abs().max() <= tolerance * state.abs().max()


@pytest.mark.parametrize("form", sorted(FORMS))
def test_the_forms_equal_the_formula(form: str) -> None:
    steps, rates, state = drawn_steps(9)
    run = FORMS[form]
    with torch.inference_mode():
        found, _ = run(steps, rates, state)
    for time in range(9):
        size, drive, write, read = (part[:, time] for part in steps)
        state = 2 ** (size[:, None] * rates) * state + write[:, :, None] * drive[:, None]
        torch.testing.assert_close(found[:, time], (read[:, :, None] * state).sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_sequence_in_two_parts_gives_what_it_gives_as_a_whole(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mamba, "_STATES", 4 * 30)  # four steps are held at a time
    run = FORMS[form]
    steps, rates, state = drawn_steps(23)
    with torch.inference_mode():
        whole, last = run(steps, rates, state)
        first, between = run(Steps(*(part[:, :10] for part in steps)), rates, state)
        second, end = run(Steps(*(part[:, 10:] for part in steps)), rates, between)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(end, last, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_gradients_are_those_of_finite_differences(form: str) -> None:
    run = FORMS[form]
    steps, rates, state = drawn_steps(5, n=1)
    given = [part.clone().requires_grad_() for part in (*steps, rates, state)]
    assert torch.autograd.gradcheck(lambda *parts: run(Steps(*parts[:4]), parts[4], parts[5])[0], given)


def test_states_that_fade_at_once_stay_finite() -> None:
    steps, rates, state = drawn_steps(40, dtype=torch.float32)
    with torch.inference_mode():
        found, _ = scan_in_blocks(steps, rates * 1e6, state)
    assert found.isfinite().all()


@pytest.mark.parametrize("n_tokens", [1, 2, 9, 30])
def test_the_piece_that_is_read_at_once_changes_nothing(n_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = mixer(), values(n_tokens, 2)
    whole = network(given)
    for piece in (1, 2, 7):
        monkeypatch.setattr(mamba, "PIECE", piece)
        torch.testing.assert_close(network(given), whole, rtol=1e-12, atol=1e-14)


def test_directions_that_change_places_read_the_turned_sequence() -> None:
    network, given = mixer(), values(20)
    expected = network(given).flip(1)
    network.mamba_fwd, network.mamba_rev = network.mamba_rev, network.mamba_fwd
    found = network(given.flip(1))
    assert (network(given) - expected.flip(1)).abs().max() > 0.01 * expected.abs().max()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_every_output_depends_on_every_input() -> None:
    network, given = mixer(), values(12)
    for place in (0, 5, 11):
        other = given.clone()
        other[0, place] += 1
        assert ((network(other) - network(given)).abs().amax(-1) > 0).all()


@pytest.mark.parametrize("name", ["in_proj", "out_proj"])
def test_projections_of_one_direction_can_be_changed_alone(name: str) -> None:
    network, given = mixer(), values(12)
    shared = network(given)
    layer = torch.nn.Linear(*getattr(network.mamba_rev, name).weight.T.shape, bias=False, dtype=torch.float64)
    layer.weight = torch.nn.Parameter(getattr(network.mamba_fwd, name).weight.clone(), requires_grad=False)
    setattr(network.mamba_rev, name, layer)
    torch.testing.assert_close(network(given), shared, rtol=1e-12, atol=1e-14)
    layer.weight *= 2
    assert (network(given) - shared).abs().max() > 0.01 * shared.abs().max()


def test_gradients_reach_every_parameter() -> None:
    network = mixer().requires_grad_()
    network(values(8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [512, 4096])
def test_the_forms_differ_by_little_at_the_published_sizes(n_steps: int) -> None:
    torch.manual_seed(0)
    size, drive = torch.rand(1, n_steps, 512) * 0.1, torch.randn(1, n_steps, 512)
    steps = Steps(size, size * drive, torch.randn(1, n_steps, 16), torch.randn(1, n_steps, 16))
    rates, state = -torch.rand(1, 16, 512) * 16, torch.zeros(1, 16, 512)
    with torch.inference_mode():
        found, others = scan_by_step(steps, rates, state)[0], scan_in_blocks(steps, rates, state)[0]
    assert (found - others).abs().max() <= 3e-6 * found.abs().max()
