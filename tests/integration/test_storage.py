"""The contract of `Storage`, on moto's S3, which has the real limits of multipart uploads.

`MemoryStorage` keeps it, too: runs under faults (`tests/faults`) stand on it.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from manifold import s3_upload
from manifold.errors import Unavailable
from manifold.storage import Piece, Storage
from tests.support.aws import BUCKET, Aws
from tests.support.memory_storage import MemoryStorage

pytest_plugins = ("tests.support.aws_fixtures",)

MIB = 1024 * 1024


@dataclass(frozen=True)
class Bucket:
    """What a storage has written, read past it."""

    storage: Storage
    read: Callable[[str], bytes]
    keys: Callable[[], list[str]]
    open_uploads: Callable[[], int]


@pytest.fixture(params=["s3", "memory"])
def bucket(request: pytest.FixtureRequest, aws: Aws) -> Bucket:
    if request.param == "s3":
        return Bucket(Storage(BUCKET), aws.read, aws.keys, aws.open_uploads)
    storage = MemoryStorage()
    return Bucket(storage, lambda key: storage.objects[key], lambda: sorted(storage.objects), lambda: 0)


@pytest.fixture
def storage(bucket: Bucket) -> Storage:
    return bucket.storage


@pytest.fixture
def s3(aws: Aws) -> Storage:
    """The real one, for what only it does: links, and a bucket that is not there."""
    return Storage(BUCKET)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise ConnectionResetError


async def read(storage: Storage, key: str) -> bytes:
    return b"".join([chunk async for chunk in storage.read(key)])


async def test_a_stored_object_is_read(storage: Storage) -> None:
    await storage.put("files/a", b"content")

    assert await read(storage, "files/a") == b"content"


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 17 * MIB])
async def test_a_stream_becomes_one_object_of_its_length(storage: Storage, bucket: Bucket, size: int) -> None:
    pattern = bytes(range(256)) * 4096
    content = (pattern * 18)[:size]
    pieces = [content[start : start + 300_000] for start in range(0, size, 300_000)]

    assert await storage.write("files/a", chunks(*pieces)) == size
    assert bucket.read("files/a") == content
    assert bucket.open_uploads() == 0


async def test_one_chunk_may_be_longer_than_a_part(storage: Storage, bucket: Bucket) -> None:
    content = b"0123456789abcdef" * (20 * MIB // 16)

    await storage.write("files/a", chunks(content))

    assert bucket.read("files/a") == content


@pytest.mark.parametrize("size", [100, 9 * MIB])
async def test_nothing_is_kept_of_a_stream_that_breaks_off(storage: Storage, bucket: Bucket, size: int) -> None:
    with pytest.raises(ConnectionResetError):
        await storage.write("files/a", broken(bytes(size)))

    assert bucket.keys() == []
    assert bucket.open_uploads() == 0


@pytest.mark.parametrize(
    "sizes", [[], [1], [3, 6 * MIB, 2], [6 * MIB, 6 * MIB], [4 * MIB, 4 * MIB, 12 * MIB, 1, 5 * MIB]]
)
async def test_an_object_is_composed_of_bytes_and_other_objects(
    storage: Storage, bucket: Bucket, sizes: list[int]
) -> None:
    contents = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    for number, content in enumerate(contents):
        await storage.put(f"part/{number}", content)

    async with storage.compose("files/a") as composition:
        await composition.write(b"begun")
        for number, size in enumerate(sizes):
            await composition.copy(f"part/{number}", size)
        await composition.write(b"ended")
        await composition.finish()

    whole = b"begun" + b"".join(contents) + b"ended"
    assert (composition.bytes, bucket.read("files/a") == whole, bucket.open_uploads()) == (len(whole), True, 0)


async def test_a_large_object_is_copied_in_parts(
    storage: Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "_COPY", 10 * MIB)
    content = bytes(range(256)) * (52 * MIB // 1024)
    await storage.put("part", content)

    async with storage.compose("files/a") as composition:
        await composition.copy("part", len(content))
        await composition.finish()

    assert bucket.read("files/a") == content


async def test_nothing_is_kept_of_an_object_that_is_not_finished(storage: Storage, bucket: Bucket) -> None:
    await storage.put("part", bytes(6 * MIB))

    async with storage.compose("files/a") as composition:
        await composition.copy("part", 6 * MIB)

    assert (bucket.keys(), bucket.open_uploads()) == (["part"], 0)


async def test_a_broken_stream_leaves_what_was_there_before(storage: Storage, bucket: Bucket) -> None:
    await storage.put("files/a", b"before")

    with pytest.raises(ConnectionResetError):
        await storage.write("files/a", broken(bytes(9 * MIB)))

    assert bucket.read("files/a") == b"before"


async def test_reading_is_by_pieces(storage: Storage) -> None:
    await storage.put("files/a", bytes(3 * MIB))

    assert max([len(chunk) async for chunk in storage.read("files/a")]) <= MIB


async def test_reading_what_is_not_there_is_an_error_before_the_first_piece(storage: Storage) -> None:
    with pytest.raises(Unavailable):
        await anext(storage.read("files/none"))


async def test_deleting_twice_is_no_error(storage: Storage, bucket: Bucket) -> None:
    await storage.put("files/a", b"content")

    await storage.delete("files/a")
    await storage.delete("files/a")

    assert bucket.keys() == []


def test_a_link_downloads_under_the_users_name_without_our_credentials(s3: Storage, aws: Aws) -> None:
    aws.s3.put_object(Bucket=BUCKET, Key="files/a", Body=b"content")

    link = s3.link("files/a", filename='Bücher "1".jsonl', content_type="application/jsonl")

    answer = requests.get(link, timeout=5)
    assert answer.content == b"content"
    query = parse_qs(urlsplit(link).query)
    assert query["response-content-type"] == ["application/jsonl"]
    assert query["response-content-disposition"] == [
        "attachment; filename=\"B_cher _1_.jsonl\"; filename*=UTF-8''B%C3%BCcher%20%221%22.jsonl"
    ]


def test_a_link_is_signed_as_every_region_takes_it_and_soon_over(s3: Storage) -> None:
    link = urlsplit(s3.link("files/a", filename="a.jsonl", content_type="application/jsonl"))

    assert link.hostname == f"{BUCKET}.s3.eu-west-1.amazonaws.com"
    query = parse_qs(link.query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["300"]


async def test_a_bucket_without_an_answer_is_unavailable(aws: Aws) -> None:
    storage = Storage("no-such-bucket")

    for work in (
        storage.put("a", b""), storage.write("a", chunks(bytes(9 * MIB))), storage.delete("a"), storage.clear("a"),
    ):  # fmt: skip
        with pytest.raises(Unavailable) as error:
            await work
        assert "no-such-bucket" not in error.value.message


async def test_pieces_are_gathered_in_their_order(storage: Storage) -> None:
    await storage.put("a", b"0123456789")
    await storage.put("b", b"abc")
    pieces = [*Piece.of("a", 10, 4), *Piece.of("b", 3, 4), Piece("a", 2, 1)]

    assert [chunk async for chunk in storage.gather(pieces)] == [b"0123", b"4567", b"89", b"abc", b"2"]


async def test_gathering_what_is_not_there_is_an_error(storage: Storage) -> None:
    await storage.put("a", b"0123456789")

    with pytest.raises(Unavailable):
        async for _ in storage.gather([Piece("a", 0, 4), *[Piece("none", 0, 4)] * 9]):
            pass


async def test_sizes(storage: Storage) -> None:
    await storage.put("a", b"0123456789")

    assert await storage.size("a") == 10
    assert await storage.size("none") is None


async def test_clearing_deletes_the_objects_of_a_prefix_only(
    storage: Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manifold.storage._MANY", 2)
    for key in ("uploads/a/1", "uploads/a/2", "uploads/a/3", "uploads/ab/1", "files/a"):
        await storage.put(key, b"content")

    await storage.clear("uploads/a/")
    await storage.clear("uploads/a/")

    assert bucket.keys() == ["files/a", "uploads/ab/1"]
