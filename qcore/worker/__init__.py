"""The worker process: its loop, admission, settlement, services and remote control."""
