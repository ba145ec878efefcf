"""The steps between a claim and the pool: redelivery, admission, revoked ids, rate limits."""
