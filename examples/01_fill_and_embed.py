"""Use a model folder: fill a mask, embed texts, look at hidden states.

python examples/01_fill_and_embed.py runs/demo/pretraining
"""

import sys

import bertsmith

model = bertsmith.load(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/pretraining")

for candidate in model.fill("the special [MASK] are impressive."):
    print(f"{candidate.token:>12}  {candidate.probability:.1%}")

vectors = model.embed(["a quiet, moving film.", "this movie is slow and dull."])
print(vectors.shape, vectors.dtype)

states = model.hidden_states("he plays the piano in the play.")
print(states.words, states.states.shape)  # (layers + 1, words, hidden_size)
