"""Bytes of a whole Bundle, or of its difference to the one before, by tools that everybody has.

Runs in an environment with zstandard and bsdiff4. Both Bundles travel as one tar, files in order of
their names; a patch is applied again and must give the new one.
"""

import io
import json
import sys
import tarfile
import time
from pathlib import Path

import bsdiff4
import zstandard

LEVEL = 19


def main():
    request = json.load(sys.stdin)
    old, new = (tarred(Path(request[name])) for name in ("old", "new"))
    known = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    settings = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=max(len(old), len(new)).bit_length() + 1, enable_ldm=True
    )
    patch = zstandard.ZstdCompressor(dict_data=known, compression_params=settings).compress(new)
    # bsdiff sorts the whole old file, which takes long and many times its size of memory.
    difference = bsdiff4.diff(old, new)
    began = time.process_time()
    again = bsdiff4.patch(old, difference)
    took = time.process_time() - began
    unpack = zstandard.ZstdDecompressor(dict_data=known, max_window_size=1 << 31)
    if again != new or unpack.decompress(patch) != new:
        sys.exit("a patch gave another Bundle")
    whole = zstandard.ZstdCompressor(level=LEVEL).compress(new)
    print(
        json.dumps(
            {"whole": len(whole), "zstd": len(patch), "bsdiff": len(difference), "patch_s": took}
        )
    )


def tarred(folder):
    """All files in one, without times or owners."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for file in sorted(folder.iterdir()):
            record = tarfile.TarInfo(file.name)
            record.size = file.stat().st_size
            with file.open("rb") as stream:
                tar.addfile(record, stream)
    return out.getvalue()


main()
