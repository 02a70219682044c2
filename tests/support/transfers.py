"""Inputs of files, and their copies at the providers, for the tests of transfers."""

from local.provider import Account
from manifold.queue import Message
from manifold.schemas import File
from tests.support.files_app import FilesApp
from tests.support.provider import chat_lines


def files_at_provider(files_app: FilesApp, account: Account) -> list[str]:
    """The names of the files that the account has at the provider."""
    return [file.name for file in files_app.provider.state.files._files.values() if file.account == account.name]


async def one_input(files_app: FilesApp) -> tuple[File, Message]:
    """A file with one input, and the message that starts its transfer."""
    file = await files_app.upload(chat_lines("mini-batch", 3), target_model_names="mini-batch")
    (message,) = files_app.aws.take(files_app.aws.transfers_queue_url)
    return file, message
