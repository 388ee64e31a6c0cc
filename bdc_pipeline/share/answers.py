"""What a share answers when it does not do what was asked, told apart: gone, refusing, taken, unknown."""

from __future__ import annotations

import errno

from bdc_pipeline.share.errors import Offline, ShareError

__all__ = ["GONE", "NO_LINKS", "Ambiguous", "Refused", "Taken", "Unseen", "told", "told_of_link"]

GONE = frozenset(
    getattr(errno, name)
    for name in (
        *(
            "EIO",
            "ESTALE",
            "ETIMEDOUT",
            "EHOSTDOWN",
            "EHOSTUNREACH",
            "ENETDOWN",
            "ENETUNREACH",
            "ENETRESET",
            "ECONNABORTED",
        ),
        *("ECONNRESET", "ECONNREFUSED", "ENOTCONN", "ESHUTDOWN", "EAGAIN", "ENODEV", "ENXIO", "EREMOTEIO", "ENOMEDIUM"),
        *("EBADF", "EPIPE", "ECOMM", "ENOLINK", "ENONET", "EINTR", "EBUSY"),
    )
    if hasattr(errno, name)
)
"""What file systems answer when their server is away."""

NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EINVAL})
"""What file systems answer that have no hard links."""


class Refused(ShareError):  # noqa: N818  (the share's answer, not a mistake)
    """The share answers, and will not: no permission, no space, read only, no hard links."""


class Taken(ShareError):  # noqa: N818
    """The name is there already: another client was first (or the share repeated a call of ours that had succeeded)."""


class Unseen(ShareError):  # noqa: N818
    """Nothing was published: the file that was to be there before it is not, or may be another than the one that was seen."""


class Ambiguous(Offline):
    """The share went away while a name was given: it may be there or not. Reading it back tells."""


def told(error: OSError, where: object) -> Exception:
    """The error as callers tell them apart: FileNotFoundError, `Offline` or `Refused`, with a sentence."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "It is not there", str(where))
    reason = f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, error.errno)})"
    if error.errno in GONE:
        return Offline(
            f"The share cannot be reached: {where} answers {reason}. What was written here is kept and sent later."
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Refused(f"The share is full: {where} answers {reason}. Make room on it; what was written here is kept.")
    if error.errno == errno.EROFS:
        return Refused(f"The share is read-only: {where} answers {reason}. Mount it for writing.")
    return Refused(f"The share refuses {where}: {reason}. Check the permissions of its folder for this user.")


def told_of_link(error: OSError, where: object) -> Exception:
    """Why a name could not be given. What is not a clear no may have succeeded all the same."""
    if error.errno == errno.EEXIST:
        return Taken(f"{where} is there already: another client was first.")
    if error.errno in NO_LINKS:
        return Refused(
            f"{where} cannot be published: the share has no hard links ({error.strerror}). Without them no two clients "
            "can share a log safely; use a share on SMB 2 or later, or NFS."
        )
    if error.errno in {errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG}:
        return told(error, where)
    return Ambiguous(f"The share went away while {where} was published ({error.strerror}): it may have arrived or not.")
