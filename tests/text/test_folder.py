"""A tokenizer's files: round trips, what transformers makes of them, and foreign or damaged folders."""

import contextlib
import json
import shutil

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsmith.errors import VocabularyError
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

SMALL = Vocabulary((*SPECIAL_TOKENS, *"abcé,", "##b", "##c", "ab", "", "中"))
TEXT = "Abc ABÉ, [MASK] 中b x"
FILES = {"vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}


@pytest.mark.parametrize("behaviour", ["google", "hf"])
@pytest.mark.parametrize(
    "options", [{}, {"lower_case": False}, {"strip_accents": False}, {"split_chinese": False, "max_length": 33}]
)
def test_round_trip(tmp_path, behaviour, options):
    folder = tmp_path / "модель 中" / "inner"
    tokenizer = Tokenizer(SMALL, behaviour=behaviour, **options)
    tokenizer.save(folder)
    again = Tokenizer.load(folder)
    assert (again.sha256, again.behaviour, again.rules) == (tokenizer.sha256, behaviour, tokenizer.rules)
    assert again.max_length == options.get("max_length", 512)
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert {file.name for file in folder.iterdir()} == FILES
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    again.save(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("options", [{}, {"lower_case": False}, {"strip_accents": False}, {"split_chinese": False}])
def test_transformers_loads_the_folder_and_gives_the_same_ids(tmp_path, options):
    tokenizer = Tokenizer(SMALL, max_length=33, **options)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    ours = tokenizer.encode(TEXT, "ab é", special_tokens=True)
    for peer in (
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        transformers.BertTokenizer.from_pretrained(tmp_path),
    ):
        theirs = peer(TEXT, "ab é", return_offsets_mapping=True)
        assert theirs["input_ids"] == ours.ids
        assert theirs["token_type_ids"] == ours.type_ids
        assert theirs["offset_mapping"] == ours.offsets
        assert peer.model_max_length == 33
        assert (peer.mask_token, peer.pad_token_id, len(peer)) == ("[MASK]", 0, len(SMALL))


def test_what_transformers_saves_is_read(tmp_path):
    peer = transformers.BertTokenizer(vocab=dict(SMALL.ids), do_lower_case=False, strip_accents=True)
    peer.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.behaviour, tokenizer.max_length) == ("hf", 512)
    assert tokenizer.vocabulary == SMALL
    assert tokenizer.encode(TEXT).ids == peer(TEXT, add_special_tokens=False)["input_ids"]


def test_the_folder_of_minilm_is_read(uncased, uncased_file):
    tokenizer = Tokenizer.load(uncased_file.parent)
    assert tokenizer.sha256 == Tokenizer(uncased).sha256


def test_the_behaviour_can_be_overridden(tmp_path):
    Tokenizer(SMALL, behaviour="google").save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["bertsmith_behaviour"] == "google"
    assert Tokenizer.load(tmp_path, behaviour="hf").behaviour == "hf"


@pytest.mark.parametrize("config", [None, {}, {"do_lower_case": False, "model_max_length": 1e30}])
def test_a_bare_vocabulary_is_enough(tmp_path, config):
    SMALL.save(tmp_path)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    cased = bool(config)
    for path in (tmp_path, tmp_path / "vocab.txt"):
        tokenizer = Tokenizer.load(path)
        assert tokenizer.rules.lower_case is not (cased and path == tmp_path)
        assert (tokenizer.behaviour, tokenizer.max_length) == ("hf", 512)


def test_the_configuration_speaks_before_tokenizer_json(tmp_path):
    Tokenizer(SMALL, lower_case=False).save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert Tokenizer.load(tmp_path).rules.lower_case is False
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    assert Tokenizer.load(tmp_path).rules.lower_case is True


def edit(folder, name, change):
    file = folder / name
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokenizer.json", lambda c: c["model"].update(type="BPE"), r"tokenizer\.json: type is 'BPE'"),
        (
            "tokenizer.json",
            lambda c: c["model"].update(continuing_subword_prefix="@"),
            "continuing_subword_prefix is '@'",
        ),
        ("tokenizer.json", lambda c: c["model"].update(max_input_chars_per_word=7), "max_input_chars_per_word is 7"),
        ("tokenizer.json", lambda c: c["model"]["vocab"].update(a=99), "one id, from 0 without a gap"),
        ("tokenizer.json", lambda c: c["model"].update(vocab=["a"]), "one id, from 0 without a gap"),
        ("tokenizer.json", lambda c: c["model"]["vocab"].update(zz=len(SMALL)), r"hold different vocabularies"),
        ("tokenizer.json", lambda c: c.update(normalizer=None), "normalizer is None"),
        ("tokenizer.json", lambda c: c["normalizer"].update(type="NFC"), "type is 'NFC'"),
        ("tokenizer.json", lambda c: c["normalizer"].update(lowercase=1), "lowercase is 1; allowed are true, false"),
        ("tokenizer.json", lambda c: c["added_tokens"].append({"content": "[E1]", "id": 5}), r"added token '\[E1\]'"),
        ("tokenizer.json", lambda c: c.update(added_tokens=["x"]), "added token 'x'"),
        ("tokenizer_config.json", lambda c: c.update(tokenizer_class="RobertaTokenizer"), "not BERT's"),
        ("tokenizer_config.json", lambda c: c.update(tokenizer_class=[1]), "not BERT's"),
        ("tokenizer_config.json", lambda c: c.update(do_lower_case="no"), "do_lower_case is 'no'"),
        ("tokenizer_config.json", lambda c: c.update(do_basic_tokenize=False), "do_basic_tokenize is off"),
        ("tokenizer_config.json", lambda c: c.update(mask_token={"content": "<mask>"}), "mask_token is '<mask>'"),
        ("tokenizer_config.json", lambda c: c.update(bertsmith_behaviour="gogle"), "Did you mean 'google'"),
    ],
)
def test_what_is_not_berts_is_refused(tmp_path, name, change, message):
    Tokenizer(SMALL).save(tmp_path)
    edit(tmp_path, name, change)
    with pytest.raises(VocabularyError, match=message):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_damaged_json_is_one_error(tmp_path, name, content):
    Tokenizer(SMALL).save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VocabularyError, match=name):
        Tokenizer.load(tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_hostile_tokenizer_json_is_an_error_or_a_tokenizer(tmp_path, data):
    Tokenizer(SMALL).save(tmp_path)
    junk = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({}) | st.just([[]])

    def corrupt(content):
        section = content
        while True:
            key = data.draw(st.sampled_from(sorted(section)))
            if isinstance(section[key], dict) and section[key] and data.draw(st.booleans()):
                section = section[key]
                continue
            section[key] = data.draw(junk)
            return

    edit(tmp_path, data.draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json"])), corrupt)
    with contextlib.suppress(VocabularyError):
        Tokenizer.load(tmp_path).encode(TEXT)


def test_two_vocabularies_in_one_folder_are_refused_with_both_fingerprints(tmp_path):
    Tokenizer(SMALL).save(tmp_path)
    swapped = list(SMALL.tokens)
    swapped[5], swapped[6] = swapped[6], swapped[5]
    other = Vocabulary(tuple(swapped))
    other.save(tmp_path)
    with pytest.raises(VocabularyError, match=f"(?s){other.sha256}.*{SMALL.sha256}"):
        Tokenizer.load(tmp_path)


def test_a_run_lends_its_models_tokenizer(tmp_path):
    Tokenizer(SMALL).save(tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").write_text("{}")
    assert Tokenizer.load(tmp_path / "run").sha256 == Tokenizer.load(tmp_path / "run" / "model").sha256


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(VocabularyError, match=r"holds no tokenizer\. Expected vocab\.txt or tokenizer\.json"):
        Tokenizer.load(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(VocabularyError, match="there is no such file or folder"):
        Tokenizer.load(tmp_path)
