"""HTTP over vectors, tasks and search. Start reading at `app.py`.

options.py      limits, and who may ask
app.py          the house: models, queue, routes, made one ASGI application
models.py       the models that are served, and what each can do
services.py     what the model's thread does with texts: vectors, token vectors, predictions, filled masks
batching.py     the queue before that thread: admission, fair order, batches by tokens
call.py         one request on its way: texts to the queue and back, with counts
endpoint.py     one route over HTTP: limits while reading, keys, the shape of errors, timing
bodies.py       what is asked and answered, as typed values
openai.py, tei.py, own.py   the routes, by whose shapes they have
guard.py, door.py   what headers decide: who may ask; and refusing while the queue is full
errors.py       refusals, and how each shape says them
description.py  the OpenAPI description
pages.py        what is at / and /docs; their parts are in page/
house.py        models, index, queue and counters together
route.py        what a route is
server.py       listening, slow clients, an orderly end
metrics.py, logs.py   for Prometheus, and one JSON line a request that was not refused at the door
"""

from bertsmith.serve.app import House, create_app
from bertsmith.serve.options import Limits, ServeOptions
from bertsmith.serve.server import Server, serve

__all__ = ["House", "Limits", "ServeOptions", "Server", "create_app", "serve"]
