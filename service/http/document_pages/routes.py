"""/docs and /redoc show the OpenAPI document, without the internet: all of their files are in `assets`.

`assets` has a folder per library and release, copied unchanged from its npm package, with its licence.
"""

import base64
import hashlib
from os import PathLike, stat_result
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

ASSETS_PATH = "/docs/assets"
SWAGGER_UI = "docs/assets/swagger-ui-5.35.0"
REDOC = "docs/assets/redoc-2.5.4"

_START = """
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
# Addresses are relative, so that the pages work behind a proxy that adds a prefix.
_SWAGGER_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sensorium</title>
<link rel="icon" href="{SWAGGER_UI}/favicon-32x32.png">
<link rel="stylesheet" href="{SWAGGER_UI}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The document itself is at <a href="openapi.json">openapi.json</a>.</noscript>
<script src="{SWAGGER_UI}/swagger-ui-bundle.js"></script>
<script>{_START}</script>
</body>
</html>
"""
_REDOC_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sensorium</title>
<link rel="icon" href="{SWAGGER_UI}/favicon-32x32.png">
<style>body {{ margin: 0; padding: 0; }}</style>
</head>
<body>
<redoc spec-url="openapi.json"></redoc>
<noscript>This page needs JavaScript. The document itself is at <a href="openapi.json">openapi.json</a>.</noscript>
<script src="{REDOC}/redoc.standalone.js"></script>
</body>
</html>
"""
_START_HASH = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
# Nothing comes from elsewhere: ReDoc's logo, the only external file that either library asks for, stays away.
_POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{_START_HASH}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# A new release of the service may name other files.
_PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
# The path has the release of the library: the content never changes.
_ASSET_CACHE = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    """The document in Swagger UI, which can also send requests."""
    return HTMLResponse(_SWAGGER_PAGE, headers=_PAGE_HEADERS)


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """The document in ReDoc, for reading."""
    return HTMLResponse(_REDOC_PAGE, headers=_PAGE_HEADERS)


class Assets(StaticFiles):
    """The files of the pages, which browsers keep for a year. Mount it at `ASSETS_PATH`."""

    def __init__(self) -> None:
        super().__init__(directory=Path(__file__).parent / "assets")

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, or 304 if the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = _ASSET_CACHE
        return response
