"""Services that look things up: Mistral's OCR, Tavily's search, OpenAI's vector stores and video jobs.

Written after the published API references of Mistral (OCR), Tavily (Search) and OpenAI (Vector stores, Videos).
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import Behaviour

FOUND = "The sky is blue."
PAGE_IMAGE = b"\x89PNG\r\n\x1a\n a figure of the page"


class LookupWire:
    """`/v1/ocr`, `/search`, `/v1/vector_stores/<id>/search`, `/v1/videos`."""

    def model_of(self, request: Request) -> str | None:
        path = request.path.partition("?")[0]
        if path.endswith(("/ocr", "/search", "/v1/videos")):
            return str(request.json.get("model") or "")
        return None

    def error(self, how: Behaviour) -> Reply:
        return Reply.of({"error": {"message": how.message}}, status=how.status)

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        path = request.path.partition("?")[0]
        if path.endswith("/ocr"):
            return Reply.of(self._pages(model))
        if path.endswith("/v1/videos"):
            return Reply.of(
                {
                    "id": "video_1", "object": "video", "model": model, "status": "queued", "progress": 0,
                    "created_at": 1_760_000_000, "size": "720x1280", "seconds": "4",
                }
            )  # fmt: skip
        if "/vector_stores/" in path:
            content = [{"type": "text", "text": FOUND}]
            hit = {"file_id": "file_1", "filename": "sky.txt", "score": 0.9, "attributes": {}, "content": content}
            page = {"object": "vector_store.search_results.page", "search_query": ["sky"], "data": [hit]}
            return Reply.of({**page, "has_more": False, "next_page": None})
        hit = {"title": "Sky", "url": "https://example.org/sky", "content": FOUND, "score": 0.9}
        return Reply.of({"query": request.json.get("query"), "results": [hit], "response_time": 0.1})

    def _pages(self, model: str) -> dict[str, Any]:
        image = {
            "id": "img-0.png", "top_left_x": 0, "top_left_y": 0, "bottom_right_x": 10, "bottom_right_y": 10,
            "image_base64": b64encode(PAGE_IMAGE).decode(),
        }  # fmt: skip
        page = {
            "index": 0,
            "markdown": f"# {FOUND}",
            "images": [image],
            "dimensions": {"dpi": 200, "height": 100, "width": 80},
        }
        return {"pages": [page], "model": model, "usage_info": {"pages_processed": 1, "doc_size_bytes": 100}}
