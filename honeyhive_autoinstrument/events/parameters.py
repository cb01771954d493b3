"""Which arguments of a call are recorded, and as what. An allow-list: a name that is not here never leaves the process.

Sources: LiteLLM's signatures (main.py, images/main.py, 1.60 to 1.109), OpenAI's API reference, litellm_map.md 3.3, 8.2, 9.
"""

from __future__ import annotations

CONTENT = frozenset(
    {
        "messages", "prompt", "input", "tools", "functions", "suffix", "prediction",
        "system", "instructions", "response_id",  # Anthropic messages, Responses
        "contents", "systemInstruction", "system_instruction",  # generate_content
        "query", "documents", "document",  # rerank, search, OCR
        "file", "image", "mask", "input_reference", "video_id",  # media
        "questions", "fields", "state", "images", "agent",  # decisions, extraction, systemone, interactions
    }
)  # fmt: skip
"""What the model is given."""

SETTINGS = frozenset(
    {
        "temperature", "top_p", "top_k", "min_p", "n", "stop", "seed", "max_tokens", "max_completion_tokens",
        "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
        "tool_choice", "function_call", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking",
        "verbosity", "modalities", "audio", "service_tier", "store", "stream", "stream_options", "web_search_options",
        "best_of", "echo", "dimensions", "encoding_format", "size", "quality", "style", "background", "output_format",
        "timeout", "request_timeout", "num_retries", "max_retries", "drop_params", "caching",
        "base_model", "region_name", "aws_region_name", "vertex_location", "api_version",
        "mock_testing_fallbacks", "priority", "specific_deployment",
        # Responses
        "max_output_tokens", "reasoning", "text", "text_format", "include", "truncation", "previous_response_id",
        "conversation", "max_tool_calls", "context_management", "starting_after",
        # Anthropic messages, generate_content
        "stop_sequences", "container", "output_config", "config", "generationConfig", "generation_config", "toolConfig",
        "tool_config", "safetySettings", "safety_settings", "cachedContent", "cached_content", "guardrailConfig",
        # rerank, search, OCR, embeddings
        "top_n", "rank_fields", "return_documents", "max_chunks_per_doc", "max_tokens_per_doc", "search_provider",
        "max_results", "search_domain_filter", "max_tokens_per_page", "country", "pages", "include_image_base64",
        "image_limit", "image_min_size", "input_type", "truncate", "task_type",
        # audio, images, video
        "voice", "speed", "language", "timestamp_granularities", "chunking_strategy", "input_fidelity",
        "output_compression", "partial_images", "moderation", "seconds", "aspect_ratio",
        # several models, tool loops, adapters, retries
        "models", "max_workers", "adapter_id", "max_rounds", "max_iterations", "retry_strategy", "retrieval_config",
    }
)  # fmt: skip
"""What tunes the call; goes to `config`."""

IDENTITY = frozenset(
    {
        "model", "custom_llm_provider", "user", "metadata", "litellm_metadata", "litellm_session_id",
        "litellm_trace_id", "litellm_call_id", "safety_identifier", "prompt_cache_key",
    }
)  # fmt: skip
"""Who calls what, and for whom."""

RECORDED = CONTENT | SETTINGS | IDENTITY

CREDENTIALS = frozenset(
    {
        "oci_key", "headers", "extra_headers", "default_headers", "extra_body", "extra_query", "fallbacks",
        "context_window_fallbacks", "content_policy_fallbacks", "model_list", "deployments", "client",
    }
)  # fmt: skip
"""Never recorded, and hold or lead to credentials, as does every parameter that is named like one (`api_key`,
`azure_ad_token`, ...). They are learned, so that they are recognised where they turn up again."""

FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""Arguments that name models to fall back to; of these the names are recorded."""

LITELLM_METADATA = frozenset(
    {
        "model_group", "model_group_alias", "model_group_size", "attempted_retries", "max_retries",
        "attempted_fallbacks", "original_model_group", "deployment", "model_info", "api_base",
        "deployment_model_name", "caching_groups", "previous_models", "request_retry_count",
        "_routing_request_tags", "llm_api_timing_windows", "kubernetes_pod_routing", "hidden_params", "headers",
        "user_api_key", "user_api_key_hash", "user_api_key_auth", "raw_request", "litellm_api_version",
        "requester_metadata", "endpoint", "is_silent_experiment", "litellm_parent_otel_span", "rpm_limit",
        "tpm_limit", "request_id", "litellm_model_name", "attempted_targets", "routing_decision",
    }
)  # fmt: skip
"""Keys of `metadata` that LiteLLM's Router and Proxy write; they are read where they mean something, not copied."""

PROXY_IDENTITY = (
    ("user_api_key", "virtual_key_hash"),
    ("user_api_key_hash", "virtual_key_hash"),
    ("user_api_key_alias", "virtual_key_alias"),
    ("user_api_key_spend", "virtual_key_spend"),
    ("user_api_key_max_budget", "virtual_key_max_budget"),
    ("user_api_key_budget_reset_at", "virtual_key_budget_reset_at"),
    ("user_api_key_team_id", "team_id"),
    ("user_api_key_team_alias", "team_alias"),
    ("user_api_key_team_spend", "team_spend"),
    ("user_api_key_team_max_budget", "team_max_budget"),
    ("user_api_key_user_id", "user_id"),
    ("user_api_key_user_email", "user_email"),
    ("user_api_key_user_spend", "user_spend"),
    ("user_api_key_user_max_budget", "user_max_budget"),
    ("user_api_key_org_id", "organization_id"),
    ("user_api_key_org_alias", "organization_alias"),
    ("user_api_key_project_id", "project_id"),
    ("user_api_key_project_alias", "project_alias"),
    ("user_api_key_end_user_id", "end_user_id"),
    ("user_api_end_user_max_budget", "end_user_max_budget"),
    ("applied_guardrails", "applied_guardrails"),
    ("tags", "tags"),
)
"""What the Proxy notes of who asks, and our names for it (litellm_map.md 8.2; the Proxy's own have `api_key` in them). The
first is a hash or, with a `custom_auth` whose keys do not begin with `sk-`, the key itself; the later of two wins."""

PROXY_NAMES = frozenset(
    {*(ours for _, ours in PROXY_IDENTITY), "route", "user_agent", "caller_ip"},
)
"""Keys of `metadata` that are ours on a request of the Proxy's, whatever its client sends under that name."""

RESPONSE_HEADERS = (
    "x-ratelimit-", "ratelimit-", "anthropic-ratelimit-", "anthropic-organization-id", "openai-organization",
    "openai-processing-ms", "openai-version", "openai-model", "x-request-id", "request-id", "x-amzn-requestid",
    "x-amzn-bedrock-", "apim-request-id", "x-ms-region", "x-ms-client-request-id", "azureml-model-session",
    "x-goog-", "x-vertex-", "cf-ray", "retry-after", "x-should-retry", "mistral-correlation-id", "x-mistral-", "x-groq-",
    "x-kong-", "x-trace-id", "x-debug-trace-id", "x-endpoint-monthly-call-limit", "x-trial-endpoint-call-",
)  # fmt: skip
"""Beginnings of the names of response headers that CAPTURE_HEADERS records: limits and request ids. An allow-list."""

REQUEST_ID_HEADERS = (
    "x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "x-goog-request-id", "mistral-correlation-id",
    "x-debug-trace-id", "x-trace-id",
)  # fmt: skip
"""Where providers put the id of a request, the best first."""

PROVIDER_PREFIX = "llm_provider-"
"""LiteLLM's prefix for the provider's own headers in `additional_headers` (litellm_map.md 4.2)."""
