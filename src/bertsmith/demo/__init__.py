"""The demo: raw text to a working BERT and a report page, in minutes, on text that ships with bertsmith.

chain.py     every link in order: start here
result.py    what was found
page.py      the report
wording.py   its sentences, made from the numbers
summary.py   the same for a terminal
data/        film reviews and labelled sentences, with their licence
"""

from bertsmith.demo.chain import Settings, run
from bertsmith.demo.result import DemoResult

__all__ = ["DemoResult", "Settings", "run"]
