"""celeryproj with a visibility timeout of one second: takes back what is held for longer."""

from tests.projects.celeryproj import app

app.conf.broker_transport_options = {
    "visibility_timeout": 1,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
