"""Products, orders, receipts."""
