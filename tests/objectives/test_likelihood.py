"""The likelihood and its gradient, against torch's cross-entropy in double precision."""

import pytest
import torch
import torch.nn.functional as F

from bertsmith.objectives.likelihood import negative_log_likelihood


def case(dtype: torch.dtype, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(200, 301, generator=generator) * spread
    labels = torch.randint(0, 301, (200,), generator=generator)
    labels[:50] = scores[:50].argmax(-1)  # some of each: sure and right, sure and wrong
    return scores.to(dtype).requires_grad_(), labels


@pytest.mark.parametrize("spread", [0.0, 3.0, 30.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-3)])
def test_it_is_cross_entropy(dtype: torch.dtype, tolerance: float, spread: float) -> None:
    scores, labels = case(dtype, spread)
    exact = scores.detach().double().requires_grad_()
    expected = F.cross_entropy(exact, labels, reduction="sum")
    (expected / 200).backward()
    loss = negative_log_likelihood(scores, labels)
    (loss.total / loss.count).backward()
    assert loss.total.item() == pytest.approx(expected.item(), rel=max(1e-6, tolerance / 10))
    assert loss.count == 200
    assert loss.correct is not None and loss.correct.item() == (exact.argmax(-1) == labels).sum().item()
    assert scores.grad is not None and exact.grad is not None
    torch.testing.assert_close(scores.grad.double() * 200, exact.grad * 200, rtol=tolerance * 2, atol=tolerance)


def test_a_gradient_serves_once() -> None:
    scores, labels = case(torch.float32)
    total = negative_log_likelihood(scores, labels).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used already"):
        total.backward()


def test_not_a_number_is_not_hidden() -> None:
    scores = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    assert negative_log_likelihood(scores, torch.tensor([0, 1])).total.isnan()


def test_rows_behind_those_of_the_labels_count_for_nothing() -> None:
    scores, labels = case(torch.float32)
    few = labels[:130]
    losses = [negative_log_likelihood(scores, few), negative_log_likelihood(scores[:130], few)]
    assert losses[0].total.equal(losses[1].total)
    assert losses[0].count == losses[1].count == 130
    assert losses[0].correct is not None and losses[1].correct is not None
    assert losses[0].correct.equal(losses[1].correct)
    gradients = [torch.autograd.grad(loss.total, scores)[0] for loss in losses]
    assert gradients[0].equal(gradients[1])
    assert not gradients[0][130:].any() and gradients[0][:130].any(1).all()
