"""Models that run in this process without a network: rules, called by litellm like any paid model."""
