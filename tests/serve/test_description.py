"""The OpenAPI description, and a server that is asked whatever it allows."""

import re
from typing import Any

import pytest

from bertsmith.serve.app import ROUTES


def test_every_route_is_described(everything: Any) -> None:
    about = everything.get("/openapi.json").json()
    assert set(about["paths"]) == {route.path for route in ROUTES}
    page = everything.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in page.text
    names = set(re.findall(r"#/components/schemas/(\w+)", everything.get("/openapi.json").text))
    assert names <= set(about["components"]["schemas"])


@pytest.mark.slow
def test_schemathesis_finds_no_failure(everything: Any) -> None:
    """Bodies that fit the description and bodies that do not: no 5xx, and answers as described."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    checks = CHECKS.get_by_names(["not_a_server_error", "response_schema_conformance", "content_type_conformance"])
    schema = schemathesis.openapi.from_dict(everything.get("/openapi.json").json())
    schema.config.update(base_url=everything.url)
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:
            if operation.method == "get" and mode.is_negative:
                continue  # there is nothing in it that could be wrong

            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                nonlocal count
                response = case.call()
                count += 1
                case.validate_response(response, checks=checks)

            ask()
    assert count > 400
