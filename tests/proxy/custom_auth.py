"""The proxy's `custom_auth`, copied next to its config: the virtual keys of KEYS, and what a database would know of them."""

from __future__ import annotations

from typing import Any

from litellm.proxy._types import ProxyException, UserAPIKeyAuth

KEYS: dict[str, dict[str, Any]] = {
    "sk-virtual-0123456789abcdef": {
        "key_alias": "search-prod",
        "spend": 1.5,
        "max_budget": 10.0,
        "team_id": "team-search",
        "team_alias": "Search",
        "team_spend": 2.5,
        "team_max_budget": 20.0,
        "user_id": "user-ada",
        "user_email": "ada@example.com",
        "user_spend": 3.5,
        "user_max_budget": 30.0,
        "org_id": "org-acme",
        "organization_alias": "Acme",
        "project_id": "project-index",
        "metadata": {"tags": ["of-the-key"]},
        "team_metadata": {},
    },
    "sk-teamless-0123456789abcdef": {"key_alias": "teamless", "user_id": "user-bob"},
    # LiteLLM hashes a key that begins with sk-, and hands any other on as it is.
    "opaque-virtual-key-0123456789abcdef": {"key_alias": "opaque", "user_id": "user-eve"},
}


async def user_api_key_auth(request: Any, api_key: str) -> UserAPIKeyAuth:
    if api_key not in KEYS:
        raise ProxyException(message="no such key", type="auth_error", param="api_key", code=401)
    return UserAPIKeyAuth(api_key=api_key, **KEYS[api_key])
