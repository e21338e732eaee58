"""Access control: projects, API keys, scopes, quotas, rate limits and the audit log."""
