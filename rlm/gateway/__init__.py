"""Every model call passes here: litellm behind a ledger, pacing, a cache, and offline models."""
