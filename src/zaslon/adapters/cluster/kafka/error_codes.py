"""Codes of the client's own errors: it names them as private, and only here.

Errors of a broker have public names and are used by them.
"""

from __future__ import annotations

from confluent_kafka import KafkaError

ALL_BROKERS_DOWN: int = KafkaError._ALL_BROKERS_DOWN
AUTHENTICATION: int = KafkaError._AUTHENTICATION
AUTO_OFFSET_RESET: int = KafkaError._AUTO_OFFSET_RESET
FATAL: int = KafkaError._FATAL
FENCED: int = KafkaError._FENCED
MAX_POLL_EXCEEDED: int = KafkaError._MAX_POLL_EXCEEDED
MESSAGE_TIMED_OUT: int = KafkaError._MSG_TIMED_OUT
PARTITION_END: int = KafkaError._PARTITION_EOF
QUEUE_FULL: int = KafkaError._QUEUE_FULL
TLS: int = KafkaError._SSL
TIMED_OUT: int = KafkaError._TIMED_OUT
TRANSPORT: int = KafkaError._TRANSPORT
UNKNOWN_TOPIC: int = KafkaError._UNKNOWN_TOPIC
WRONG_STATE: int = KafkaError._STATE
# Of a broker that cannot be reached now.
UNREACHABLE = (ALL_BROKERS_DOWN, TRANSPORT, TIMED_OUT)


def is_unanswered_handshake(error: KafkaError) -> bool:
    """Whether a connection ended before the broker said which ways to authenticate it takes.

    The client reports this as a failed authentication and keeps the cause, such as a broker that was
    killed just then, only in the text (librdkafka `rd_kafka_broker_handle_SaslHandshake`). An answer that
    refuses the mechanism lists those that the broker takes instead of "(n/a)".
    """
    return error.code() == AUTHENTICATION and "supported mechanisms: (n/a)" in error.str()
