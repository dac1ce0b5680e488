"""Why something of Hadoop failed and what helps, from the stack traces of its Java."""

from __future__ import annotations

import re

_EXCEPTION = re.compile(r"([\w.$]+(?:Exception|Error)): ?(.*)")
# What a text says about a failure, the most specific first, and what helps.
_CAUSES = (
    (r"SignatureDoesNotMatch|InvalidAccessKeyId|AccessDenied|Status Code: 403|NoAuthWithAWS|NoAwsCredentials",
     "S3 refused the keys", "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do."),
    (r"AccessControlException", "HDFS refused the user", "Check HADOOP_USER_NAME and the permissions."),
    (r"SafeModeException", "HDFS is in safe mode", "Wait until it has left it."),
    (r"QuotaExceeded|could only be written to \d+ of|No space left", "the target is full or has no DataNode",
     "Look at the free space, the quota and the DataNodes."),
    (r"ClassNotFoundException|NoClassDefFoundError|No FileSystem for scheme", "Hadoop lacks a jar",
     "For s3a add hadoop-aws of Hadoop's own version, with the AWS SDK that it names."),
    (r"NoSuchBucket|bucket does not exist", "the bucket does not exist", "Create it, or check its name."),
    (r"UnknownHostException|ConnectException|NoRouteToHost|ConnectTimeout|SocketTimeout",
     "a server cannot be reached", "Check the addresses and whether the servers run."),
)  # fmt: skip


def explained(text: str) -> tuple[str, str]:
    """(why something failed, what helps), from its log or its exception."""
    lines = _lines(text)
    return known_cause(text) or (lines[-1] if lines else "it does not say why", "Look into the log.")


def known_cause(text: str) -> tuple[str, str] | None:
    """The same, where it is one of the causes above."""
    for pattern, sentence, hint in _CAUSES:
        if re.search(pattern, text):
            line = next((line for line in reversed(_lines(text)) if re.search(pattern, line)), None)
            return f"{sentence} ({line})" if line else sentence, hint
    return None


def _lines(text: str) -> list[str]:
    return [
        f"{found[1].rpartition('.')[2]}: {found[2]}"[:300].rstrip(". ") for found in _EXCEPTION.finditer(text)
    ]
