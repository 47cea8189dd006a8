"""Models of transformers' other classes predict as they come, and say what transformers would."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import bertsmith
from bertsmith.tasks import Words

QUESTION, CONTEXT = "Who wrote the first program?", "Ada Lovelace wrote it in 1843, unbelievably early."
Foreign = Callable[..., tuple[Any, torch.nn.Module]]


@pytest.fixture
def foreign(minilm_path: Path, tmp_path: Path, random_model: Callable[..., torch.nn.Module]) -> Foreign:
    """A random model of a class, loaded by us, and itself."""

    def make(name: str, **settings: Any) -> tuple[Any, torch.nn.Module]:
        reference = random_model(name, **settings).eval()
        reference.save_pretrained(tmp_path)
        shutil.copy(minilm_path / "vocab.txt", tmp_path)
        return bertsmith.load(tmp_path), reference

    return make


@pytest.fixture(scope="module")
def tokenizer(minilm_path: Path) -> Any:
    return transformers.BertTokenizer(vocab=str(minilm_path / "vocab.txt"))


@torch.inference_mode()
def test_a_tagger(foreign: Foreign, tokenizer: Any) -> None:
    labels = ["NOUN", "VERB", "X"]  # of no scheme, so that each word has its likeliest label
    model, reference = foreign("BertForTokenClassification", id2label=dict(enumerate(labels)))
    assert model.checkpoint.task == {"kind": "tag", "labels": labels}
    words = CONTEXT.split()
    inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    shares = reference(**inputs).logits[0].softmax(-1)
    first = [inputs.word_ids().index(number) for number in range(len(words))]
    (found,) = model.predict([Words.joined(words)])
    assert [word.tag for word in found.words] == [labels[i] for i in shares[first].argmax(-1).tolist()]
    assert [word.probability for word in found.words] == pytest.approx(shares[first].max(-1).values.tolist(), abs=1e-5)


@torch.inference_mode()
def test_answers(foreign: Foreign, tokenizer: Any) -> None:
    """The best of all spans of the context, tried one by one."""
    model, reference = foreign("BertForQuestionAnswering")
    assert model.checkpoint.task == {"kind": "span"}
    inputs = tokenizer(QUESTION, CONTEXT, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    output = reference(**inputs)
    begin, end = inputs["token_type_ids"][0].tolist().index(1), len(offsets) - 1
    scores = {
        (i, j): (output.start_logits[0, i] + output.end_logits[0, j]).item()
        for i in range(begin, end)
        for j in range(i, end)
    }
    i, j = max(scores, key=scores.__getitem__)
    (found,) = model.predict([(QUESTION, CONTEXT)])
    assert (found.answer.start, found.answer.end) == (offsets[i][0], offsets[j][1])
    assert found.answer.text == CONTEXT[offsets[i][0] : offsets[j][1]]


@torch.inference_mode()
def test_choices(foreign: Foreign, tokenizer: Any) -> None:
    model, reference = foreign("BertForMultipleChoice")
    assert model.checkpoint.task == {"kind": "choice"}
    options = ["Ada.", "Nobody at all.", "It was Charles Babbage."]
    inputs = tokenizer([QUESTION] * 3, options, padding=True, return_tensors="pt")
    shares = reference(**{name: tensor[None] for name, tensor in inputs.items()}).logits[0].softmax(-1)
    (found,) = model.predict([(QUESTION, *options)])
    assert list(found.probabilities.values()) == pytest.approx(shares.tolist(), abs=1e-5)
