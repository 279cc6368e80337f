"""The mailboxes of the users file: each user has the one of its login name, and nobody else has any.

The further addresses of a user are what it may send as; several users may share one, so they name no
mailbox. `home` is for other servers that read the same file: the store's mailboxes lie below its own root.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mta.accounts.usersfile import UsersFile, UsersFileError
from mta.address import Address
from mta.lastgood import NOBODY, LastGood
from mta.store.mailboxes import MailboxInfo, mailbox_path
from mta.store.quota import Quota


class UsersFileMailboxes:
    """The mailboxes of a users file below `root`; changes are noticed within a second, a new user at once."""

    def __init__(
        self,
        path: Path | str,
        root: Path,
        default: Quota,
        *,
        on_error: Callable[[UsersFileError], None],
        good: LastGood = NOBODY,
    ) -> None:
        """Read the file. `default` is the quota of users whose line says nothing.

        `on_error` hears of a later version of the file that cannot be used; the users then stay as they
        were. `good` has what others have read there. Raises UsersFileError.
        """
        self._file = UsersFile(path, on_error=on_error, good=good)
        self._root = root
        self._default = default

    def find(self, address: Address) -> MailboxInfo | None:
        """The mailbox of exactly this address."""
        if not address.domain:
            return None
        user = self._file.of_key(address.key)
        if user is None:
            return None
        quota = self._default
        if user.quota is not None:
            quota = Quota(user.quota, quota.messages)
        return MailboxInfo(mailbox_path(self._root, address), quota, user.disabled)
