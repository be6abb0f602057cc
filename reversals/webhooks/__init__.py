"""What webhooks are told: made with what they tell of, and delivered later by a worker of its own."""
