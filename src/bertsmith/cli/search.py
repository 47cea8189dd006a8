"""bertsmith search: the texts of an index that answer a query."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.options import Json
from bertsmith.cli.terminal import json_line


def search(
    index: Annotated[str, Argument(help="Index folder, from bertsmith index; or s3://BUCKET/NAME.")],
    query: Annotated[str, Argument(help="What to look for, in words.")],
    k: Annotated[int, Option("-k", help="How many texts to show.")] = 10,
    where: Annotated[str | None, Option(help='A condition in SQL on the columns, such as "year > 1990".')] = None,
    mode: Annotated[str, Option(help="vector, text, hybrid (both), or bm25 to compare with.")] = "hybrid",
    exact: Annotated[bool, Option("--exact", help="Look at every vector.")] = False,
    rerank: Annotated[Path | None, Option(help="A model fine-tuned on pairs, to order what was found.")] = None,
    rerank_label: Annotated[str | None, Option(help="Its label that says a text answers the query.")] = None,
    model: Annotated[Path | None, Option("-m", "--model", help="The model of the index, if it has moved.")] = None,
    json: Json = False,
) -> None:
    """Search an index. The best text comes first; ranks say all there is to say.

    Library call: bertsmith.open_index(INDEX).search(QUERY)
    """
    import bertsmith
    from bertsmith.retrieval import Reranker

    finder = bertsmith.open_index(index, None if model is None else bertsmith.load(model))
    reranker = None if rerank is None else Reranker(bertsmith.load(rerank), rerank_label)
    hits = finder.search(query, k=k, mode=mode, where=where, exact=exact, rerank=reranker)  # pyright: ignore[reportArgumentType]
    for hit in hits:
        if json:
            json_line({"rank": hit.rank, "id": hit.id, "text": hit.text, "fields": dict(hit.fields)})
        else:
            fields = "  ".join(f"{name}: {value}" for name, value in hit.fields.items() if value is not None)
            sys.stdout.write(f"{hit.rank:>3}  {hit.id}{'  ' * bool(fields)}{fields}\n     {hit.text}\n")
