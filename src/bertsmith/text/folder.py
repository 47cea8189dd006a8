"""A tokenizer's files in a model folder: ours, and those that transformers writes and reads."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertsmith.errors import VocabularyError, nearest
from bertsmith.folders import is_lfs_pointer, read_small
from bertsmith.text.behaviours import BEHAVIOURS, BehaviourName, HuggingFace, Rules, rust_tokenizer
from bertsmith.text.vocabulary import CONTINUATION, FILE_NAME, MOST_BYTES, MOST_TOKENS, SPECIAL_TOKENS, Vocabulary

TOKENIZER_JSON = "tokenizer.json"
CONFIG_JSON = "tokenizer_config.json"
SPECIAL_TOKENS_JSON = "special_tokens_map.json"

# Our one key in tokenizer_config.json; transformers carries unknown keys along.
_BEHAVIOUR_KEY = "bertsmith_behaviour"

# transformers stores 1e30 where no length is known.
_ANY_LENGTH = 1_000_000
_DEFAULT_LENGTH = 512

# The classes of transformers that tokenize as BERT does, and the ones that take everything from tokenizer.json.
_CLASSES = {
    f"{model}Tokenizer{fast}" for model in ("Bert", "DistilBert", "Electra", "MobileBert") for fast in ("", "Fast")
}
_ANY_CLASS = {"None", "PreTrainedTokenizerFast", "TokenizersBackend"}

# What tokenizer_config.json and the normalizer in tokenizer.json call the same setting.
_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

# What transformers calls the special tokens.
_SPECIAL_KEYS: dict[str, str] = dict(
    zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True)
)


@dataclass(frozen=True)
class Settings:
    """All that a tokenizer is besides its vocabulary."""

    rules: Rules
    behaviour: BehaviourName
    max_length: int


def _tokenizer_in(path: Path) -> Path:
    """The folder with the tokenizer: `path`, or the model's where `path` is a run."""
    inner = path / "model"
    return inner if inner.is_dir() and not any((path / name).exists() for name in (FILE_NAME, TOKENIZER_JSON)) else path


def read(path: Path) -> tuple[Vocabulary, Settings]:
    """The vocabulary and settings in the folder `path`, or a bare vocabulary file with the default settings.

    tokenizer.json is read here and never handed to the library that wrote it, which a hostile file can bring down.

    Raises:
        VocabularyError: there is no tokenizer, its files contradict each other, or it is not BERT's.
    """
    if not path.exists():
        raise VocabularyError(
            f"{path}: there is no such file or folder. `bertsmith vocab` makes a folder with a tokenizer."
        )
    if not path.is_dir():
        return Vocabulary.load(path), _settings(path, {}, {})
    path = _tokenizer_in(path)
    config = _json_object(path / CONFIG_JSON)
    tokenizer = _json_object(path / TOKENIZER_JSON)
    has_list = (path / FILE_NAME).exists()
    if not has_list and not tokenizer:
        raise VocabularyError(f"{path}: holds no tokenizer. Expected {FILE_NAME} or {TOKENIZER_JSON}.")
    _check_class(config, path / CONFIG_JSON)
    settings = _settings(path, config, tokenizer)
    vocabulary = Vocabulary.load(path) if has_list else None
    if tokenizer:
        stored = _stored_vocabulary(tokenizer, settings, path / TOKENIZER_JSON)
        if vocabulary is not None and stored != vocabulary:
            raise VocabularyError(
                f"{path}: {FILE_NAME} ({len(vocabulary):,} tokens, sha256 {vocabulary.sha256}) and {TOKENIZER_JSON} "
                f"({len(stored):,} tokens, sha256 {stored.sha256}) hold different vocabularies. "
                "Keep the one that the model was trained with and delete the other."
            )
        vocabulary = stored
    assert vocabulary is not None
    return vocabulary, settings


def contradictions(path: Path) -> Iterator[str]:
    """Settings that tokenizer_config.json and tokenizer.json in the folder `path` give differently, as sentences.

    Raises:
        VocabularyError: one of the two cannot be read.
    """
    config, tokenizer = _json_object(path / CONFIG_JSON), _json_object(path / TOKENIZER_JSON)
    normalizer = _section(tokenizer, "normalizer", path / TOKENIZER_JSON) if tokenizer else {}
    for key, other in _SETTINGS.items():
        said, also = config.get(key), normalizer.get(other)
        if said is not None and also is not None and said != also:
            yield f"{CONFIG_JSON} says that {key} is {said}, {TOKENIZER_JSON} that {other} is {also}: the first is believed"


def write(
    path: Path, vocabulary: Vocabulary, settings: Settings, max_word_length: int, inputs: Sequence[str] | None = None
) -> None:
    """Write the four files into the folder `path`, which is made where it does not exist."""
    path.mkdir(parents=True, exist_ok=True)
    vocabulary.save(path / FILE_NAME)
    config = _SPECIAL_KEYS | {
        "do_lower_case": settings.rules.lower_case,
        "strip_accents": settings.rules.strip_accents,
        "tokenize_chinese_chars": settings.rules.split_chinese,
        "model_max_length": settings.max_length,
        "tokenizer_class": "BertTokenizer",
        _BEHAVIOUR_KEY: settings.behaviour,
        **({"model_input_names": list(inputs)} if inputs else {}),
    }
    tokenizer = json.loads(rust_tokenizer(vocabulary, settings.rules, max_word_length).to_str())
    _write_json(path / TOKENIZER_JSON, tokenizer)
    _write_json(path / CONFIG_JSON, config)
    _write_json(path / SPECIAL_TOKENS_JSON, _SPECIAL_KEYS)


def _settings(path: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> Settings:
    """The configuration's word, where it has one, before that of tokenizer.json: so transformers does it."""
    file = path / CONFIG_JSON
    normalizer = _section(tokenizer, "normalizer", path / TOKENIZER_JSON) if tokenizer else {}
    lower_case, accents, chinese = (
        _flag(config, key, file, _flag(normalizer, other, path / TOKENIZER_JSON)) for key, other in _SETTINGS.items()
    )
    behaviour = config.get(_BEHAVIOUR_KEY, HuggingFace.name)
    if str(behaviour) not in BEHAVIOURS:
        raise VocabularyError(f"{file}: {_BEHAVIOUR_KEY} is {behaviour!r}.{nearest(str(behaviour), BEHAVIOURS)}")
    length = config.get("model_max_length")
    if not isinstance(length, int) or not 0 < length <= _ANY_LENGTH:
        length = _DEFAULT_LENGTH
    # Where nobody says it, transformers lower-cases and splits Chinese.
    return Settings(Rules(lower_case is not False, accents, chinese is not False), behaviour, length)


def _check_class(config: dict[str, Any], file: Path) -> None:
    name = str(config.get("tokenizer_class"))
    if name not in _CLASSES | _ANY_CLASS:
        raise VocabularyError(f"{file}: tokenizer_class is {name!r}, which is not BERT's.{nearest(name, _CLASSES)}")
    if config.get("do_basic_tokenize", True) is not True:
        raise VocabularyError(f"{file}: do_basic_tokenize is off; only text that is not yet split can be tokenized.")
    for key, token in _SPECIAL_KEYS.items():
        value = config.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        if value not in (token, None):
            raise VocabularyError(f"{file}: {key} is {value!r}; BERT's is {token!r}, and no other is supported.")


def _stored_vocabulary(tokenizer: dict[str, Any], settings: Settings, file: Path) -> Vocabulary:
    """The vocabulary in tokenizer.json, if all else in it is BERT's."""
    model = _section(tokenizer, "model", file)
    longest = BEHAVIOURS[settings.behaviour].max_word_length
    expected = (
        (model, "type", "WordPiece"),
        (model, "unk_token", "[UNK]"),
        (model, "continuing_subword_prefix", CONTINUATION),
        (model, "max_input_chars_per_word", longest),
        (_section(tokenizer, "normalizer", file), "type", "BertNormalizer"),
        (_section(tokenizer, "normalizer", file), "clean_text", True),
        (_section(tokenizer, "pre_tokenizer", file), "type", "BertPreTokenizer"),
    )
    for section, key, value in expected:
        if section.get(key, value) != value:
            raise VocabularyError(
                f"{file}: {key} is {section[key]!r}; BERT's tokenizer has {value!r}, and no other is supported."
            )
    ids = model.get("vocab")
    if not isinstance(ids, dict) or sorted(ids.values(), key=repr) != sorted(range(len(ids)), key=repr):
        raise VocabularyError(f"{file}: model.vocab must give each token one id, from 0 without a gap.")
    added = tokenizer.get("added_tokens") or []
    for token in added if isinstance(added, list) else [added]:
        content, index = (token.get("content"), token.get("id")) if isinstance(token, dict) else (token, None)
        if content not in SPECIAL_TOKENS or ids.get(content) != index:
            raise VocabularyError(
                f"{file}: the added token {content!r} is none of {' '.join(SPECIAL_TOKENS)} at its place in the "
                "vocabulary; other added tokens are not supported."
            )
    try:
        return Vocabulary(tuple(token.strip() for token in sorted(ids, key=ids.__getitem__)))
    except VocabularyError as error:
        raise VocabularyError(f"{file}, model.vocab, {error}") from None


def _section(tokenizer: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    section = tokenizer.get(key)
    if not isinstance(section, dict):
        raise VocabularyError(f"{file}: {key} is {section!r:.60}, and BERT's tokenizer has one with settings.")
    return section


def _flag(section: dict[str, Any], key: str, file: Path, fallback: bool | None = None) -> bool | None:  # noqa: FBT001
    value = section.get(key, fallback)
    if value is not None and not isinstance(value, bool):
        raise VocabularyError(f"{file}: {key} is {value!r}; allowed are true, false and null.")
    return value


def _json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no file."""
    if not file.exists():
        return {}
    content = b""
    try:
        content = read_small(file, MOST_BYTES)
        if sum(map(content.count, (b"[", b"{", b","))) > 2 * MOST_TOKENS:
            raise ValueError("it has too many values for a tokenizer")
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (OSError, ValueError, RecursionError) as error:
        hint = " It is a git-lfs pointer: fetch the real file with `git lfs pull`." if is_lfs_pointer(content) else ""
        raise VocabularyError(f"{file}: cannot be read as JSON ({error}).{hint}") from None
    if not isinstance(value, dict):
        raise VocabularyError(f"{file}: expected an object, found {type(value).__name__}.")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r:.80} stands there twice")
    return value


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
