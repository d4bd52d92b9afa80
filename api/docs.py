"""`/docs`: the OpenAPI document and the page that shows it, both without asking any other server."""

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import (
    create_static_files_router,  # pyright: ignore[reportUnknownVariableType]
)

from api import batches, files, problems, webhooks
from workers import kinds
from workers.chat import flat
from workers.files import Announcement
from workers.webhooks import endpoints

_ASSETS = "/docs/assets"
_PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pulse AI Studio: API</title>
<link rel="icon" href="{_ASSETS}/favicon-32x32.png">
<link rel="stylesheet" href="{_ASSETS}/swagger-ui.css">
<div id="ui"></div>
<script src="{_ASSETS}/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{url: "/docs/openapi.json", dom_id: "#ui", deepLinking: true, persistAuthorization: true}})
</script>
</html>
"""


def _bodies() -> dict[tuple[str, str], Any]:
    """Return what is sent as JSON to the routes that read their bodies themselves: (method, path) -> shape."""
    specs: list[Any] = list(kinds.SPECS.values())
    return {
        ("post", "/v1/jobs"): functools.reduce(lambda one, other: one | other, specs),
        ("post", "/v1/chat/complete"): flat.SHAPE,
        ("post", "/v1/batches"): batches.BatchRequest,
        ("post", "/v1/files"): Announcement,
        ("patch", "/v1/files/{id}"): files.Change,
        ("patch", "/v1/files/folders"): files.Move,
        ("post", "/v1/webhooks"): endpoints.NewEndpoint,
        ("patch", "/v1/webhooks/{id}"): endpoints.EndpointChange,
        ("post", "/v1/webhooks/{id}/rotate"): webhooks.Rotation,
        ("post", "/v1/webhooks/secret/rotate"): webhooks.Rotation,
        ("post", "/v1/webhooks/{id}/recover"): webhooks.Recovery,
    }


_WHOLE_FILE = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        **{name: {"type": "string"} for name in ("purpose", "folder", "name", "media_type")},
        "file": {"type": "string", "format": "binary"},
    },
}


_LINES = {"schema": {"type": "string", "description": "A request a line."}}
_WHOLE_BATCH = {
    "type": "object",
    "required": ["file"],
    "properties": {
        **{name: {"type": "string"} for name in ("mode", "completion_window", "webhook", "endpoint")},
        "metadata": {"type": "string", "description": "JSON."},
        "file": {"type": "string", "format": "binary"},
    },
}


class _Document(JsonRenderPlugin):
    """The document, with what may be sent described by msgspec: Litestar's own leaves the tag `kind` out."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        bodies = _bodies()
        references, schemas = msgspec.json.schema_components(
            list(bodies.values()), ref_template="#/components/schemas/{name}"
        )
        openapi_schema["components"]["schemas"] |= schemas
        for (method, path), reference in zip(bodies, references, strict=True):
            content = {"application/json": {"schema": reference}}
            openapi_schema["paths"][path][method]["requestBody"] = {"required": True, "content": content}
        posted = openapi_schema["paths"]["/v1/files"]["post"]["requestBody"]["content"]
        posted["multipart/form-data"] = {"schema": _WHOLE_FILE}
        posted = openapi_schema["paths"]["/v1/batches"]["post"]["requestBody"]["content"]
        posted |= {"application/jsonl": _LINES, "multipart/form-data": {"schema": _WHOLE_BATCH}}
        return msgspec.json.encode(openapi_schema, enc_hook=str)


class _Page(OpenAPIRenderPlugin):
    """The page."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return _PAGE.encode()


def config() -> OpenAPIConfig:
    """Return what the app is told about its document."""
    return OpenAPIConfig(
        title="Pulse AI Studio",
        version="1",
        description="Asynchronous jobs for AI generation. Errors are `application/problem+json` with a stable `code`.",
        path="/docs",
        components=Components(security_schemes={"apiKey": SecurityScheme(type="http", scheme="bearer")}),
        render_plugins=[_Page(path="/"), _Document(path="/openapi.json")],
    )


def assets() -> Router:
    """Return the route of Swagger UI's files, from the wheel that carries them."""
    spec = find_spec("swagger_ui_bundle")
    assert spec is not None
    assert spec.origin is not None
    vendor = next(iter(sorted((Path(spec.origin).parent / "vendor").iterdir())))
    # A path that no file system can have is not found, like any other that is not there.
    unthinkable: dict[int | type[Exception], Any] = {
        ValueError: problems.on_no_file,
        HTTPException: problems.on_no_file,
    }
    return create_static_files_router(_ASSETS, [vendor], include_in_schema=False, exception_handlers=unthinkable)
