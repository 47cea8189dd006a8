"""Files to an index and queries to it, by library and by command."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lancedb", reason="the extra [search] is not installed")

import pyarrow as pa
import pyarrow.parquet as pq

import bertsmith
from bertsmith.baselines import BM25
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.embed import BFloat16, Embedder, EmbedOptions, Int8, Windows
from bertsmith.errors import CheckpointError, DataError, UsageError
from bertsmith.model import LoadedModel
from bertsmith.nn import Averaged, ClsPooling, MeanPooling, Model, SequenceHead
from bertsmith.recipes import bert
from bertsmith.retrieval import BATCH, WAYS, Reranker, Source, fingerprint, options_of
from bertsmith.search import Added, seal
from bertsmith.text import Tokenizer

TEXTS = [
    "The old mill stood by the river.",
    "Farmers came with sacks of barley and of wheat.",
    "His daughter read to him from an old book of stars.",
    "At night the river was quiet and the wheel stood still.",
]
YEARS = ["1901", "1950", "", "2001"]


def saved(folder: Path, shard_folder: Path, seed: int = 5, **task: object) -> Path:
    tokenizer = Tokenizer.load(shard_folder / "tokenizer")
    heads = {"sequence_label": SequenceHead.Config(num_labels=len(task["labels"]))} if "labels" in task else {}  # type: ignore[arg-type]
    config = Model.Config(encoder=bert.encoder(12, 2, 2), pooler=bool(heads), heads=heads)
    config = override(config, [f"encoder.vocab_size={len(tokenizer.vocabulary)}", "encoder.initializer_range=0.3"])
    return save_model(folder, Checkpoint(model=config.initialized(seed), tokenizer=tokenizer, task=task or None))


@pytest.fixture(scope="module")
def encoder(shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "encoder", shard_folder)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mill.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["docno", "text", "year"])
        rows.writerows((f"d{n}", text, year) for n, (text, year) in enumerate(zip(TEXTS, YEARS, strict=True)))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == code, err
    return out, err


def test_by_command(encoder: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = tmp_path / "mill.index"
    _, said = run(capsys, "index", "--model", encoder, table, "-o", index, "--id", "docno", "--check")
    assert f"{table}: text = 'text', id = 'docno'" in said
    assert "4 texts are new, 0 replaced one of the same id; 0 without text were left out" in said
    assert "4 texts, every file as it was written; search looks at every vector, so it is exact" in said
    for mode in ("vector", "hybrid"):
        out, _ = run(capsys, "search", index, TEXTS[3], "-k", 2, "--mode", mode, "--json")
        first, second = map(json.loads, out.splitlines())
        assert first == {"rank": 1, "id": "d3", "text": TEXTS[3], "fields": {"year": 2001}}
        assert second["rank"] == 2
    out, _ = run(capsys, "search", index, "wheels in rivers", "--mode", "text", "--where", "year < 1990")
    assert out == f"  1  d0  year: 1901\n     {TEXTS[0]}\n"
    out, _ = run(capsys, "search", index, "rivers", "--mode", "bm25")
    assert out == "", "BM25 takes words as they are"
    out, _ = run(capsys, "search", index, "river river mill", "--mode", "bm25", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["d0", "d3"]
    _, said = run(capsys, "index", "-o", index, "--delete", "d3", "--delete", "d9")
    assert "1 of 2 texts taken out" in said
    out, _ = run(capsys, "search", index, TEXTS[3], "--json")
    assert "d3" not in {json.loads(line)["id"] for line in out.splitlines()}
    _, said = run(capsys, "search", index, "mill", "--where", "yaer = 3", code=2)
    assert "cannot be understood" in said and "year (int64)" in said
    _, said = run(capsys, "index", "-o", index, code=2)
    assert "Give FILEs with texts, or --delete ID, or --check." in said


def test_an_index_in_a_bucket(
    encoder: Path,
    table: Path,
    tmp_path: Path,
    to_bucket: Callable[[Path], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = bertsmith.load(encoder)
    bertsmith.index_files(model, [table], tmp_path / "i", Source(id="docno"), options=CHOSEN)
    place = to_bucket(tmp_path / "i")
    for mode in WAYS:
        found = bertsmith.open_index(place).search("the old river", mode=mode)
        assert found == bertsmith.open_index(tmp_path / "i").search("the old river", mode=mode)
    out, _ = run(capsys, "search", place, TEXTS[3], "-k", 1, "--json")
    assert json.loads(out)["id"] == "d3"
    _, said = run(capsys, "index", "-o", place, "--check")
    assert f"{place}: 4 texts, every file as it was written" in said
    for change in ((table, "--id", "docno", "--model", encoder), ("--delete", "d3")):
        _, said = run(capsys, "index", "-o", place, *change, code=2)
        assert f"{place}: an index in a bucket is only read." in said
    with pytest.raises(UsageError, match=f"{place}: this index was made by .* cannot be compared"):
        bertsmith.open_index(place, bertsmith.load("small-english")).search("mill")


def test_bm25_is_ours(encoder: Path, table: Path, tmp_path: Path) -> None:
    model = bertsmith.load(encoder)
    bertsmith.index_files(model, [table], tmp_path / "i", Source(id="docno"))
    found = bertsmith.open_index(tmp_path / "i").search("the old river", mode="bm25", k=3)
    assert [hit.id for hit in found] == [f"d{n}" for n in BM25(TEXTS).best("the old river", 3)]


def test_files_of_every_kind_go_into_one_index(encoder: Path, tmp_path: Path) -> None:
    model, out = bertsmith.load(encoder), tmp_path / "i"
    rows = [{"id": f"j{n}", "text": text, "year": n} for n, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"id": "x", "text": " "}])), encoding="utf-8")
    pq.write_table(pa.table({"year": [3], "text": ["The wheel."], "id": [7]}), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("One line.\n\nAnother line.\n", encoding="utf-8")
    (tmp_path / "d.tsv").write_text("text\tyear\nWindmills.\t5\n", encoding="utf-8")
    files = [tmp_path / name for name in ("a.jsonl", "b.parquet", "c.txt", "d.tsv")]
    done = bertsmith.index_files(model, files, out)
    assert (done.added, done.empty) == (Added(new=8), 2)
    index = bertsmith.open_index(out).index
    assert index.description.columns == {"year": "int64"}
    (five,) = index.search(text="windmill", mode="text")
    assert (five.id, five.fields) == (f"{files[3]}, line 2", {"year": 5})
    assert [hit.id for hit in index.get(["7", f"{files[2]}, line 3"])] == ["7", f"{files[2]}, line 3"]
    again = bertsmith.index_files(model, [files[0]], out, Source(without=("year",)))
    assert again.added == Added(updated=4)
    assert index.get(["j1"])[0].fields == {"year": 1}
    assert bertsmith.open_index(out).index.get(["j1"])[0].fields == {"year": None}


def test_what_is_wrong_in_a_file_is_said_and_what_was_put_in_stays(encoder: Path, tmp_path: Path) -> None:
    model, out = bertsmith.load(encoder), tmp_path / "i"
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "One."}\n{"id": 2, "txt": "Two."}\n', encoding="utf-8")
    for source, message in (
        (Source(), r"a\.jsonl, line 2: there is no 'text'\. Did you mean 'txt'"),
        (Source(id="idd"), "there is no column 'idd'"),
        (Source(format="conll"), "hold no texts"),
    ):
        with pytest.raises((DataError, UsageError), match=message):
            bertsmith.index_files(model, [tmp_path / "a.jsonl"], out, source)
    assert not out.exists(), "nothing was put in"
    (tmp_path / "b.jsonl").write_text('{"id": 1, "text": "  "}\n', encoding="utf-8")
    with pytest.raises(DataError, match="there is no text to put into an index"):
        bertsmith.index_files(model, [tmp_path / "b.jsonl"], out)
    with pytest.raises(UsageError, match="name at least one file"):
        bertsmith.index_files(model, [], out)


def test_an_index_knows_its_model(encoder: Path, table: Path, shard_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    model, out = bertsmith.load(saved(tmp_path / "model", shard_folder)), tmp_path / "i"
    bertsmith.index_files(model, [table], out)
    other = bertsmith.load(saved(tmp_path / "other", shard_folder, seed=6))
    for refused in (
        lambda: bertsmith.index_files(other, [table], out),
        lambda: bertsmith.open_index(out, other).search("mill"),
    ):
        with pytest.raises(UsageError) as caught:
            refused()
        for one in (model, other):
            assert str(fingerprint(one.embedder)) in str(caught.value)
    (tmp_path / "model").rename(moved)
    with pytest.raises(CheckpointError, match="if it has moved, give it with --model"):
        bertsmith.open_index(out).search("mill")
    assert bertsmith.open_index(out).search("mill", mode="text"), "words need no model"
    assert bertsmith.open_index(out, bertsmith.load(moved)).search("mill")
    assert fingerprint(bertsmith.load(encoder).embedder) == fingerprint(model.embedder), (
        "equal weights in another folder"
    )


def test_a_fingerprint_tells_what_vectors_depend_on(encoder: Path, shard_folder: Path, tmp_path: Path) -> None:
    model = bertsmith.load(encoder)
    with_head = bertsmith.load(saved(tmp_path / "head", shard_folder, kind="pair", labels=["0", "1"]))
    assert fingerprint(with_head.embedder).weights == fingerprint(model.embedder).weights, "heads make no vectors"
    changed = LoadedModel(bertsmith.load(encoder).checkpoint)
    next(changed.checkpoint.model.encoder.parameters()).data[0, 0] += 1
    assert fingerprint(changed.embedder).weights != fingerprint(model.embedder).weights
    made = {
        str(fingerprint(Embedder(model.checkpoint, options)))
        for options in (
            EmbedOptions(),
            EmbedOptions(pooling=ClsPooling()),
            EmbedOptions(layers=Averaged((-2, -1))),
            EmbedOptions(layers=Averaged((-3, -1))),
            EmbedOptions(dimensions=7),
            EmbedOptions(long=Windows()),
            EmbedOptions(long=Windows(stride=2)),
        )
    }
    assert len(made) == 7
    for same in (EmbedOptions(lane=BFloat16()), EmbedOptions(normalize=True), EmbedOptions(pooling=MeanPooling())):
        assert fingerprint(Embedder(model.checkpoint, same)) == fingerprint(model.embedder)


CHOSEN = EmbedOptions(pooling=ClsPooling(), layers=Averaged((-2, -1)), dimensions=7, long=Windows())


def test_an_index_keeps_how_its_vectors_are_made(
    encoder: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adding and searching do the same without being told; other options are refused, and another lane is not."""
    model, out = bertsmith.load(encoder), tmp_path / "i"
    chosen = (
        "--pooling",
        "cls",
        "--layers",
        "averaged:-2,-1",
        "--dimensions",
        7,
        "--long",
        "windows",
        "--lane",
        "int8",
    )
    make = ("index", "--model", encoder, table, "-o", out, "--id", "docno")
    _, said = run(capsys, *make, *chosen)
    assert "Pooling: cls (as asked for), layers -2, -1 averaged; vectors of 7, normalized." in said
    assert options_of(out) == replace(CHOSEN, normalize=True, lane=Int8())
    long = " ".join(TEXTS * 40)
    (tmp_path / "more.jsonl").write_text(json.dumps({"docno": "long", "text": long, "year": 1}), encoding="utf-8")
    more = ("index", "--model", encoder, tmp_path / "more.jsonl", "-o", out, "--id", "docno")
    _, said = run(capsys, *more, "--lane", "float32", "--pooling", "cls")
    assert "0 were cut to the model's length, 1 read in windows" in said
    finder = bertsmith.open_index(out)
    assert len(finder.index) == 5
    texts = dict(finder.index.texts())
    for id, exact in zip(texts, model.embed(list(texts.values()), CHOSEN), strict=True):
        (hit,) = finder.index.search(exact, k=1)
        assert hit.id == id
    assert [hit.id for hit in finder.search(long, k=1, mode="vector")] == ["long"]
    assert np.allclose(finder.embedder.embed([long]).vectors, model.embed([long], replace(CHOSEN, normalize=True)))
    for other in (("--pooling", "mean"), ("--dimensions", 8), ("--layers", -2), ("--long", "cut")):
        _, said = run(capsys, *make, *other, code=2)
        assert "this index was made by" in said and "the options of the index, by giving none" in said
        assert "pooling cls, layers averaged (numbers -2, -1), long texts windows, not normalized, 7 numbers" in said
    with pytest.raises(UsageError, match="was made by"):
        bertsmith.index_files(model, [table], out, Source(id="docno"), options=EmbedOptions())
    bertsmith.index_files(model, [table], out, Source(id="docno"), options=replace(CHOSEN, normalize=False))
    assert options_of(out).lane == Int8(), "as the index was made"


def test_other_options_of_a_model_in_one_lane_hold_its_matrices_once(encoder: Path) -> None:
    model = bertsmith.load(encoder)
    embedder = model.embedder.with_options(CHOSEN)
    assert vars(embedder)["_running"] is vars(model.embedder)["_running"]
    assert np.array_equal(embedder.embed(TEXTS).vectors, model.embed(TEXTS, CHOSEN))
    assert embedder.size == 7 and model.embedder.size == 12, "the first is as it was"
    other = model.embedder.with_options(replace(CHOSEN, lane=BFloat16()))
    assert vars(other)["_running"] is not vars(model.embedder)["_running"]


def test_an_index_of_before_there_were_options_still_opens(encoder: Path, table: Path, tmp_path: Path) -> None:
    model, out = bertsmith.load(encoder), tmp_path / "i"
    bertsmith.index_files(model, [table], out, Source(id="docno"))
    stored = json.loads((out / seal.SEAL).read_bytes())
    del stored["seal"]["description"]["options"]
    for name in ("layers", "long"):
        del stored["seal"]["description"]["fingerprint"][name]
    stored["sha256"] = seal._digest(stored["seal"])
    (out / seal.SEAL).write_text(json.dumps(stored), encoding="utf-8")
    assert bertsmith.open_index(out).search(TEXTS[1], k=1, mode="vector")[0].id == "d1"
    assert bertsmith.index_files(model, [table], out, Source(id="docno")).added == Added(updated=4)
    stored["seal"]["description"]["options"] = {"pooling": {"kind": "tea"}}
    stored["sha256"] = seal._digest(stored["seal"])
    (out / seal.SEAL).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"not known to this bertsmith .*'tea'"):
        bertsmith.open_index(out)


def test_a_cross_encoder_orders_what_was_found(
    encoder: Path, table: Path, shard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "i"
    bertsmith.index_files(bertsmith.load(encoder), [table], out, Source(id="docno"))
    path = saved(tmp_path / "pairs", shard_folder, kind="pair", labels=["no", "yes"])
    pairs = bertsmith.load(path)
    said = [(p.probabilities or {})["yes"] for p in pairs.predict([("a mill", text) for text in TEXTS])]
    assert len(set(said)) == 4
    expected = [f"d{n}" for n in np.argsort(-np.array(said))]
    hits = bertsmith.open_index(out).search("a mill", rerank=Reranker(pairs))
    assert [hit.id for hit in hits] == expected and [hit.rank for hit in hits] == [1, 2, 3, 4]
    turned = bertsmith.open_index(out).search("a mill", k=3, rerank=Reranker(pairs, "no"))
    assert [hit.id for hit in turned] == expected[:0:-1]
    shown, _ = run(capsys, "search", out, "a mill", "-k", 1, "--rerank", path, "--json")
    assert json.loads(shown)["id"] == expected[0]
    unclear = bertsmith.load(saved(tmp_path / "unclear", shard_folder, kind="pair", labels=["a", "b"]))
    with pytest.raises(UsageError, match="Name it with --rerank-label: a, b"):
        Reranker(unclear)
    with pytest.raises(UsageError, match="was not fine-tuned"):
        Reranker(bertsmith.load(encoder))
    single = saved(
        tmp_path / "single", shard_folder, kind="classify", labels=["0", "1"], columns={"texts": ["t"], "label": "l"}
    )
    with pytest.raises(UsageError, match="reads pairs of texts, and this one does not"):
        Reranker(bertsmith.load(single))


def test_many_texts_go_in_batch_by_batch(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a later batch breaks does not touch those before it."""
    assert BATCH > 100
    monkeypatch.setattr("bertsmith.retrieval.BATCH", 3)
    lines = [json.dumps({"id": n, "text": f"mill {n}", "n": n}) for n in range(8)]
    lines[7] = json.dumps({"id": 7, "text": "mill", "n": "seven"})
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    told: list[int] = []
    with pytest.raises(DataError, match=r"a\.jsonl, line 8: the column 'n' holds 'seven'"):
        bertsmith.index_files(
            bertsmith.load(encoder),
            [tmp_path / "a.jsonl"],
            tmp_path / "i",
            progress=lambda phase, done, total, note="": told.append(done),
        )
    assert told == [3, 6]
    assert len(bertsmith.open_index(tmp_path / "i").index) == 6
