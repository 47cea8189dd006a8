"""An index of texts: search by meaning and by words, with a condition, and see how good the approximate search is.

    python examples/10_search.py MODEL INDEX [FILE]

FILE is csv, tsv, JSON lines, Parquet or plain lines; by default messages about orders, which lie beside this example.
The order is as good as the model's vectors: take one trained for them, such as a sentence-transformers folder.
"""

import sys
from pathlib import Path

import bertsmith

model, index = sys.argv[1:3]
file = sys.argv[3] if len(sys.argv) > 3 else Path(__file__).parent / "data" / "topics-train.csv"

done = bertsmith.index_files(bertsmith.load(model), [file], index)
print(f"{done.added.new} texts are new, {done.added.updated} replaced one of the same id")

finder = bertsmith.open_index(index)  # it knows which model made it
for mode in ("vector", "text", "hybrid", "bm25"):
    print(mode)
    for hit in finder.search("My parcel came too late", k=3, mode=mode):
        print(f"  {hit.rank}  {hit.text}  {dict(hit.fields)}")

column = next(iter(finder.index.description.columns), None)
if column:
    print(len(finder.search("The glass is broken", k=5, where=f"{column} IS NOT NULL")), "of those that have a", column)
print(f"recall of the search by vectors: {finder.recall().share:.1%}")
