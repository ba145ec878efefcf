"""Between a claim and the pool: admission, redelivery, revoked ids, rate limits."""
