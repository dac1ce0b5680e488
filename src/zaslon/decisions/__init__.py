"""From a score to an action: policy (thresholds and rules), decision, reasons in plain words.

Read `policy`, then `decide`; `thresholds` chooses the policy's numbers, `reasons` explains.
"""
