"""JSON is parsed where bytes come in, once, and everything behind that is typed: every such place has its reason."""

from __future__ import annotations

import re
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "zaslon"
PARSED_IN = {
    "adapters/cluster/kafka/live_log.py": "the checkpoint in a snapshot",
    "adapters/cluster/kafka/messages.py": "headers of a message: what a rejection holds beside its bytes",
    "adapters/cluster/kafka/order.py": "the header of an order, written by the scorer that decided",
    "adapters/cluster/kafka/outcome_reader.py": "where the copy of decisions ends",
    "adapters/process/channel.py": "the head of a message between service and decision worker",
    "adapters/process/run_process.py": "answers of the process that writes runs",
    "adapters/relational/from_files.py": "the file of keys from before the store",
    "adapters/cluster/spark/source_rows.py": "what a task counted, as a row of a stage",
    "admission/log_format.py": "rejections and the change in a block of the log",
    "bootstrap/__init__.py": "the settings of the service, in the decision worker",
    "client/client.py": "an answer of the service",
    "domain/ledger.py": "evidence of an entry, which is kept as the text that its hash is of",
    "domain/recorded.py": "an outcome as a log has it",
    "entrypoints/run_writer.py": "calls of the process that writes runs",
    "ports/cluster_tables.py": "which files a table on S3 or HDFS has",
    "services/chain.py": "the result that a job's process wrote",
    "services/copy_manifest.py": "what of a folder was copied and compared, in its file",
    "flows/find_decisions.py": "recorded bytes, for people",
    "flows/produce.py": "how much of the files was sent, in its file",
    "flows/reconcile.py": "original bytes of a rejected record: cleaning has found nothing in them",
    "flows/replay.py": "recorded bytes, for people",
    "flows/serving_history.py": "evidence of an entry, for people",
    "intake/earlier_output.py": "the report of an output that files are added to",
    "intake/fields.py": "a record",
    "intake/files.py": "the report of an output that is written into again",
    "intake/hidden_fields.py": "a quoted text in a line that may hide a record",
    "intake/json_members.py": "a name in a record that names a field twice",
    "intake/layouts.py": "the first record of a file, for the names of its fields",
    "intake/taken_files.py": "the ledger of an output that files are added to",
    "models/artefact.py": "the facts of a model",
    "services/home.py": "what the home names as its champion",
    "services/job_runs.py": "the record of a run of a job",
    "services/promotion_ledger.py": "evidence of an entry",
    "services/publishing.py": "a run that waits for the registry",
}
_PARSES = re.compile(r"json\.loads\(")
# What made typed values out of JSON bytes or out of sentences of our own, or of pydantic's.
_CUTS = re.compile(
    r"""startswith\(b'\{"|b'"[a-z_]+":|reason\.(partition|split)|removeprefix\(["']Value error"""
)


def test_json_is_parsed_at_the_known_edges_only() -> None:
    found = {
        str(path.relative_to(SRC)) for path in SRC.rglob("*.py") if _PARSES.search(path.read_text("utf-8"))
    }
    assert found == set(PARSED_IN)


def test_no_value_is_cut_out_of_json_bytes_or_sentences() -> None:
    found = [
        str(path.relative_to(SRC)) for path in SRC.rglob("*.py") if _CUTS.search(path.read_text("utf-8"))
    ]
    assert found == []
