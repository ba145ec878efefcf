"""The worker's services: lease, health file, events and remote control; reports, throughput, autoscaling."""
