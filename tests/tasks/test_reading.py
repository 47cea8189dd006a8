"""Files as people have them, and as they should not have them."""

import gzip
import json
import lzma
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsmith.data.records import read_records
from bertsmith.errors import DataError, UsageError
from bertsmith.tasks import Answer, Classify, Columns, Pair, Regress, Words, find_task, read_labelled, read_texts

Write = Callable[[str, Iterable[Iterable[object]]], Path]


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, str], Path]:
    def make(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8"))
        return path

    return make


Save = Callable[[str, str], Path]
EXPECTED = [("a cat, sitting", "pos"), ("ein Hündchen", "neg")]


def read(path: Path, **options: object) -> list[tuple[object, object]]:
    return [(e.texts, e.label) for e in read_labelled(path, Classify, **options).examples]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'sentence,label\n"a cat, sitting",pos\nein Hündchen,neg\n'),
        ("windows.csv", '\ufeffSentence;Label\r\n"a cat, sitting";pos\r\nein Hündchen;neg\r\n'),
        ("no-header.csv", '"a cat, sitting",pos\nein Hündchen,neg\n'),
        ("label-first.csv", 'label,id,text\npos,1,"a cat, sitting"\nneg,2,ein Hündchen'),
        ("a.tsv", "sentence\tlabel\na cat, sitting\tpos\n\nein Hündchen\tneg\n"),
        ("a.txt", "sentence\tlabel\na cat, sitting\tpos\nein Hündchen\tneg\n"),
        ("a.jsonl", '{"text": "a cat, sitting", "label": "pos"}\n\n{"label": "neg", "text": "ein Hündchen", "n": 1}\n'),
    ],
)
def test_formats(save: Save, name: str, content: str) -> None:
    assert read(save(name, content)) == EXPECTED


def test_an_empty_text_in_a_table_of_one_column_is_a_row(tmp_path: Path) -> None:
    """Predictions come one a text, so a row must not vanish; a blank line is no row."""
    path = tmp_path / "a.csv"
    path.write_text('text\nfine film\n""\n\nbad film\n', encoding="utf-8")
    assert [row.cells for row in read_records(path).rows] == [["text"], ["fine film"], [""], ["bad film"]]


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed(tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(compress('text,label\n"a cat, sitting",pos\nein Hündchen,neg\n'.encode()))
    assert read(path) == EXPECTED


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": [text for text, _ in EXPECTED], "class": ["pos", "neg"], "vector": [[1.0], [2.0]]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == EXPECTED
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, None]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=re.escape("b.parquet, row 2: there is no label")):
        read(tmp_path / "b.parquet")


def test_numbers_are_labels_too(save: Save) -> None:
    lines = [
        {"text": "a", "label": 1},
        {"text": "b", "label": "1"},
        {"text": "c", "label": 1.0},
        {"text": "d", "label": False},
    ]
    path = save("a.jsonl", "\n".join(map(json.dumps, lines)))
    assert [label for _, label in read(path)] == ["1", "1", "1", "false"]


def test_a_quoted_cell_may_hold_line_breaks_and_lines_are_still_counted(save: Save) -> None:
    path = save("a.csv", 'text,label\n"one\n\ntwo ""three""",pos\nfour,neg\nfive,\n')
    with pytest.raises(DataError, match=re.escape(f"{path}, line 6: the label is empty (column 'label')")):
        read(path)
    path = save("b.csv", 'text,label\n"one\n\ntwo ""three""",pos\nfour,neg\n')
    examples = read_labelled(path, Classify).examples
    assert [(e.texts, e.line) for e in examples] == [('one\n\ntwo "three"', 2), ("four", 5)]


def test_a_line_of_a_megabyte(save: Save) -> None:
    long = "word " * 220_000
    assert read(save("a.csv", f'text,label\n"{long}",pos\nb,neg\n'))[0] == (long, "pos")


class TestQuotationMarksInTsv:
    """GLUE's files quote nothing, pandas' do; the same characters mean different things."""

    def test_are_text_if_they_are_not_paired(self, save: Save) -> None:
        path = save("glue.tsv", 'sentence\tlabel\n" a cat\t1\nhe said "no"\t0\n"so"\t1\n')
        assert [text for text, _ in read(path)] == ['" a cat', 'he said "no"', '"so"']

    def test_enclose_cells_if_that_makes_lines_equal(self, save: Save) -> None:
        path = save("pandas.tsv", 'sentence\tlabel\n"a\tcat"\t1\n"two\nlines"\t0\n')
        assert [text for text, _ in read(path)] == ["a\tcat", "two\nlines"]

    def test_enclose_cells_if_some_are_doubled(self, save: Save) -> None:
        path = save("pandas.tsv", 'sentence\tlabel\n"a ""cat"""\t1\nplain\t0\n')
        assert [text for text, _ in read(path)] == ['a "cat"', "plain"]

    def test_enclose_cells_if_the_header_is_enclosed(self, save: Save) -> None:
        path = save("r.tsv", '"sentence"\t"label"\n"a cat"\t"1"\n"b"\t"0"\n')
        assert read(path) == [("a cat", "1"), ("b", "0")]


class TestColumns:
    def said(self, path: Path, **columns: object) -> str:
        return str(read_labelled(path, Classify, columns=Columns(**columns)).layout)  # type: ignore[arg-type]

    def test_are_said(self, save: Save) -> None:
        path = save("a.csv", "id,Sentence,Label\n1,b,c\n2,d,e\n")
        assert self.said(path) == "text = column 'Sentence', label = column 'Label'"
        path = save("b.csv", "good film,1\nbad film,0\n")
        assert self.said(path) == "text = column 1, label = column 2 (no header)"

    def test_can_be_given_by_name_and_by_number(self, save: Save) -> None:
        path = save("a.csv", "title,body,mood,label\nt,b,m,l\nt2,b2,m2,l2\n")
        assert self.said(path, texts=("title",), label="mood") == "text = column 'title', label = column 'mood'"
        assert self.said(path, texts=("1",), label="3") == "text = column 'title', label = column 'mood'"
        path = save("cola.tsv", "gj04\t1\t\tOur friends.\ngj04\t0\t*\tFriends our.\n")
        assert self.said(path, texts=("4",), label="2") == "text = column 4, label = column 2 (no header)"

    def test_that_are_not_there(self, save: Save) -> None:
        path = save("a.csv", "text,label\na,b\nc,d\n")
        with pytest.raises(
            DataError, match=r"a.csv: there is no column 'txt'. Did you mean 'text'\? Allowed: label, text"
        ):
            self.said(path, texts=("txt",))
        with pytest.raises(DataError, match="there is no column '3'"):
            self.said(path, label="3")

    def test_unknown_header_is_known_by_its_label(self, save: Save) -> None:
        rows = [("Headline", "Mood"), *((f"news {i}", ("up", "down")[i % 2]) for i in range(12))]
        path = save("a.csv", "".join(f"{a},{b}\n" for a, b in rows))
        assert self.said(path) == "text = column 'Headline', label = column 'Mood'"
        path = save("b.csv", "".join(f"{b},{a}\n" for a, b in rows))
        assert self.said(path) == "text = column 'Headline', label = column 'Mood'"

    def test_a_usual_name_that_recurs_is_no_header(self, save: Save) -> None:
        path = save("a.csv", "what is it,question\nit is a cat,answer\nwho is it,question\n")
        assert len(read(path)) == 3

    def test_a_known_label_leaves_the_text(self, save: Save) -> None:
        assert (
            self.said(save("a.csv", "idx,Headline,label\n1,b,c\n"))
            == "text = column 'Headline', label = column 'label'"
        )

    def test_that_cannot_be_told_apart_are_listed(self, save: Save) -> None:
        path = save("a.csv", "one,two,three\nx,y,z\n")
        with pytest.raises(
            DataError, match=r"not clear which column holds the label. Columns.*'1' \('one'\), '2' \('two'\)"
        ):
            read(path)

    def test_two_of_one_name(self, save: Save) -> None:
        path = save("a.csv", "text,text,label\na,b,c\n")
        with pytest.raises(DataError, match="two columns are called 'text'"):
            self.said(path, texts=("text",))

    @pytest.mark.parametrize("names", ["premise,hypothesis", "#1 String,#2 String", "sentence1,sentence2"])
    def test_pairs(self, save: Save, names: str) -> None:
        labelled = read_labelled(save("a.csv", f"idx,{names},label\n1,a,b,yes\n2,c,d,no\n"), Pair)
        assert labelled.texts == [("a", "b"), ("c", "d")]

    def test_pairs_without_a_header(self, save: Save) -> None:
        labelled = read_labelled(save("a.csv", "a,b,yes\nc,d,no\ne,f,no\n"), Pair)
        assert labelled.texts[0] == ("a", "b") and labelled.labels == ["yes", "no", "no"]

    def test_regression_takes_one_text_or_two(self, save: Save) -> None:
        one = read_labelled(save("a.csv", "text,score\na,1.5\nb,2\n"), Regress)
        two = read_labelled(save("b.csv", "4.5,a,b\n2,c,d\n"), Regress)
        header = read_labelled(save("c.csv", "this,that,much\na,b,1\nc,d,3\n"), Regress)
        assert (one.texts, one.labels) == (["a", "b"], [1.5, 2.0])
        assert (two.texts, two.labels) == ([("a", "b"), ("c", "d")], [4.5, 2.0])
        assert (header.texts, header.labels) == ([("a", "b"), ("c", "d")], [1.0, 3.0])

    def test_a_wrong_number_of_texts(self, save: Save) -> None:
        with pytest.raises(DataError, match="2 text columns are given, and this task takes 1"):
            self.said(save("a.csv", "a,b,label\nc,d,e\n"), texts=("a", "b"))

    def test_usual_columns_are_preferred_where_they_are(self, save: Save) -> None:
        usual = Columns(("title",), "mood")
        path = save("a.csv", "text,title,mood,label\na,b,c,d\n")
        assert read_labelled(path, Classify, usual=usual).layout.columns == usual
        path = save("b.csv", "text,label\na,b\n")
        assert read_labelled(path, Classify, usual=usual).layout.columns == Columns(("text",), "label")


def test_lists_and_objects_in_parquet(tmp_path: Path) -> None:
    """As the datasets of Hugging Face are exported."""
    answers = {"text": ["sun"], "answer_start": [4]}
    for name, rows in (
        ("tag", [{"id": "0", "tokens": ["the", "sun"], "ner_tags": [0, 3]}]),
        ("span", [{"id": "0", "question": "q", "context": "the sun", "answers": answers}]),
        ("choice", [{"ctx": "a", "endings": ["x", "y"], "label": "1"}]),
        ("multilabel", [{"text": "a", "labels": [2, 10]}]),
    ):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    names = ("tag", "span", "choice", "multilabel")
    found = {name: read_labelled(tmp_path / f"{name}.parquet", find_task(name)).examples[0] for name in names}
    assert (found["tag"].texts, found["tag"].label) == (Words.joined(["the", "sun"]), ("0", "3"))
    assert (found["span"].texts, found["span"].label) == (("q", "the sun"), (Answer("sun", 4),))
    assert (found["choice"].texts, found["choice"].label) == (("a", "x", "y"), 1)
    assert found["multilabel"].label == ("2", "10")
    pq.write_table(pa.Table.from_pylist([{"tokens": ["the", "sun"], "tags": ["O"]}]), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"bad.parquet, row 1: 2 words and 1 tags"):
        read_labelled(tmp_path / "bad.parquet", find_task("tag"))


class TestBadFiles:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", "", "a.csv: there is nothing in this file"),
            ("a.tsv", "\n \n", "a.tsv: there is nothing in this file"),
            ("a.csv", "text,label\n", "a.csv: there is a header and nothing below it"),
            ("a.csv", "text,label\na,b\nc,d,e\n", "a.csv, line 3: found 3 columns, and line 1 has 2"),
            ("a.tsv", "text\tlabel\na\tb\n\nc\n", "a.tsv, line 4: found 1 columns, and line 1 has 2"),
            ("a.csv", 'text,label\na,b\n"c,d\ne,f\n', "a.csv, line 3: a quotation mark is opened here and never closed"),
            ("a.csv", 'text,label\n"a"b,c\n', "a.csv, line 2: ',' expected after '\"'"),
            ("a.csv", "text,label\na,b\nc\rd,e\n", "a.csv, line 3: there is a carriage return inside the line"),
            ("a.xlsx", "PK", "a.xlsx: this is a spreadsheet. Save it as csv"),
            ("a.jsonl", '{"text": "a", "label": "b"}\nno json\n', "a.jsonl, line 2: not JSON"),
            ("a.jsonl", f'{{"text": "a", "label": {"9" * 5000}}}\n', "a.jsonl, line 1: not JSON"),
            ("a.jsonl", '{"text": "a", "label": "b"}\n[1]\n', "a.jsonl, line 2: expected a JSON object, got '[1]'"),
            ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": "a"}\n', "a.jsonl, line 2: there is no 'label'"),
            ("a.jsonl", '{"text": "a", "label": ["b"]}\n', "a.jsonl, line 1: ['b'] is no label"),
            ("a.jsonl", '{"text": "a", "label": null}\n', "a.jsonl, line 1: there is no label"),
            ("a.jsonl", '{"text": 5, "label": "b"}\n', "a.jsonl, line 1: 5 is not text (in the column 'text')"),
        ],
    )  # fmt: skip
    def test_one_sentence_with_the_line(self, save: Save, name: str, content: str, message: str) -> None:
        with pytest.raises(DataError, match=re.escape(message)):
            read(save(name, content))

    def test_broken_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(b"text,label\nfine,1\ncaf\xe9,0\n")
        with pytest.raises(DataError, match=re.escape(f"{path}, line 3, byte 21: not UTF-8")):
            read(path)
        path.write_bytes("text,label\nfine,1\n".encode("utf-16"))
        with pytest.raises(DataError, match=r"a.csv, line 1, byte 0: not UTF-8.*iconv -f UTF-16 -t UTF-8"):
            read(path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="there is no such file"):
            read(tmp_path / "a.csv")
        with pytest.raises(DataError, match="this is a folder"):
            read(tmp_path)

    def test_damaged_parquet(self, save: Save) -> None:
        with pytest.raises(DataError, match=r"a.parquet: not a readable Parquet file"):
            read(save("a.parquet", "PAR1 nothing"))

    def test_no_such_format(self, save: Save) -> None:
        with pytest.raises(UsageError, match="'xlsx' is not a format of labelled files"):
            read(save("a.csv", "text,label\na,b\n"), format="xlsx")

    @pytest.mark.parametrize("number", ["warm", "nan", "1e999", ""])
    def test_a_number_that_is_none(self, save: Save, number: str) -> None:
        with pytest.raises(DataError, match=r"a.csv, line 3: .* is not a (finite )?number \(column 'score'\)"):
            read_labelled(save("a.csv", f"text,score\na,1\nb,{number}\n"), Regress)


class TestTextsForPrediction:
    def test_one_a_line(self, save: Save) -> None:
        assert list(read_texts(save("a.txt", "one, two\n\nthree\tfour\n"))) == ["one, two", "", "three\tfour"]

    def test_pairs_by_tab(self, save: Save) -> None:
        pairs = read_texts(save("a.txt", "one\ttwo\nthree\tfour\n"), text_counts=(2,)).texts
        assert list(pairs) == [("one", "two"), ("three", "four")]

    def test_labels_are_passed_over(self, save: Save) -> None:
        unlabelled = read_texts(save("a.csv", "headline,label\na,x\nb,y\n"))
        assert (str(unlabelled.layout), list(unlabelled.texts)) == ("text = column 'headline'", ["a", "b"])

    def test_usual_columns(self, save: Save) -> None:
        path = save("a.jsonl", '{"text": "a", "title": "b"}\n')
        assert list(read_texts(path, usual=Columns(("title",), "mood")).texts) == ["b"]

    def test_are_a_stream(self, save: Save) -> None:
        """What is wrong far down is found when the stream gets there, and not by reading the whole file first."""
        texts = read_texts(save("a.csv", "text,n\n" + "a,1\n" * 300 + "b\n")).texts
        assert [next(texts) for _ in range(300)] == ["a"] * 300
        with pytest.raises(DataError, match="line 302: found 1 columns"):
            next(texts)
