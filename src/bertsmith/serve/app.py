"""The ASGI application: the routes of a house, the pages, and the description of it all."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from bertsmith.serve import description, openai, own, pages, tei
from bertsmith.serve.endpoint import Endpoint, refuse
from bertsmith.serve.errors import NotFound, Refusal, WrongMethod
from bertsmith.serve.house import House
from bertsmith.serve.route import Route

ROUTES: tuple[Route, ...] = (*openai.ROUTES, *tei.ROUTES, *own.ROUTES)


def create_app(house: House) -> Starlette:
    """The application; its lifespan starts and stops the model's thread."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await house.start()
        yield
        house.stop()

    about = description.describe(ROUTES, house.version)
    fixed = (
        ("/", "text/html", pages.try_page()),
        ("/docs", "text/html", pages.routes_page(ROUTES, about)),
        ("/openapi.json", "application/json", msgspec.json.encode(about).decode()),
    )
    app = Starlette(
        routes=[
            *(Path(route.path, Endpoint(route, house), methods=[route.method]) for route in ROUTES),
            *(Path(path, _fixed(media, content), methods=["GET"]) for path, media, content in fixed),
        ],
        exception_handlers={HTTPException: _no_route},  # pyright: ignore[reportArgumentType]
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # or a client is sent to whatever host it named
    return app


def _fixed(media: str, content: str) -> Callable[[Request], Awaitable[Response]]:
    headers = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}
    if media == "text/html":
        headers["content-security-policy"] = pages.policy(content)

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media, headers=headers)

    return answer


async def _no_route(request: Request, error: HTTPException) -> Response:
    refusal: Refusal = NotFound("There is no such route: see /docs.")
    if error.status_code == 405:
        refusal = WrongMethod("This route is there for another method: see /docs.")
    family = next((route.family for route in ROUTES if route.path == request.scope["path"]), "openai")
    response = refuse(refusal, family)
    if error.headers:
        response.headers.update(error.headers)
    return response
