#!/usr/bin/env python3
"""Users and what each may do, on any broker with SCRAM. Run again it changes nothing.

    python deploy/kafka/access.py SECRETS

SECRETS is a directory with the files producer, scorer, gateway and viewer: each holds that user's password.
The broker, its admin and the topics' names come from Zaslon's settings (ZASLON_KAFKA_SERVERS,
ZASLON_KAFKA_USER=admin, ZASLON_KAFKA_PASSWORD_FILE, …).

    producer  writes `input` and `labels`
    scorer    reads these, writes `predictions` and `rejections`, reads and writes `order`;
              its group and its transactions begin with `zaslon-`
    gateway      the decision service in front of the stream: writes `input` and `labels`, reads `order`,
              `predictions` and `rejections`
    viewer    reads all topics and sees every group's lag; joins only groups that begin with `viewer-`
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from zaslon.bootstrap import kafka_connection
from zaslon.settings import Settings, load_settings

ITERATIONS, SECONDS_MAX = 8192, 20
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
CONFIGS = AclOperation.DESCRIBE_CONFIGS


def allowed(
    user: str, kind: ResourceType, name: str, *operations: AclOperation, prefix: bool = False
) -> Iterator[AclBinding]:
    """One line of access for each operation."""
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    for operation in operations:
        yield AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


def access(settings: Settings) -> Iterator[AclBinding]:
    """Everything that is allowed; all else is refused."""
    topic, group = ResourceType.TOPIC, ResourceType.GROUP
    fed = (settings.kafka_topic_input, settings.kafka_topic_labels)
    made = (settings.kafka_topic_predictions, settings.kafka_topic_rejections)
    for name in fed:
        yield from allowed("producer", topic, name, WRITE, DESCRIBE)
        yield from allowed("scorer", topic, name, READ, DESCRIBE, CONFIGS)
        yield from allowed("gateway", topic, name, WRITE, DESCRIBE)
    for name in (*made, settings.kafka_topic_order):
        yield from allowed("gateway", topic, name, READ, DESCRIBE)
    yield from allowed("gateway", group, "gateway", DESCRIBE)  # the client asks for it; no consumer joins it
    for name in made:
        yield from allowed("scorer", topic, name, WRITE, DESCRIBE, CONFIGS)
    yield from allowed("scorer", topic, settings.kafka_topic_order, READ, WRITE, DESCRIBE, CONFIGS)
    yield from allowed("scorer", group, "zaslon-", READ, DESCRIBE, prefix=True)
    yield from allowed("scorer", ResourceType.TRANSACTIONAL_ID, "zaslon-", WRITE, DESCRIBE, prefix=True)
    for name in (*fed, *made, settings.kafka_topic_order):
        yield from allowed("viewer", topic, name, READ, DESCRIBE, CONFIGS)
    yield from allowed("viewer", group, "*", DESCRIBE)
    yield from allowed("viewer", group, "viewer-", READ, prefix=True)
    # DESCRIBE on the cluster would also list users and ACLs, so a viewer does without.
    yield from allowed("viewer", ResourceType.BROKER, "kafka-cluster", CONFIGS)


def main(secrets: Path) -> None:
    """Set up users, then access."""
    settings = load_settings()
    admin = kafka_connection(settings).admin()
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    users: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, info, (secrets / user).read_bytes().strip())
        for user in ("producer", "scorer", "gateway", "viewer")
    ]
    for changed in admin.alter_user_scram_credentials(users).values():
        changed.result(SECONDS_MAX)
    for created in admin.create_acls(list(access(settings))).values():
        created.result(SECONDS_MAX)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
