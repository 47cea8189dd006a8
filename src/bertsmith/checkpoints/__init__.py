"""Model folders: one folder that bertsmith, transformers and sentence-transformers all load.

folder.py                 save_model, load_model: start here
checkpoint.py             what a folder holds, in memory
description.py            what a folder holds, without loading it
bertsmith_folder.py       our folders
google_folder.py          TensorFlow checkpoints of the original code
google_models.py          the published ones, and how casing is told
google_names.py           their names of tensors, to and from ours
tensor_bundle.py          TensorFlow's files of tensors
sorted_table.py           their index
huggingface_folder.py     those of transformers and sentence-transformers
huggingface_config.py     config.json to and from our configuration
huggingface_form.py       whether a model of ours has a config.json, and which
huggingface_names.py      names of tensors, to and from ours
sentence_transformers.py  modules, pooling
transforms.py             tables of names that work in both directions
weights.py                the safetensors file
source.py                 a folder that was looked at
extending.py              more tokens for a model
conversion.py             from any format to any other
huggingface_weights.py    weights in one file or several
pytorch_bin.py            pytorch_model.bin, read without running it
onnx_graph.py             a model as one ONNX graph
onnx_folder.py            the folder around it, and the proof that it computes the same
"""

from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.conversion import Conversion, Format, convert
from bertsmith.checkpoints.description import describe, find_models
from bertsmith.checkpoints.extending import ExtendedModel, extend_model
from bertsmith.checkpoints.folder import load_model, save_model

__all__ = [
    "Checkpoint",
    "Conversion",
    "ExtendedModel",
    "Format",
    "convert",
    "describe",
    "extend_model",
    "find_models",
    "load_model",
    "save_model",
]
