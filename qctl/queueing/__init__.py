"""The pages of `qctl queue`, by what they do; qctl/commands/queue.py puts them together."""
