"""Files that vectors are kept in, written table by table in constant memory: Parquet, Arrow, npy."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Write = Callable[[pa.Table], None]
Writer = Callable[[Path, pa.Schema, int], AbstractContextManager[Write]]


@contextmanager
def _parquet(path: Path, schema: pa.Schema, rows: int) -> Iterator[Write]:
    # Dictionaries and statistics of vectors only take room.
    names = [name for name in schema.names if name != "vector"]
    options: dict[str, Any] = {"use_dictionary": names, "write_statistics": names}
    with pq.ParquetWriter(path, schema, **options) as writer:
        yield writer.write_table


@contextmanager
def _arrow(path: Path, schema: pa.Schema, rows: int) -> Iterator[Write]:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        yield writer.write_table


@contextmanager
def _npy(path: Path, schema: pa.Schema, rows: int) -> Iterator[Write]:
    """Nothing but the vectors: an array (rows, size) of the file's precision."""
    kind = schema.field("vector").type
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, kind.list_size)}
        np.lib.format.write_array_header_1_0(file, header)

        def write(table: pa.Table) -> None:
            for part in table.column("vector").chunks:
                file.write(part.flatten().to_numpy(zero_copy_only=True).tobytes())

        yield write


WRITERS: dict[str, Writer] = {".parquet": _parquet, ".arrow": _arrow, ".feather": _arrow, ".npy": _npy}
"""By the ending of a file's name: opens it for tables of one schema, and so many rows in all."""
