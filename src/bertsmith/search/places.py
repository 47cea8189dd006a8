"""Where an index lies: a folder, or a bucket of an object store that speaks S3's language.

    Place("runs/mill.index").folder          # to write in, and to read
    Place("s3://bucket/mill.index")          # to read

Keys and the address of the store are in the environment, under the names that LanceDB and Arrow both know: AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem

from bertsmith.errors import CheckpointError, UsageError

_AT_ONCE = 8 << 20  # bytes that are asked for at a time


class Place:
    """A place by its name, as people and LanceDB call it."""

    def __init__(self, given: "str | Path | Place") -> None:
        """Name a place; whether anything is there is seen later.

        Raises:
            UsageError: it is neither a folder nor in a bucket.
            CheckpointError: the store cannot be reached.
        """
        scheme, url, _ = str(given).partition("://")
        if url and scheme != "s3":
            raise UsageError(f"{given}: an index lies in a folder, or at s3://BUCKET/NAME.")
        self.name = str(given).rstrip("/") if url else str(Path(str(given)))
        self._is_folder = not url
        self._files, self._root = LocalFileSystem(), self.name
        if url:
            with self._reached():
                self._files, self._root = FileSystem.from_uri(self.name)

    def __str__(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        """The folder, to write in.

        Raises:
            UsageError: it is in a bucket.
        """
        if not self._is_folder:
            raise UsageError(
                f"{self}: an index in a bucket is only read. Change it in a folder of this machine, and copy that there."
            )
        return Path(self.name)

    def has(self, file: str) -> bool:
        """Whether a file is there.

        Raises:
            CheckpointError: it cannot be known.
        """
        with self._reached():
            return self._files.get_file_info(f"{self._root}/{file}").is_file

    def read(self, file: str, most_bytes: int) -> bytes:
        """The content of a file, or of a longer one a little more than `most_bytes`.

        Raises:
            FileNotFoundError, NotADirectoryError: it is not there.
            CheckpointError: it cannot be read.
        """
        with self._reached(), self._files.open_input_stream(f"{self._root}/{file}") as stream:
            return stream.read(most_bytes + 1)

    def sizes(self, folder: str) -> dict[str, int]:
        """How many bytes each file in and below `folder` has, by its name there.

        Raises:
            CheckpointError: it cannot be read.
        """
        root = f"{self._root}/{folder}"
        with self._reached():
            found = self._files.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
        return {info.path[len(root) + 1 :]: info.size for info in found if info.is_file}

    def sha256_of(self, file: str) -> str:
        """SHA-256 of a file's content, in hexadecimal, read in constant memory.

        Raises:
            FileNotFoundError: it is not there.
            CheckpointError: it cannot be read.
        """
        with self._reached(), self._files.open_input_stream(f"{self._root}/{file}", buffer_size=_AT_ONCE) as stream:
            return file_digest(stream, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Errors of Arrow in one sentence, but for that something is not there."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self}: cannot be read ({str(error).splitlines()[0][:300]}).") from error
