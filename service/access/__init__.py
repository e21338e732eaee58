"""Who may call: projects and API keys."""
