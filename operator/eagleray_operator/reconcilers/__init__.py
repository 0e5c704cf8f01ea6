"""Pure decisions: from a resource and what was observed of it to a plan. No clock, no client, no environment."""
