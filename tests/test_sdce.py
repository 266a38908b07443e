"""SDCE against loops in every order and for both queries; its tokens, heads, gradients."""

import numpy as np
import pytest
import torch

from icre.modeling.sdce import ORDERS, QUERIES, SDCE, to_map, to_tokens
from icre.utils.errors import UserError
from reference.enhance_oracle import as_arrays, sdce_loops
from small_model import randomise_norms


def some_sdce(dim: int = 8, heads: int = 2, **options: str) -> SDCE:
    torch.manual_seed(0)
    sdce = SDCE(in_channels=10, dim=dim, heads=heads, ffn_ratio=2.0, **options)
    randomise_norms(sdce)
    return sdce.eval()


@pytest.mark.parametrize(
    "heads, query, order",
    [
        (1, "deep", "cascade"),
        (4, "deep", "cascade"),
        *((2, query, order) for query in QUERIES for order in ORDERS),
    ],
)
def test_sdce_equals_loops(heads, query, order):
    sdce = some_sdce(heads=heads, query=query, order=order)
    deep, clues = torch.randn(2, 10, 3, 2), torch.randn(2, 8, 3, 2)
    expected = sdce_loops(
        deep.double().numpy(), clues.double().numpy(), as_arrays(sdce), heads, query, order
    )
    np.testing.assert_allclose(sdce(deep, clues).detach().numpy(), expected, atol=1e-4)


def test_orders_by_hand():
    # both attentions and feed-forwards silent: what is left is T, or T + U
    expected = {
        ("cascade", "deep"): 2,
        ("cross", "clue"): 5,
        ("self", "deep"): 7,
        ("self", "clue"): 7,
        ("parallel", "deep"): 2,
    }
    deep, clues = torch.full((1, 1, 2, 1), 2.0), torch.full((1, 1, 2, 1), 5.0)
    for (order, query), value in expected.items():
        sdce = SDCE(in_channels=1, dim=1, heads=1, query=query, order=order)
        for parameter in sdce.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.ones_(sdce.deep_proj.weight)
        assert sdce(deep, clues).unique() == value


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("order", ORDERS)
def test_every_parameter_of_an_order_is_used(query, order):
    sdce = some_sdce(query=query, order=order)
    sdce(torch.randn(2, 10, 3, 2), torch.randn(2, 8, 3, 2)).square().sum().backward()
    assert [n for n, p in sdce.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    "options, key",
    [
        ({"query": "both"}, r"MODEL\.SDCE\.QUERY.*'both'.*deep, clue"),
        ({"order": "twice"}, r"MODEL\.SDCE\.ORDER.*'twice'.*cascade, cross, self"),
    ],
)
def test_unknown_options_list_the_names(options, key):
    with pytest.raises(UserError, match=key):
        some_sdce(**options)


def test_tokens_and_maps_are_inverse():
    x = torch.randn(2, 3, 4, 5)
    assert to_tokens(x).shape == (2, 20, 3)
    assert torch.equal(to_tokens(x)[1, 7], x[1, :, 1, 2])
    assert torch.equal(to_map(to_tokens(x), (4, 5)), x)


def test_an_image_attends_only_to_itself():
    deep, clues, sdce = torch.randn(3, 10, 3, 2), torch.randn(3, 8, 3, 2), some_sdce()
    together = sdce(deep, clues)
    alone = torch.cat([sdce(deep[i : i + 1], clues[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_clues_change_the_result():
    deep, sdce = torch.randn(1, 10, 3, 2), some_sdce()
    one, two = (sdce(deep, torch.randn(1, 8, 3, 2)) for _ in range(2))
    assert (one - two).abs().max() > 0.01


@pytest.mark.parametrize("options", [{}, {"query": "clue", "order": "parallel"}])
def test_gradient_of_sdce_in_float64(options):
    sdce = some_sdce(dim=4, **options).double()
    deep = torch.randn(1, 10, 2, 1, dtype=torch.float64, requires_grad=True)
    clues = torch.randn(1, 4, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sdce, (deep, clues))


def test_heads_that_do_not_divide_are_named():
    with pytest.raises(UserError, match=r"MODEL\.SDCE\.HEADS 8 .*DIM 100"):
        SDCE(in_channels=10, dim=100, heads=8)


def test_dropout_acts_in_training_only():
    sdce = SDCE(in_channels=10, dim=8, heads=2, dropout=0.5)
    deep, clues = torch.randn(1, 10, 3, 2), torch.randn(1, 8, 3, 2)
    assert not torch.equal(sdce(deep, clues), sdce(deep, clues))
    assert torch.equal(sdce.eval()(deep, clues), sdce(deep, clues))
