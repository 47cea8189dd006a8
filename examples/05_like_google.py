"""What google-research/bert's create_pretraining_data.py makes of a text, instance for instance, as JSON lines.

    python examples/05_like_google.py TEXT VOCAB [flag=value ...] > instances.jsonl

TEXT has one sentence a line and a blank line between documents. Flags are the original's, such as random_seed=7 or
do_whole_word_mask=true; so are the names of the features.
"""

import json
import sys

from bertsmith.config import override
from bertsmith.data.original import Original, features, original_instances
from bertsmith.text import Tokenizer

text, vocab, flags = sys.argv[1], sys.argv[2], sys.argv[3:]
options = override(Original(), flags)
tokenizer = Tokenizer.load(vocab, behaviour="google")

for instance in original_instances(text, tokenizer, options):
    print(json.dumps(features(instance)))
