"""The driver for RabbitMQ and other kombu transports."""
