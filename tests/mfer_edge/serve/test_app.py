"""The description of the API, and the small endpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from mfer_edge import __version__
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.app import FOLDER, STATIC, build_app
from mfer_edge.serve.connections import Connections
from tests.support.serving import Served

OPENAPI = json.loads((FOLDER / "openapi.json").read_text())


def check(value: Any, schema: str) -> None:
    """Check a value against a schema of the description."""
    jsonschema.validate(value, {**OPENAPI, "$ref": f"#/components/schemas/{schema}"})


class TestDescription:
    def test_is_valid(self) -> None:
        validate(OPENAPI)

    def test_names_every_endpoint_and_no_other(self, served: Served) -> None:
        app = build_app(served.state, Connections(1, 1.0))
        paths = {getattr(route, "path", "") for route in app.routes}
        assert set(OPENAPI["paths"]) == paths - {"/", "/static"}

    def test_is_served(self, served: Served) -> None:
        assert served.ask("/v1/openapi.json").json == OPENAPI

    def test_a_result_fits(self, served: Served, moment: Path) -> None:
        result = served.analyze(moment.read_bytes()).json
        check(result, "Analysis")
        schema = OPENAPI["components"]["schemas"]
        assert set(result) == set(schema["Analysis"]["properties"])
        assert set(result["windows"][0]) == set(schema["Reading"]["properties"])
        with pytest.raises(jsonschema.ValidationError):
            check({**result, "windows": [{}]}, "Analysis")

    def test_an_error_fits(self, served: Served) -> None:
        for answer in (served.ask("/none"), served.ask("/v1/analyze"), served.analyze(b"x")):
            assert answer.status >= 400
            check(answer.json, "Error")

    def test_statuses_are_those_of_the_uploads(self) -> None:
        known = set(OPENAPI["paths"]["/v1/analyze"]["post"]["responses"])
        assert {"200", "400", "408", "413", "415", "422", "503", "507"} <= known


class TestEndpoints:
    def test_info(self, served: Served, once: Pipeline) -> None:
        info = served.ask("/v1/info").json
        check(info, "Info")
        assert info["version"] == __version__
        assert info["labels"] == list(once.bundle.manifest.labels)
        assert info["bundle"]["sha256"] == once.bundle.sha256
        assert info["sessions"]["limit"] == 4

    def test_metrics(self, served: Served) -> None:
        answer = served.ask("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = answer.body.decode()
        for name in ("sessions", "readings", "reading_lag_seconds", "uploads", "connections"):
            assert f"# TYPE mfer_edge_{name}" in text

    def test_page(self, served: Served) -> None:
        answer = served.ask("/")
        assert answer.body == (STATIC / "index.html").read_bytes()
        assert answer.headers["cache-control"] == "no-cache"

    def test_the_page_asks_nobody_else(self) -> None:
        """No CDN, no fonts: it works on a machine without a network."""
        for file in STATIC.iterdir():
            text = file.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text and "https://" not in text and "//cdn" not in text, file
