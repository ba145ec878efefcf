"""A document archive on Django: settings by namespace, bare discovery, signals, an own serializer."""
