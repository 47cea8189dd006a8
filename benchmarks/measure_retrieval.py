"""Search, as good as it is: Cranfield's 225 queries (nDCG@10), and how alike sentences are (Spearman, STS-B and SICK).

    python benchmarks/measure_retrieval.py --model M [--json]

Beside each other: the vectors of the model M by the index (exact), full-text search by the index, both (hybrid), BM25 of our
own, and one-hot TF-IDF as scikit-learn makes it. A hit is relevant or not; a query's ideal ranking has all its relevant
texts first. Intervals are of 95 %, by 10,000 resamplings of the queries or pairs. Data are the sets `cranfield`, `stsb-multi`
and `sick2014` of `../shared/data/get`. The last line with `--json` is one JSON object.
"""

import argparse
import csv
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from bertsmith import LoadedModel, load
from bertsmith.baselines import BM25
from bertsmith.cli.terminal import Bars, table
from bertsmith.retrieval import Finder, describe
from bertsmith.search import Entry, Index, writing
from bertsmith.tasks.metrics import spearman

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
DEPTH = 10
Ranking = Callable[[str], Sequence[str]]


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model whose vectors tell what texts are about")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = load(options.model)
    found: dict[str, dict[str, dict[str, float]]] = {}
    with Bars() as bars, TemporaryDirectory() as folder:
        found["Cranfield, nDCG@10"] = cranfield(model, Path(folder) / "index", bars)
        for name, pairs in (("STS-B test, Spearman", stsb()), ("SICK, all pairs, Spearman", sick())):
            found[name] = alike(model, pairs)
            bars(name, 1, 1)
    for name, rows in found.items():
        table(
            (name, "", "95 %"),
            [(k, f"{r['value']:.4f}", f"{r['low']:.4f} to {r['high']:.4f}") for k, r in rows.items()],
        )
    if options.json:
        print(json.dumps(found))


def cranfield(model: LoadedModel, path: Path, bars: Bars) -> dict[str, dict[str, float]]:
    """nDCG@10 of each way to search."""
    documents, queries, relevant = read_cranfield(folder_of("cranfield"))
    entries = [Entry(id, text) for id, text in documents.items() if text]
    with writing(path, describe(model.embedder)) as writer:
        writer.add(entries, model.embedder.embed([entry.text for entry in entries], progress=bars).vectors)
        writer.optimize()
    finder = Finder(Index(path), model)

    def by_index(mode: str) -> Ranking:
        return lambda query: [hit.id for hit in finder.search(query, k=DEPTH, mode=mode, exact=True)]  # pyright: ignore[reportArgumentType]

    ids, texts = [entry.id for entry in entries], [entry.text for entry in entries]
    bm25, tfidf = BM25(texts), TfidfVectorizer()
    weights = tfidf.fit_transform(texts)
    ways: dict[str, Ranking] = {
        "vectors": by_index("vector"),
        "hybrid": by_index("hybrid"),
        "full text (Lance, stems, no stop words)": by_index("text"),
        "BM25 (ours: words as they are)": lambda query: [ids[n] for n in bm25.best(query, DEPTH)],
        "TF-IDF (one-hot)": lambda query: [
            ids[n] for n in np.argsort(-(weights @ tfidf.transform([query]).T).toarray()[:, 0], kind="stable")[:DEPTH]
        ],
    }
    found: dict[str, dict[str, float]] = {}
    for number, (name, ranking) in enumerate(ways.items(), start=1):
        found[name] = interval([ndcg(ranking(query), relevant[id]) for id, query in queries.items()], np.mean)
        bars("ways to search", number, len(ways))
    return found


def ndcg(ranking: Sequence[str], relevant: set[str]) -> float:
    """Normalized discounted cumulative gain of the first ten, for relevant or not."""
    gains = [1 / np.log2(rank + 1) for rank, id in enumerate(ranking, start=1) if id in relevant]
    ideal = [1 / np.log2(rank + 1) for rank in range(1, min(len(relevant), DEPTH) + 1)]
    return sum(gains) / sum(ideal)


def alike(model: LoadedModel, pairs: Sequence[tuple[str, str, float]]) -> dict[str, dict[str, float]]:
    """Spearman's correlation of cosines with what people said."""
    first, second, said = (list(column) for column in zip(*pairs, strict=True))
    tfidf = TfidfVectorizer().fit(first + second)
    one_hot = np.asarray(tfidf.transform(first).multiply(tfidf.transform(second)).sum(axis=1))[:, 0]
    vectors = {
        text: row for texts in [sorted({*first, *second})] for text, row in zip(texts, unit(model, texts), strict=True)
    }
    dense = np.array([vectors[a] @ vectors[b] for a, b in zip(first, second, strict=True)])

    def against(scores: np.ndarray) -> dict[str, float]:
        both = np.stack([scores, np.array(said)], axis=1)
        return interval(both, lambda rows: spearman(rows[:, 0], rows[:, 1]), times=1000)

    return {"vectors": against(dense), "TF-IDF (one-hot)": against(one_hot)}


def unit(model: LoadedModel, texts: Sequence[str]) -> np.ndarray:
    """Vectors of length 1."""
    vectors = model.embed(texts)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def interval(
    values: Sequence[float] | np.ndarray, summary: Callable[..., float], times: int = 10_000
) -> dict[str, float]:
    """`summary` of the values, and where it lies in 95 % of resamplings."""
    values, chance = np.asarray(values), np.random.default_rng(0)
    drawn = [summary(values[chance.integers(len(values), size=len(values))]) for _ in range(times)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(summary(values)), "low": float(low), "high": float(high)}


def read_cranfield(folder: Path) -> tuple[dict[str, str], dict[str, str], Mapping[str, set[str]]]:
    """Texts (title and text) by id, queries by number, and the relevant ids of each query: those of grades 1 to 4.

    Each query also has one text of grade -1, which is taken as not relevant, as in the figures published with the set.
    """
    documents = {
        id: " ".join(f"{fields.get('T', '')} {fields.get('W', '')}".split())
        for id, fields in records(folder / "cran.all.1400")
    }
    asked = [" ".join(fields["W"].split()) for _, fields in records(folder / "cran.qry")]
    queries = {str(number): query for number, query in enumerate(asked, start=1)}  # as the judgements count them
    relevant: dict[str, set[str]] = {number: set() for number in queries}
    for line in (folder / "cranqrel").read_text(encoding="utf-8").splitlines():
        query, document, grade = line.split()
        if int(grade) > 0:
            relevant[query].add(document)
    return documents, queries, relevant


def records(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Id and fields of each record in SMART's format."""
    for record in re.split(r"(?m)^\.I ", file.read_text(encoding="utf-8"))[1:]:
        id, _, rest = record.partition("\n")
        yield id.strip(), dict(re.findall(r"(?ms)^\.([A-Z])\s*\n(.*?)(?=^\.[A-Z]\s*\n|\Z)", rest))


def stsb() -> list[tuple[str, str, float]]:
    """The English test part."""
    with (folder_of("stsb-multi") / "data" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as stream:
        return [(first, second, float(score)) for first, second, score in csv.reader(stream)]


def sick() -> list[tuple[str, str, float]]:
    """All three parts."""
    folder = folder_of("sick2014")
    found: list[tuple[str, str, float]] = []
    for name in ("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"):
        with (folder / name).open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            found += [(row["sentence_A"], row["sentence_B"], float(row["relatedness_score"])) for row in rows]
    return found


def folder_of(name: str) -> Path:
    """The folder of an unpacked data set."""
    done = subprocess.run([SHARED / "get", name], capture_output=True, text=True, check=True)
    return Path(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
