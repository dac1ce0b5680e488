"""The looks of the report and what its pictures show."""

from __future__ import annotations

PICTURES = {
    "roc": "Share of frauds stopped by share of good transactions stopped. Grey lines: 0.1 %, 1 %, 5 %.",
    "precision_recall": "Precision by recall. Dotted: what chance would give.",
    "money": "Fraud let through and good payments stopped in 30 days, by the review threshold.",
    "calibration": "Predicted probability against what came. On the dotted line both are equal.",
    "score_by_class": "Scores of frauds and of good transactions.",
    "importance": "The features that the model gained most by in training.",
}

STYLE = """
:root{color-scheme:light;--ink:#1b1f24;--soft:#57606a;--line:#d8dee4}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 1rem}
h2{font-size:1.2rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--line)}
.lead{font-size:1.15rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.94rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}
td:first-child{min-width:11rem}
.goals td:nth-child(-n+3),.numbers td:nth-child(-n+3){white-space:nowrap}
.met{color:#116329;font-weight:600;white-space:nowrap}
.missed{color:#a40e26;font-weight:600;white-space:nowrap}
.open{color:var(--soft);white-space:nowrap}
figure{margin:1rem 0;display:inline-block;max-width:29rem;vertical-align:top}
img{max-width:100%;height:auto}
figcaption{color:var(--soft);font-size:.88rem}
@media print{h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""
