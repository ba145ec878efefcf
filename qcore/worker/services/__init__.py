"""What runs beside the loop in threads: lease, reports, health file, throughput, autoscale."""
