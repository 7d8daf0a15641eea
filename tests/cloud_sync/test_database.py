from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from couchside.cloud_sync.database import open_database
from couchside.device.errors import StoreError

SCHEMA = "CREATE TABLE one (n INTEGER PRIMARY KEY) STRICT; CREATE TABLE two (n INTEGER) STRICT;"
OPEN = """
import sys, time
from pathlib import Path
from couchside.cloud_sync.database import open_database
end = float(sys.argv[2])
while time.time() < end:
    pass  # so that all begin at the same moment
for n in range(20):
    open_database(Path(sys.argv[1]) / f"{n}.db", sys.argv[3], 1, otherwise="-").close()
"""


def test_processes_that_make_one_database_at_the_same_moment_all_get_it(tmp_path):
    start = str(time.time() + 1.0)
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-c", OPEN, str(tmp_path), start, SCHEMA],
                    capture_output=True,
                    text=True,
                    check=False,
                ),
                range(4),
            )
        )
    assert [one.stderr for one in done] == [""] * 4


def test_database_is_private_and_keeps_what_is_in_it(tmp_path):
    file = tmp_path / "folder" / "some.db"
    db = open_database(file, SCHEMA, 1, otherwise="-")
    db.execute("INSERT INTO one VALUES (7)")
    db.close()
    assert file.stat().st_mode & 0o777 == 0o600
    again = open_database(file, SCHEMA, 1, otherwise="-")
    assert again.execute("SELECT n FROM one").fetchall() == [(7,)]
    assert again.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert again.execute("PRAGMA synchronous").fetchone() == (2,)
    again.close()


@pytest.mark.parametrize("damage", ["newer", "garbage"])
def test_database_that_is_newer_or_none_is_refused_with_what_to_do(tmp_path, damage):
    file = tmp_path / "some.db"
    if damage == "newer":
        open_database(file, SCHEMA, 2, otherwise="-").close()
    else:
        file.write_bytes(b"no database at all " * 100)
    with pytest.raises(StoreError, match=r"some\.db: .*"):
        open_database(file, SCHEMA, 1, otherwise="move it away")
