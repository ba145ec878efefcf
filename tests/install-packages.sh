#!/bin/sh
# Install RabbitMQ, Redis (the one of the test requirements has no TLS) and tmux from Debian's packages, if this is a Debian system and we are root.
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "RabbitMQ, redis-server or tmux is not installed and cannot be installed from here: its tests are skipped" >&2
    exit 0
fi
echo "installing RabbitMQ, redis-server and tmux for the tests" >&2
export DEBIAN_FRONTEND=noninteractive
# The package would start a server on the standard port; the tests start their own.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" && made=yes
fi
apt-get update -qq >/tmp/install-packages.$$ 2>&1
for package in rabbitmq-server redis-server tmux; do
    apt-get install -y -qq --no-install-recommends "$package" >>/tmp/install-packages.$$ 2>&1 \
        || { tail -n 5 /tmp/install-packages.$$ >&2; echo "$package could not be installed: its tests are skipped" >&2; }
done
rm -f /tmp/install-packages.$$
[ -z "$made" ] || rm -f "$policy"
exit 0
