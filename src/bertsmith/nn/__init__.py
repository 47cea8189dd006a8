"""The encoder and its parts. Start reading at `encoder.py`; a BERT is assembled in `bertsmith.recipes.bert`.

channels.py      token, position and segment embeddings
masks.py         who may attend to whom
attention.py     multi-head self-attention
queries_keys.py  what is done to queries and keys: rotary positions, normalization
feed_forward.py  the layer after it
residuals.py     how both are added to the stream
blocks.py        one layer of the encoder
encoder.py       channels + blocks + masks
layer_choice.py  which layers vectors are made of
pooling.py       one vector for a sequence
heads.py         scores: masked LM, next sentence, classification, tokens, spans
scalar_mix.py    all layers at once
packed.py        matrices for reading only, on a CPU
model.py         an encoder with its pooler and heads
"""

from bertsmith.nn.attention import Attention, Gate, HeadGate
from bertsmith.nn.blocks import AttentionBlock, Block, Masks, Streams
from bertsmith.nn.channels import Channel, Lookup, Position, Sizes
from bertsmith.nn.dropout import Dropout
from bertsmith.nn.encoder import Encoder, Layers
from bertsmith.nn.feed_forward import FeedForward, FeedForwardPart, GatedFeedForward
from bertsmith.nn.heads import Head, MaskedLMHead, SequenceHead, SpanHead, TokenHead
from bertsmith.nn.initialization import initialize
from bertsmith.nn.layer_choice import Averaged, Concatenated, LayerChoice, OutputLayer
from bertsmith.nn.linear import LayerNorm, Linear, RMSNorm
from bertsmith.nn.masks import AppliedMask, AttentionMask, Both, Causal, Full, SameSequence
from bertsmith.nn.model import Model, Output
from bertsmith.nn.pooling import (
    ClsPooling,
    LastTokenPooling,
    MaxPooling,
    MeanMaxPooling,
    MeanPooling,
    Pooler,
    PoolerPooling,
    Pooling,
    RootMeanPooling,
    TextMeanPooling,
    WeightedMeanPooling,
)
from bertsmith.nn.queries_keys import QueriesKeys, QueryKeyNorm, Rotary
from bertsmith.nn.residuals import Plain, PostNorm, PreNorm, Residual
from bertsmith.nn.scalar_mix import ScalarMix

__all__ = [
    "AppliedMask",
    "Attention",
    "AttentionBlock",
    "AttentionMask",
    "Averaged",
    "Block",
    "Both",
    "Causal",
    "Channel",
    "ClsPooling",
    "Concatenated",
    "Dropout",
    "Encoder",
    "FeedForward",
    "FeedForwardPart",
    "Full",
    "Gate",
    "GatedFeedForward",
    "Head",
    "HeadGate",
    "LastTokenPooling",
    "LayerChoice",
    "LayerNorm",
    "Layers",
    "Linear",
    "Lookup",
    "MaskedLMHead",
    "Masks",
    "MaxPooling",
    "MeanMaxPooling",
    "MeanPooling",
    "Model",
    "Output",
    "OutputLayer",
    "Plain",
    "Pooler",
    "PoolerPooling",
    "Pooling",
    "Position",
    "PostNorm",
    "PreNorm",
    "QueriesKeys",
    "QueryKeyNorm",
    "RMSNorm",
    "Residual",
    "RootMeanPooling",
    "Rotary",
    "SameSequence",
    "ScalarMix",
    "SequenceHead",
    "Sizes",
    "SpanHead",
    "Streams",
    "TextMeanPooling",
    "TokenHead",
    "WeightedMeanPooling",
    "initialize",
]
