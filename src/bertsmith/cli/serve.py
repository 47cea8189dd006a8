"""bertsmith serve: vectors, predictions, masks and search over HTTP."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from bertsmith.cli.options import DEFAULT_MODEL, Lane, lane_of
from bertsmith.cli.terminal import talk


def serve(
    model: Annotated[
        list[Path] | None,
        Option("--model", "-m", help="Model folder, or the name of a shipped one; several for several abilities."),
    ] = None,
    index: Annotated[
        str | None, Option(help="Index to search, from bertsmith index: a folder, or s3://BUCKET/NAME.")
    ] = None,
    host: Annotated[str, Option(help="Address to listen on; beyond this machine only with a key.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 8000,
    api_key_file: Annotated[Path | None, Option(help="File of bearer keys, one a line. Or BERTSMITH_API_KEY.")] = None,
    open_to_all: Annotated[bool, Option("--open-to-all", help="No key, though others can reach it.")] = False,
    drain: Annotated[float, Option(help="Seconds after a SIGTERM in which requests are still taken.", min=0)] = 2.0,
    grace: Annotated[float, Option(help="Seconds that what is under way may take after that.", min=1)] = 30.0,
    lane: Lane = "float32",
    quiet: Annotated[bool, Option("--quiet", "-q", help="No line for each request on stderr.")] = False,
) -> None:
    """Serve models and an index over HTTP, to clients of OpenAI, text-embeddings-inference and bert-as-service.

    http://HOST:PORT/ is a page to try it, /docs the routes. SIGTERM ends it in good order.

    Library call: bertsmith.serve.serve(House([bertsmith.load(MODEL)]))
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # while models are loaded
    import bertsmith
    from bertsmith.errors import MissingExtra

    try:
        from bertsmith.serve import House, Limits, ServeOptions
        from bertsmith.serve import serve as listen
        from bertsmith.serve.logs import silent_log
        from bertsmith.serve.options import KEY_VARIABLE, check_keys, read_keys
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "uvicorn", "serve") from None

    keys = read_keys(api_key_file) if api_key_file else ()
    if given := os.environ.get(KEY_VARIABLE, "").strip():
        keys += check_keys((given,), KEY_VARIABLE)
    options = ServeOptions(
        host=host,
        port=port,
        keys=keys,
        open_to_all=open_to_all,
        lane=lane_of(lane),
        limits=Limits(drain=drain, grace=grace),
    )
    loaded = [bertsmith.load(folder) for folder in model or [DEFAULT_MODEL]]
    finder = None if index is None else bertsmith.open_index(index)
    house = House(loaded, finder, options, log=silent_log if quiet else None)
    for one in house.models.models:
        talk.print(f"{one.name}: {one.embedder.about}", markup=False, soft_wrap=True)
    talk.print(f"http://{f'[{host}]' if ':' in host else host}:{port}/  Ctrl-C stops it.", markup=False)
    listen(house)
