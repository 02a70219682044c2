"""Multipart forms as clients write them, byte by byte."""

import pytest

from tests.support.files_answers import LINES, assert_nothing_kept, error_of
from tests.support.files_app import FilesApp

pytest_plugins = ("tests.support.files_app_fixtures",)


def part(disposition: str, content: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


PURPOSE = part('name="purpose"', b"batch")
FILE = part('name="file"; filename="in.jsonl"', LINES)
FORM = PURPOSE + FILE + b"--b--\r\n"


async def post(files_app: FilesApp, body: bytes, boundary: str = "; boundary=b") -> "tuple[int, dict[str, object]]":
    async with files_app.client() as client:
        headers = {"content-type": f"multipart/form-data{boundary}"}
        answer = await client.post("/files", headers=headers, content=body)
    if answer.status_code != 200:
        assert error_of(answer)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("filename*=UTF-8''B%C3%BCch%20er.jsonl", "B\xfcch er.jsonl"),
        ("filename*=utf-8'en'a.jsonl", "a.jsonl"),
        ("filename=\"=?utf-8?B?QsO8Y2g=?=\"; filename*=utf-8''B%C3%BCch", "B\xfcch"),
        ("filename*=UTF-8''new.jsonl; filename=\"old.jsonl\"", "new.jsonl"),
        ("filename*=iso-8859-1''%A3.jsonl", "\xa3.jsonl"),
        ('filename="a filename*=b.jsonl"', "a filename*=b.jsonl"),
        ("filename*=UTF-8''a%22b.jsonl", 'a"b.jsonl'),
        ("filename=\"a.jsonl\"; filename*=undefined''b.jsonl", "a.jsonl"),
        ("filename=\"a.jsonl\"; filename*=idna''a..b%ff", "a.jsonl"),
        ("filename=\"a.jsonl\"; filename*=utf%00''b", "a.jsonl"),
    ],
)
async def test_the_name_of_a_file_in_each_notation(files_app: FilesApp, names: str, name: str) -> None:
    status, file = await post(files_app, PURPOSE + part(f'name="file"; {names}', LINES) + b"--b--\r\n")

    assert (status, file.get("filename"), file.get("bytes")) == (200, name, len(LINES))


@pytest.mark.parametrize(
    "body", [b"This is a form.\r\n" + FORM, b"\r\n" + FORM, FORM + b"The end.", FORM[:-2], FORM + b"\r\n" * 99]
)
async def test_a_preamble_and_an_epilogue_are_ignored(files_app: FilesApp, body: bytes) -> None:
    status, file = await post(files_app, body)

    assert (status, file.get("bytes")) == (200, len(LINES))


@pytest.mark.parametrize(
    ("body", "boundary", "words"),
    [
        (FORM, "", "no boundary"),
        (FORM, "; boundary=other", "'--other'"),
        (FORM, f"; boundary*{'9' * 5000}=b", "no boundary"),
        (FORM, "; boundary*=undefined''b", "no boundary"),
        (b"", "; boundary=b", "'--b'"),
        (FORM.replace(b"\r\n", b"\n"), "; boundary=b", "in LF"),
        (PURPOSE + FILE, "; boundary=b", "breaks off"),
        (PURPOSE + FILE[:-20], "; boundary=b", "breaks off"),
        (PURPOSE + part('name="file"', LINES) + b"--b--", "; boundary=b", "no file name"),
        (PURPOSE + part('name="file"', b"x" * 2_000_000) + b"--b--", "; boundary=b", "no file name"),
        (PURPOSE + part('filename="a"', LINES) + b"--b--", "; boundary=b", "name"),
        (PURPOSE + FILE + FILE + b"--b--", "; boundary=b", "sent twice"),
        (PURPOSE + part("name=\"file\"; filename*=UTF-8''..%2Fa", LINES) + b"--b--", "; boundary=b", "path"),
    ],
)
async def test_an_unreadable_form_is_refused_with_the_reason(
    files_app: FilesApp, body: bytes, boundary: str, words: str
) -> None:
    status, answer = await post(files_app, body, boundary)

    assert status == 400
    assert words in str(answer)
    await assert_nothing_kept(files_app)
