"""S3, by s3fs, which DVC uses too: the credentials that open the DVC remote open the source."""

import re

from churn.core.errors import StageError
from churn.core.partitions import s3_files

FAULTS = {  # by botocore's class, or S3's code
    "EndpointConnectionError": "nothing answers at its address",
    "ConnectTimeoutError": "its address does not answer in time",
    "ReadTimeoutError": "the answer does not come in time",
    "ConnectionClosedError": "the connection was closed",
    "NoCredentialsError": "there are no credentials",
    "ProfileNotFound": "the profile does not exist",
    "FileNotFoundError": "it does not exist",
    "PermissionError": "the credentials are refused",
}


def objects(source: str) -> dict[str, tuple[object, ...]]:
    """Return the objects below a URL by their own, with size and ETag, which show a change. Raises StageError."""
    try:
        entries = s3_files().find(source, detail=True)
    except Exception as error:  # s3fs', botocore's and the system's own
        raise StageError(
            f"{source} cannot be read: {_fault(error)}; AWS's variables say where, and who asks."
        ) from error
    return {f"s3://{name}": (entry["size"], entry.get("ETag")) for name, entry in entries.items() if entry["size"]}


def _fault(error: BaseException) -> str:
    """Return why S3 refuses, in our own words: s3fs makes an OSError of botocore's, which is the cause then."""
    from botocore.exceptions import ClientError

    for one in (error, error.__cause__, error.__context__):
        if isinstance(one, ClientError) and re.fullmatch(r"\w+", code := str(one.response["Error"].get("Code"))):
            return f"S3 answers {FAULTS.get(code, code)}"
        if one is not None and (words := FAULTS.get(type(one).__name__)):
            return words
    return f"it fails with {type(error).__name__}"
