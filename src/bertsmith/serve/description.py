"""The OpenAPI description of the routes."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bertsmith.serve.errors import OpenAIError, TeiError
from bertsmith.serve.route import Route

_ERRORS = {
    "400": "The body is not JSON, or there is no text",
    "401": "No key, or a wrong one",
    "413": "The body is too large",
    "415": "The body is compressed, or not said to be JSON",
    "421": "Meant for another host",
    "422": "Something in it is not as it must be",
    "424": "No model that is served can do this",
    "429": "Too many requests; Retry-After says when to ask again",
    "500": "The model failed",
    "503": "The server is stopping, or the model does not answer",
}
_REFERENCE = "#/components/schemas/{name}"


def describe(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    kinds = [kind for route in routes for kind in (route.body, route.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components([*kinds, OpenAIError, TeiError], ref_template=_REFERENCE)
    by_kind = dict(zip(map(id, kinds), schemas, strict=False))
    errors = {"openai": schemas[-2], "tei": schemas[-1]}
    paths: dict[str, Any] = {}
    for route in routes:
        answer: dict[str, Any] = {"description": "Done"}
        if route.answer is not None:
            answer["content"] = {route.media: {"schema": by_kind[id(route.answer)]}}
        elif route.media != "application/json":
            answer["content"] = {route.media: {"schema": {"type": "string"}}}
        wrong = {"application/json": {"schema": errors[route.family]}}
        names = _ERRORS if route.body is not None else ("401", "404", "421", "503")
        about: dict[str, Any] = {
            "operationId": f"{route.method.lower()}_{route.path.strip('/').replace('/', '_').strip('{}')}",
            "summary": route.summary,
            "tags": [route.group],
            "responses": {"200": answer}
            | {code: {"description": _ERRORS.get(code, "Not there"), "content": wrong} for code in names},
        }
        if route.body is not None:
            content = {"application/json": {"schema": by_kind[id(route.body)]}}
            about["requestBody"] = {"required": True, "content": content}
        if route.open:
            about["security"] = []
        if "{" in route.path:
            name = route.path.partition("{")[2].partition("}")[0]
            about["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}]
        paths.setdefault(route.path, {})[route.method.lower()] = about
    return {
        "openapi": "3.1.0",
        "info": {"title": "bertsmith", "version": version, "description": "Vectors, predictions, masks and search."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }
