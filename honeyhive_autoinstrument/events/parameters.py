"""Which arguments of a call are recorded, and as what. An allow-list: a name that is not here never leaves the process.

Sources: LiteLLM's signatures (main.py, images/main.py, 1.60 to 1.109), OpenAI's API reference, litellm_map.md 3.3, 8.2, 9.
"""

from __future__ import annotations

CONTENT = frozenset({"messages", "prompt", "input", "tools", "functions", "suffix", "prediction"})
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
    }
)  # fmt: skip
"""What tunes the call; goes to `config`."""

IDENTITY = frozenset(
    {
        "model", "custom_llm_provider", "user", "metadata", "litellm_metadata", "litellm_session_id",
        "litellm_trace_id", "litellm_call_id",
    }
)  # fmt: skip
"""Who calls what, and for whom."""

RECORDED = CONTENT | SETTINGS | IDENTITY

CREDENTIALS = frozenset(
    {
        "oci_key", "headers", "extra_headers", "default_headers", "extra_body", "extra_query", "fallbacks", "model_list",
        "deployments", "client",
    }
)  # fmt: skip
"""Never recorded, and hold or lead to credentials, as does every parameter that is named like one (`api_key`,
`azure_ad_token`, ...). They are learned, so that they are recognised where they turn up again."""

LITELLM_METADATA = frozenset(
    {
        "model_group", "model_group_alias", "model_group_size", "attempted_retries", "max_retries",
        "attempted_fallbacks", "original_model_group", "deployment", "model_info", "api_base",
        "deployment_model_name", "caching_groups", "previous_models", "request_retry_count",
        "_routing_request_tags", "llm_api_timing_windows", "kubernetes_pod_routing", "hidden_params", "headers",
        "user_api_key", "user_api_key_hash", "user_api_key_auth", "raw_request", "litellm_api_version",
        "requester_metadata", "endpoint", "is_silent_experiment", "litellm_parent_otel_span", "rpm_limit",
        "tpm_limit", "request_id", "litellm_model_name", "attempted_targets",
    }
)  # fmt: skip
"""Keys of `metadata` that LiteLLM's Router and Proxy write; they are read where they mean something, not copied."""
