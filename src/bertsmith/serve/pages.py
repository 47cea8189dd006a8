"""The two pages: one to try what is served, one that shows the routes. Each is one file and asks for nothing from elsewhere."""

import base64
import json
import re
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from bertsmith.inspection import palette
from bertsmith.inspection.page import asset
from bertsmith.serve.route import Route


def try_page() -> str:
    """For people: compare sentences, fill masks, search."""
    return _document("bertsmith", _part("try.html"), _part("try.js"))


def routes_page(routes: Sequence[Route], description: dict[str, Any]) -> str:
    """For people who write programs: the OpenAPI description, without the network that its usual viewers need."""
    parts = [
        '<header><p class="brand"><a href="./">bertsmith</a></p><h1>Routes</h1><p class="lead">What can be asked of this '
        'server, and what it answers. The same for programs: <a href="openapi.json">openapi.json</a>.</p></header>'
    ]
    for group in dict.fromkeys(route.group for route in routes):
        parts.append(f"<section><h2>{escape(group)}</h2>")
        parts += [_shown(route, description) for route in routes if route.group == group]
        parts.append("</section>")
    return _document("bertsmith: routes", "".join(parts))


def policy(page: str) -> str:
    """The content policy: nothing but what is in the page runs, and it speaks to nobody but this server."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        return (
            " ".join(f"'sha256-{base64.b64encode(sha256(one.encode()).digest()).decode()}'" for one in found)
            or "'none'"
        )

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _document(title: str, body: str, script: str = "") -> str:
    code = f"<script>{script}</script>" if script else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><style>{palette.style()}{asset("page.css")}{_part("serve.css")}</style></head>\n'
        f"<body><main>{body}</main>{code}</body>\n</html>\n"
    )


def _part(name: str) -> str:
    return files("bertsmith.serve").joinpath("page", name).read_text(encoding="utf-8")


def _shown(route: Route, description: dict[str, Any]) -> str:
    about = description["paths"][route.path][route.method.lower()]
    schemas = description["components"]["schemas"]
    parts = [] if route.body is None else [_fields("Body", schemas[route.body.__name__], schemas)]
    answer = about["responses"]["200"].get("content", {}).get("application/json", {}).get("schema")
    if answer is not None:
        parts.append(_fields("Answer", answer, schemas))
    if route.open:
        parts.append("<p>No key is needed.</p>")
    return (
        f'<details class="route"><summary><span class="method {route.method.lower()}">{route.method}</span>'
        f'<code>{escape(route.path)}</code><span class="about">{escape(route.summary)}</span></summary>'
        f"<div>{''.join(parts)}</div></details>"
    )


def _fields(title: str, schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """A value's fields as a table, then those of the values within it."""
    inside = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)))
    if "$ref" in schema:
        return _fields(title, schemas[inside.pop()], schemas)
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{_type(one)}<td>{'needed' if name in required else _default(one)}"
        for name, one in schema.get("properties", {}).items()
    )
    said = escape(" ".join(schema.get("description", "").split())) or f"{_type(schema).capitalize()}."
    said = re.sub(r"`([^`]+)`", r"<code>\1</code>", said)
    further = "".join(_fields(name, schemas[name], schemas) for name in sorted(inside))
    table = f'<div class="scroll"><table>{rows}</table></div>' if rows else ""
    return f"<h3>{escape(title)}</h3><p>{said}</p>{table}{further}"


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
        inner = _type(schema.get("items", {}))
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    return escape(str(schema.get("type", "anything")))
