"""The encoder and its parts. Start reading at `encoder.py`; a BERT is assembled in `bertsmith.recipes.bert`.

channels.py      token, position and segment embeddings
masks.py         who may attend to whom
attention.py     multi-head self-attention
feed_forward.py  the layer after it
residuals.py     how both are added to the stream
blocks.py        one layer of the encoder
encoder.py       channels + blocks + masks
pooling.py       one vector for a sequence
heads.py         scores: masked LM, next sentence, classification
model.py         an encoder with its pooler and heads
"""

from bertsmith.nn.attention import Attention
from bertsmith.nn.blocks import AttentionBlock, Block, Masks, Streams
from bertsmith.nn.channels import Channel, Lookup, Position, Sizes
from bertsmith.nn.encoder import Encoder, Layers
from bertsmith.nn.feed_forward import FeedForward, FeedForwardPart
from bertsmith.nn.heads import Head, MaskedLMHead, SequenceHead
from bertsmith.nn.initialization import initialize
from bertsmith.nn.linear import LayerNorm, Linear
from bertsmith.nn.masks import AppliedMask, AttentionMask, Both, Causal, Full, SameSequence
from bertsmith.nn.model import Model, Output
from bertsmith.nn.pooling import ClsPooling, MeanPooling, Pooler, Pooling
from bertsmith.nn.residuals import PostNorm, Residual

__all__ = [
    "AppliedMask",
    "Attention",
    "AttentionBlock",
    "AttentionMask",
    "Block",
    "Both",
    "Causal",
    "Channel",
    "ClsPooling",
    "Encoder",
    "FeedForward",
    "FeedForwardPart",
    "Full",
    "Head",
    "LayerNorm",
    "Layers",
    "Linear",
    "Lookup",
    "MaskedLMHead",
    "Masks",
    "MeanPooling",
    "Model",
    "Output",
    "Pooler",
    "Pooling",
    "Position",
    "PostNorm",
    "Residual",
    "SameSequence",
    "SequenceHead",
    "Sizes",
    "Streams",
    "initialize",
]
