"""Losses against the paper's formulas, worked by hand, and the sums that make accumulation exact."""

import math

import numpy as np
import pytest
import torch

from bertsmith.data import Example, pack
from bertsmith.nn import Causal, Encoder, Full, Layers, Lookup, Model, Position
from bertsmith.nn.attention import Attention
from bertsmith.nn.blocks import AttentionBlock
from bertsmith.nn.feed_forward import FeedForward
from bertsmith.objectives import (
    AnswerSpan,
    CausalLM,
    Losses,
    MaskedLM,
    MultiLabel,
    MultipleChoice,
    NextSentence,
    Objective,
    SequenceLabel,
    SequenceScore,
    TokenLabel,
    View,
)
from bertsmith.objectives.masked_lm import rounded_up


def encoder(vocab_size: int = 37) -> Encoder.Config:
    block = AttentionBlock.Config(
        attention=Attention.Config(num_attention_heads=2, dropout=0.0),
        feed_forward=FeedForward.Config(intermediate_size=20),
    )
    return Encoder.Config(
        hidden_size=12,
        channels={"tokens": (Lookup.Config(field="input_ids"), Position.Config(max_position_embeddings=9))},
        layers=(Layers(count=1, block=block),),
        masks={"tokens": Full()},
        vocab_size=vocab_size,
        embedding_dropout=0.0,
    )


def model(*objectives: Objective, vocab_size: int = 37) -> Model:
    heads = {o.kind: o.head() for o in objectives}
    return Model.Config(encoder=encoder(vocab_size), heads=heads).initialized(3).eval()


def example(ids: list[int], labels: dict[int, int] | None = None, **targets: float) -> Example:
    ids_array = np.array(ids)
    tokens = {"input_ids": ids_array, "token_type_ids": np.zeros_like(ids_array)}
    if labels is not None:
        chosen = np.full_like(ids_array, -100)
        for place, label in labels.items():
            chosen[place] = label
        tokens["labels"] = chosen
    return Example(tokens, targets)


def test_the_losses_are_the_papers_worked_by_hand() -> None:
    """L = L1 + L2 (Devlin et al. 2018, §A.2), with scores that a person can follow.

    All weights of both heads are set to zero but the biases, so the masked-LM scores are the vocabulary biases for
    every position, and the next-sentence scores the two biases of its classifier. With three tokens of bias log 1,
    log 2, log 5 their probabilities are 1/8, 2/8 and 5/8; with biases log 3 and log 1 the labels have 3/4 and 1/4.
    """
    objectives = (MaskedLM(), NextSentence())
    hand = model(*objectives, vocab_size=3)
    with torch.no_grad():
        for parameter in hand.heads.parameters():
            parameter.zero_()
        hand.heads["masked_lm"].bias.copy_(torch.tensor([1.0, 2.0, 5.0]).log())
        hand.heads["next_sentence"].classifier.bias.copy_(torch.tensor([3.0, 1.0]).log())
    batch = pack(
        [
            example([0, 1, 2, 1], {1: 0, 3: 2}, next_sentence_label=0),
            example([2, 0, 1], {2: 1}, next_sentence_label=1),
        ],
        length=9,
        pad_id=0,
    )
    losses = Losses(hand, objectives)(batch)
    first = -(math.log(1 / 8) + math.log(5 / 8) + math.log(2 / 8)) / 3
    second = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    masked, following = losses["masked_lm"], losses["next_sentence"]
    assert (masked.count, following.count) == (3, 2)
    assert masked.total.item() / masked.count == pytest.approx(first, abs=1e-6)
    assert following.total.item() / following.count == pytest.approx(second, abs=1e-6)
    assert masked.correct is not None and masked.correct.item() == 1  # only the label 2 has the largest bias
    assert following.correct is not None and following.correct.item() == 1


def test_a_batch_is_the_sum_of_its_sequences() -> None:
    """Packed together or alone: the totals and counts add up, so micro-batches can."""
    objectives = (MaskedLM(), NextSentence())
    one = example([5, 9, 4, 30, 2], {1: 9, 3: 7}, next_sentence_label=1)
    two = example([5, 11, 36], {2: 8}, next_sentence_label=0)
    trained = model(*objectives)
    together = Losses(trained, objectives)(pack([one, two], length=9, pad_id=0))
    apart = [Losses(trained, objectives)(pack([e], length=9, pad_id=0)) for e in (one, two)]
    for name, loss in together.items():
        assert loss.count == sum(a[name].count for a in apart)
        assert loss.total.item() == pytest.approx(sum(a[name].total.item() for a in apart), rel=1e-5)


def test_labels_that_are_ignored_do_not_move_the_loss() -> None:
    trained = model(MaskedLM())
    batch = pack([example([5, 9, 4, 30, 2], {1: 9})], length=9, pad_id=0)
    before = Losses(trained, [MaskedLM()])(batch)["masked_lm"]
    assert before.count == 1
    scores = trained.heads["masked_lm"](trained(batch).at(torch.tensor([1])), trained.encoder.token_table.weight)
    assert before.total.item() == pytest.approx(-scores.log_softmax(-1)[0, 9].item(), rel=1e-6)


def test_sequence_objectives() -> None:
    label, score = SequenceLabel(num_labels=3, dropout=0.0), SequenceScore(dropout=0.0)
    batch = pack([example([5, 9], label=2), example([5, 7, 1], label=0)], length=9, pad_id=0)
    classified = model(label)
    scores = classified.heads["sequence_label"](classified(batch).pooled)
    expected = -scores.log_softmax(-1)[[0, 1], [2, 0]].sum().item()
    assert Losses(classified, [label])(batch)["sequence_label"].total.item() == pytest.approx(expected, rel=1e-6)
    scored = model(score)
    batch = pack([example([5, 9], label=2.5), example([5, 7, 1], label=-1.0)], length=9, pad_id=0)
    values = scored.heads["sequence_score"](scored(batch).pooled)[:, 0]
    expected = ((values - torch.tensor([2.5, -1.0])) ** 2).sum().item()
    assert Losses(scored, [score])(batch)["sequence_score"].total.item() == pytest.approx(expected, rel=1e-6)


def test_objectives_with_another_view_get_a_pass_of_their_own() -> None:
    """A causal view must not see what comes later; the bidirectional one in the same step must."""
    causal = MaskedLM(view=View(masks=(("tokens", Causal()),)))
    trained = model(causal)

    def loss(objective: MaskedLM, last: int) -> float:
        batch = pack([example([5, 9, 4, last], {1: 9})], length=9, pad_id=0)
        return Losses(trained, [objective])(batch)["masked_lm"].total.item()

    assert loss(causal, 30) == loss(causal, 31)
    assert loss(MaskedLM(), 30) != loss(MaskedLM(), 31)


def test_a_model_without_a_pooler_says_so() -> None:
    bare = Model.Config(encoder=encoder(), pooler=False, heads={"next_sentence": NextSentence().head()}).initialized(0)
    with pytest.raises(ValueError, match="no pooler"):
        Losses(bare, [NextSentence()])(pack([example([5, 9], next_sentence_label=0)], length=9, pad_id=0))


def test_several_labels_are_decided_one_by_one() -> None:
    several = MultiLabel(num_labels=2, dropout=0.0)
    batch = pack([example([5, 9], label_0=1, label_1=0), example([5, 7, 1], label_0=0, label_1=0)], length=9, pad_id=0)
    trained = model(several)
    shares = trained.heads["multi_label"](trained(batch).pooled).sigmoid()
    right = torch.stack([shares[0, 0], 1 - shares[0, 1], 1 - shares[1, 0], 1 - shares[1, 1]])
    found = Losses(trained, [several])(batch)["multi_label"]
    assert (found.count, found.total.item()) == (2, pytest.approx(-right.log().sum().item() / 2, rel=1e-5))


def test_choices_have_any_number_of_options() -> None:
    choice = MultipleChoice(dropout=0.0)
    options = [
        example([5, 9], option=0, right=0),
        example([5, 7, 1], option=1, right=1),
        *(example([5, 30 + i], option=i, right=int(i == 2)) for i in range(3)),
    ]
    batch = pack(options, length=9, pad_id=0)
    trained = model(choice)
    scores = trained.heads["multiple_choice"](trained(batch).pooled)[:, 0]
    expected = -scores[:2].log_softmax(0)[1] - scores[2:].log_softmax(0)[2]
    found = Losses(trained, [choice])(batch)["multiple_choice"]
    assert (found.count, found.total.item()) == (2, pytest.approx(expected.item(), rel=1e-5))
    found.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in trained.parameters() if p.grad is not None)


def test_words_are_labelled_at_their_first_token() -> None:
    tags = TokenLabel(num_labels=4, dropout=0.0)
    batch = pack([example([5, 9, 4, 2], {1: 3}), example([5, 7, 1], {1: 0, 2: 1})], length=9, pad_id=0)
    trained = model(tags)
    shares = trained.heads["token_label"](trained(batch).at(batch.token_positions)).log_softmax(-1)
    found = Losses(trained, [tags])(batch)["token_label"]
    expected = -(shares[1, 3] + shares[5, 0] + shares[6, 1])
    assert (found.count, found.total.item()) == (3, pytest.approx(expected.item(), rel=1e-5))


def test_answers_begin_and_end_inside_their_own_sequence() -> None:
    spans = AnswerSpan()
    batch = pack([example([5, 9, 4], start=1, end=2), example([5, 7, 1, 2, 8], start=0, end=0)], length=9, pad_id=0)
    trained = model(spans)
    scores = trained.heads["answer_span"](trained(batch).at(batch.token_positions))
    one, two = scores[:3].log_softmax(0), scores[3:].log_softmax(0)
    found = Losses(trained, [spans])(batch)["answer_span"]
    expected = -(one[1, 0] + one[2, 1] + two[0, 0] + two[0, 1]) / 2
    assert (found.count, found.total.item()) == (2, pytest.approx(expected.item(), rel=1e-5))
    found.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in trained.parameters() if p.grad is not None)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_a_head_scores_numbers_of_positions_that_come_again(count: int) -> None:
    """As many as there are, and the last one again: what is no multiple of 64 is made one."""
    positions = torch.arange(3, 3 + count)
    asked = rounded_up(positions)
    assert len(asked) % 64 == 0 and len(asked) - count < 64
    assert asked[:count].equal(positions)
    assert set(asked.tolist()) == set(positions.tolist())


def test_what_comes_next_is_asked_of_every_token_but_the_last() -> None:
    """By hand as above: biases log 1, log 2, log 5, so each next token costs -log of its eighths, [SEP] (here 1) included."""
    objective = CausalLM()
    hand = model(objective, vocab_size=3)
    with torch.no_grad():
        for parameter in hand.heads.parameters():
            parameter.zero_()
        hand.heads["causal_lm"].bias.copy_(torch.tensor([1.0, 2.0, 5.0]).log())
    batch = pack([example([0, 2, 2, 1]), example([0, 1]), example([0, 0, 2])], length=9, pad_id=0)
    found = Losses(hand, (objective,))(batch)["causal_lm"]
    assert found.count == objective.count(batch) == 6
    assert found.total.item() == pytest.approx(-sum(math.log(n / 8) for n in (5, 5, 2, 2, 1, 5)), abs=1e-5)


def test_a_causal_model_is_told_nothing_of_what_comes() -> None:
    """A later token changes the loss of its own guess and of those behind it, never that of one before."""
    objective = CausalLM()
    reader = model(objective)

    def losses(ids: list[int]) -> list[float]:
        totals = [
            Losses(reader, (objective,))(pack([example(ids[: end + 1])], length=9, pad_id=0))["causal_lm"].total.item()
            for end in range(1, len(ids))
        ]
        return [after - before for before, after in zip([0.0, *totals], totals, strict=False)]

    before, after = losses([1, 7, 8, 9, 11, 2]), losses([1, 7, 8, 30, 11, 2])
    whole = [example([1, 7, 8, 30, 11, 2]), example([1, 7, 8])]
    assert before[:2] == after[:2]
    assert before[2] != after[2]
    together = Losses(reader, (objective,))(pack(whole, length=9, pad_id=0))["causal_lm"].total.item()
    assert together == pytest.approx(sum(after) + sum(after[:2]), abs=1e-4)
