"""The OpenAPI description of the routes, and a page that shows it without a network."""

import json
from collections.abc import Sequence
from html import escape
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


def page(routes: Sequence[Route], description: dict[str, Any], frame: str) -> str:
    """The description as HTML, put into `frame` where it says CONTENT."""
    schemas = description["components"]["schemas"]
    parts: list[str] = []
    for group in dict.fromkeys(route.group for route in routes):
        parts.append(f"<h2>{escape(group)}</h2>")
        parts += [_shown(route, schemas) for route in routes if route.group == group]
    return frame.replace("CONTENT", "\n".join(parts))


def _shown(route: Route, schemas: dict[str, Any]) -> str:
    fields = _fields(route.body, schemas) if route.body else ""
    answer = ""
    if route.answer is not None:
        name = getattr(route.answer, "__name__", "")
        inside = (
            _fields(route.answer, schemas) if name in schemas else f"<p><code>{escape(str(route.answer))}</code></p>"
        )
        answer = f"<h3>Answer</h3>{inside}"
    asked = f"<h3>Body</h3>{fields}" if fields else ""
    head = f"<span class=method>{route.method}</span> <code>{escape(route.path)}</code> <span>{escape(route.summary)}</span>"
    return f"<details><summary>{head}</summary>{asked}{answer}</details>"


def _fields(kind: type, schemas: dict[str, Any]) -> str:
    schema = schemas[kind.__name__]
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{_type(one)}<td>{'needed' if name in required else _default(one)}"
        for name, one in schema.get("properties", {}).items()
    )
    return f"<p>{escape(' '.join(schema.get('description', '').split()))}</p><table>{rows}</table>"


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default is None else f"default <code>{escape(json.dumps(default))}</code>"


def _type(schema: dict[str, Any]) -> str:
    """A schema in words."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(one))}</code>" for one in schema["enum"])
    if "$ref" in schema:
        return escape(schema["$ref"].rpartition("/")[2])
    if schema.get("type") == "array":
        return f"list of ({_type(schema.get('items', {}))})"
    return escape(str(schema.get("type", "anything")))
