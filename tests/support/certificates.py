"""A throw-away certificate authority, and what it signs.

In:  a folder.  Out: PEM files made by the openssl command.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = "IP:127.0.0.1,DNS:localhost"


class Pair(NamedTuple):
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates that only those trust who are given `ca.cert`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            from tests.conftest import missing_service  # late: conftest names modules of tests

            missing_service("no openssl command")
        self.folder = folder
        self.ca = self.self_signed("ca")

    def self_signed(self, name: str, names: str = HERE) -> Pair:
        pair = self._pair(name)
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={names}", "-keyout", str(pair.key), "-out", str(pair.cert)),
        )
        return pair

    def signed(self, name: str, names: str = HERE) -> Pair:
        """A certificate for these subject alternative names."""
        pair, request = self._pair(name), self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(pair.key), "-out", str(request)),
        )
        self._openssl(
            *("x509", "-req", "-days", "2", "-in", str(request), "-extfile", str(extensions)),
            *("-CA", str(self.ca.cert), "-CAkey", str(self.ca.key), "-CAcreateserial"),
            *("-out", str(pair.cert)),
        )
        return pair

    def _pair(self, name: str) -> Pair:
        return Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))
