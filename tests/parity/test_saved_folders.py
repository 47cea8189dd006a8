"""A folder that bertsmith wrote, opened by transformers and by sentence-transformers as it is."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.data import Example, pack, pad
from bertsmith.recipes import bert
from bertsmith.text import Tokenizer

Theirs = Callable[[list[Example]], dict[str, torch.Tensor]]

MASKED_LM = {"masked_lm": nn.MaskedLMHead.Config()}
NEXT_SENTENCE = {"next_sentence": nn.SequenceHead.Config(num_labels=2, dropout=0.0)}


@pytest.fixture(scope="module")
def tokenizer(minilm_path: Path) -> Tokenizer:
    return Tokenizer.load(minilm_path)


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Checkpoint]:
    """Save a small random model with the given heads, and load it again."""

    def make(heads: dict[str, nn.Head.Config], *, pooler: bool = True, **parts: object) -> Checkpoint:
        encoder = bert.encoder(36, 3, 4)
        config = nn.Model.Config(
            encoder=nn.Encoder.Config(
                **{**vars(encoder), "vocab_size": len(tokenizer.vocabulary), "initializer_range": 0.2}
            ),
            pooler=pooler,
            heads=heads,
        )
        model = config.initialized(seed=1)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        path = save_model(tmp_path / "saved", Checkpoint(model=model, tokenizer=tokenizer, **parts))
        return load_model(path)

    return make


def load_strictly(name: str, path: Path) -> torch.nn.Module:
    """The model of a class of transformers, which must find exactly the tensors that it expects."""
    model, report = getattr(transformers, name).from_pretrained(path, output_loading_info=True)
    assert {key: list(value) for key, value in report.items() if value} == {}
    assert type(model).__name__ == name
    return model.eval()


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "heads", "pooler"),
    [
        ("BertModel", {}, True),
        ("BertForMaskedLM", MASKED_LM, False),
        ("BertForNextSentencePrediction", NEXT_SENTENCE, True),
        ("BertForPreTraining", MASKED_LM | NEXT_SENTENCE, True),
    ],
)
def test_transformers_loads_exactly_these_tensors(
    saved: Callable[..., Checkpoint],
    sequences: list[Example],
    theirs: Theirs,
    name: str,
    heads: dict[str, nn.Head.Config],
    pooler: bool,
) -> None:
    ours = saved(heads, pooler=pooler)
    reference = load_strictly(name, ours.path)
    assert reference.dtype == torch.float32
    batch = pad(sequences, pad_id=0)
    with torch.inference_mode():
        expected = reference(**theirs(sequences))
        output = ours.model(batch)
        if name == "BertModel":
            assert_near(output.pooled, expected.pooler_output)
        if "masked_lm" in heads:
            scores = ours.model.heads["masked_lm"](output.streams["tokens"], ours.model.encoder.token_table.weight)
            logits = expected.prediction_logits if "next_sentence" in heads else expected.logits
            assert_near(scores[batch.attention_mask], logits[batch.attention_mask])
        if "next_sentence" in heads:
            logits = expected.seq_relationship_logits if "masked_lm" in heads else expected.logits
            assert_near(ours.model.heads["next_sentence"](output.pooled), logits)


def test_auto_model_of_a_pretrained_folder(
    saved: Callable[..., Checkpoint], sequences: list[Example], theirs: Theirs
) -> None:
    """AutoModel takes the encoder and the pooler, and leaves the heads."""
    ours = saved(MASKED_LM | NEXT_SENTENCE)
    reference, report = transformers.AutoModel.from_pretrained(ours.path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert all(name.startswith("cls.") for name in report["unexpected_keys"])
    batch = pack(sequences, length=50, pad_id=0)
    with torch.inference_mode():
        assert_near(ours.model(batch).pooled, reference.eval()(**theirs(sequences)).pooler_output)


@pytest.mark.parametrize(
    ("head", "labels", "problem"),
    [
        ("sequence_label", ["negative", "neutral", "positive"], "single_label_classification"),
        ("sequence_score", None, "regression"),
        ("multi_label", ["a", "b"], "multi_label_classification"),
    ],
)
def test_a_classifier_keeps_its_labels(
    saved: Callable[..., Checkpoint],
    sequences: list[Example],
    theirs: Theirs,
    head: str,
    labels: list[str] | None,
    problem: str,
) -> None:
    heads = {head: nn.SequenceHead.Config(num_labels=len(labels or "1"))}
    ours = saved(heads, task={"kind": "any", "labels": labels})
    assert ours.task == {"kind": "any", "labels": labels}
    reference = load_strictly("BertForSequenceClassification", ours.path)
    assert reference.config.problem_type == problem
    assert list(reference.config.id2label.values()) == (labels or ["LABEL_0"])
    assert reference.config.label2id == {label: i for i, label in enumerate(labels or ["LABEL_0"])}
    with torch.inference_mode():
        scores = ours.model.heads[head](ours.model(pad(sequences, pad_id=0)).pooled)
        assert_near(scores, reference(**theirs(sequences)).logits)


def test_a_tagger_keeps_its_labels(saved: Callable[..., Checkpoint], sequences: list[Example], theirs: Theirs) -> None:
    labels = ["O", "B-drug", "I-drug"]
    ours = saved(
        {"token_label": nn.TokenHead.Config(num_labels=3)}, task={"kind": "tag", "labels": labels}, pooler=False
    )
    reference = load_strictly("BertForTokenClassification", ours.path)
    assert list(reference.config.id2label.values()) == labels
    check_tokens(ours, "token_label", sequences, reference(**theirs(sequences)).logits)


def test_answers_are_where_transformers_has_them(
    saved: Callable[..., Checkpoint], sequences: list[Example], theirs: Theirs
) -> None:
    ours = saved({"answer_span": nn.SpanHead.Config()}, task={"kind": "span"}, pooler=False)
    reference = load_strictly("BertForQuestionAnswering", ours.path)(**theirs(sequences))
    check_tokens(ours, "answer_span", sequences, torch.stack([reference.start_logits, reference.end_logits], dim=-1))


@torch.inference_mode()
def check_tokens(ours: Checkpoint, head: str, sequences: list[Example], expected: torch.Tensor) -> None:
    batch = pad(sequences, pad_id=0)
    scores = ours.model.heads[head](ours.model(batch).at(batch.token_positions))
    lengths = batch.lengths.tolist()
    assert_near(scores, torch.cat([row[:length] for row, length in zip(expected, lengths, strict=True)]).detach())


def test_choices_are_scored_as_transformers_does(
    saved: Callable[..., Checkpoint], sequences: list[Example], theirs: Theirs
) -> None:
    ours = saved({"multiple_choice": nn.SequenceHead.Config(num_labels=1)}, task={"kind": "choice"})
    reference = load_strictly("BertForMultipleChoice", ours.path)
    with torch.inference_mode():
        scores = ours.model.heads["multiple_choice"](ours.model(pad(sequences, pad_id=0)).pooled)
        expected = reference(**{name: tensor[None] for name, tensor in theirs(sequences).items()}).logits
    assert_near(scores[:, 0], expected[0])


def test_auto_tokenizer_gives_the_same_ids(saved: Callable[..., Checkpoint], texts: tuple[str, ...]) -> None:
    ours = saved({})
    reference = transformers.AutoTokenizer.from_pretrained(ours.path)
    assert reference.model_max_length == 512
    for text in texts:
        assert reference(text)["input_ids"] == ours.tokenizer.encode(text, special_tokens=True).ids
        pair = ours.tokenizer.encode(text, texts[0], special_tokens=True)
        assert reference(text, texts[0])["input_ids"] == pair.ids
        assert reference(text, texts[0])["token_type_ids"] == pair.type_ids


@torch.inference_mode()
def embed(checkpoint: Checkpoint, texts: tuple[str, ...]) -> np.ndarray:
    tokenizer = checkpoint.tokenizer
    encodings = [tokenizer.encode(text, special_tokens=True, max_length=tokenizer.max_length) for text in texts]
    examples = [Example({"input_ids": np.array(e.ids), "token_type_ids": np.array(e.type_ids)}) for e in encodings]
    batch = pack(examples, length=max(map(len, examples)), pad_id=tokenizer.vocabulary.pad_id)
    vectors = checkpoint.pooling.of(checkpoint.model(batch), batch)
    return (torch.nn.functional.normalize(vectors) if checkpoint.normalize else vectors).numpy()


@pytest.mark.parametrize("pooling", [nn.MeanPooling(), nn.ClsPooling(), nn.PoolerPooling()])
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_embeds_the_same(
    saved: Callable[..., Checkpoint], texts: tuple[str, ...], pooling: nn.Pooling, normalize: bool
) -> None:
    ours = saved(MASKED_LM | NEXT_SENTENCE, pooling=pooling, normalize=normalize)
    assert (ours.pooling, ours.normalize) == (pooling, normalize)
    reference = SentenceTransformer(str(ours.path), device="cpu")
    assert reference.max_seq_length == ours.tokenizer.max_length == 512
    long = (*texts, "a long text " * 600)
    np.testing.assert_allclose(embed(ours, long), reference.encode(list(long)), atol=1e-5)
    np.testing.assert_allclose(
        reference.encode(list(texts), normalize_embeddings=False)[0], embed(ours, texts)[0], atol=1e-5
    )


def test_real_model_embeds_the_same(minilm_path: Path, texts: tuple[str, ...]) -> None:
    ours = load_model(minilm_path)
    reference = SentenceTransformer(str(minilm_path), device="cpu")
    assert ours.tokenizer.max_length == reference.max_seq_length == 256
    long = (*texts, "word " * 1000)
    np.testing.assert_allclose(embed(ours, long), reference.encode(list(long)), atol=1e-5)


@pytest.mark.parametrize("layout", ["5.3", "6.2"])
def test_round_trips_are_bit_equal(minilm_path: Path, tmp_path: Path, layout: str) -> None:
    """Theirs, ours, theirs: not one bit of the weights changes, whichever layout comes first."""
    if layout == "6.2":
        SentenceTransformer(str(minilm_path), device="cpu").save(str(tmp_path / "theirs"))
        minilm_path = tmp_path / "theirs"
        assert "pooling_mode" in json.loads((minilm_path / "1_Pooling/config.json").read_text(encoding="utf-8"))
    first = load_model(minilm_path)
    second = load_model(save_model(tmp_path / "ours", first))
    back = transformers.BertModel.from_pretrained(tmp_path / "ours").state_dict()
    original = transformers.BertModel.from_pretrained(minilm_path).state_dict()
    assert original.keys() == back.keys()
    assert all(torch.equal(original[name], back[name]) for name in original)
    assert first.model.config == second.model.config
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert first.tokenizer.sha256 == second.tokenizer.sha256
    assert (second.normalize, second.pooling, second.tokenizer.max_length) == (True, nn.MeanPooling(), 256)


def test_what_inference_servers_require_is_there(saved: Callable[..., Checkpoint]) -> None:
    """The keys that text-embeddings-inference declares without a default (COMPATIBILITY 4.1 and 4.7)."""
    path = saved(MASKED_LM).path
    read = {
        name: json.loads((path / name).read_text(encoding="utf-8"))
        for name in (
            "config.json",
            "1_Pooling/config.json",
            "sentence_bert_config.json",
            "modules.json",
        )
    }
    assert read["config.json"]["architectures"] == ["BertForMaskedLM"]
    assert {"hidden_act", "initializer_range", "layer_norm_eps", "pad_token_id", "type_vocab_size"} <= set(
        read["config.json"]
    )
    assert read["1_Pooling/config.json"]["pooling_mode_mean_tokens"] is True
    assert read["1_Pooling/config.json"]["pooling_mode_cls_token"] is False
    assert read["sentence_bert_config.json"] == {"max_seq_length": 512, "do_lower_case": False}
    assert [module["type"].rpartition(".")[2] for module in read["modules.json"]] == ["Transformer", "Pooling"]
    assert {"vocab.txt", "tokenizer.json", "tokenizer_config.json"} <= {file.name for file in path.iterdir()}
