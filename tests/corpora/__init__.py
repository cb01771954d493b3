"""Texts by which redaction is measured: credentials that must go, ordinary texts that must stay."""
