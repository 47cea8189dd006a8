"""Looking inside a model: what its heads attend to, which words it takes for alike, and pages that show it offline.

    reading.py           a model and a text, read together without changing the model
    attention.py         attention weights of one text, as numbers
    neighbours.py        words in context, and those nearest to them
    charts.py            curves and bars as SVG (needs the extra `inspect`)
    palette.py           the colours of all pages and charts, in light and dark
    markup.py            HTML that is escaped unless it is known to be markup
    page.py              one HTML file from sections, tables and figures
    attention_page.py    attention weights as an interactive picture
    run_page.py          the report of a run, finished or not
    evaluation_page.py   how good a fine-tuned model is on one file
    wording.py           numbers as a person says them

Nothing here changes a weight.
"""

from bertsmith.inspection.attention import AttentionMap, Habit, attention
from bertsmith.inspection.neighbours import Neighbour, WordVectors

__all__ = ["AttentionMap", "Habit", "Neighbour", "WordVectors", "attention"]
