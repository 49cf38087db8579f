"""The look of the pages inside Airflow: readable in the light and in the dark, and on a phone."""

from __future__ import annotations

from tuning_pipeline.exports.report.page_policy import PALETTE

STYLE = (
    PALETTE
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 22px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 6px; }
a { color: var(--accent); }
p { margin: 4px 0; overflow-wrap: anywhere; }
.note { color: var(--soft); }
.bad { color: var(--bad); }
.good { color: var(--good); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; margin-top: 14px;
  padding: 14px 16px; overflow-x: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; margin-top: 14px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; color: var(--accent); font-size: 20px; font-weight: 600; overflow-wrap: anywhere; }
.card span { color: var(--soft); }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--line); padding: 4px 18px 4px 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, monospace; }
button { font: inherit; padding: 6px 14px; border: 1px solid var(--line); border-radius: 6px; cursor: pointer;
  background: var(--accent); color: var(--paper); }
svg { display: block; width: 100%; height: auto; max-height: 240px; }
svg .axis { stroke: var(--line); } svg .best { stroke: var(--accent); fill: none; stroke-width: 2; }
svg .trial { fill: var(--soft); } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
"""
)
