"""Describes what an object store answered, in our own words: its own may quote keys, tokens and addresses."""

from __future__ import annotations

import re

# How Arrow's errors name what Amazon's, Microsoft's and Google's stores answered.
_CODES = (
    re.compile(r"AWS Error ([A-Z][A-Z_]*(?: \(HTTP status \d+\))?)"),
    re.compile(r"Azure Error: \[(\w*)\]"),
    re.compile(r"google::cloud::Status\(([A-Z_]+)"),
)
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|TOKEN|UNRECOGNIZED_CLIENT|PERMISSION_DENIED|UNAUTHENTICATED"
    r"|Auth|HTTP status 40[13]"
)
_ABSENT = re.compile(r"NO_SUCH|NOT_FOUND|NotFound|HTTP status 404")
_SLOW = re.compile(r"TIMEOUT|SLOW_DOWN|UNAVAILABLE|DEADLINE_EXCEEDED|ServerBusy|OperationTimedOut|HTTP status 5\d\d")


def store_words(error: BaseException) -> str:
    """Why a store gave nothing, and what to do; empty if the error is not a store's."""
    text = str(error)
    code = next((found[1] for pattern in _CODES if (found := pattern.search(text))), None)
    if code is None:
        return ""
    if "curlCode: 28" in text or _SLOW.search(code):
        return f"the store does not answer in time ({code}): start the run again, or copy the table nearer"
    if _DENIED.search(code):
        return (
            f"the store denies access ({code}): give whoever reads it the right to list the bucket and to read its"
            " objects, or correct the connection of data.connection"
        )
    if _ABSENT.search(code):
        return f"the store has nothing of that name ({code}): correct data.path"
    if "HTTP status 30" in code:
        return f"the bucket is in another region ({code}): give region_name in the connection's extra, or AWS_REGION"
    if code == "NETWORK_CONNECTION":
        return "the store cannot be reached (NETWORK_CONNECTION): correct its address, or open the way to it"
    return f"the store refuses ({code})"
