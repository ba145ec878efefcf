"""The dashboard. Four things apart: state (snapshot), fetching (feed), drawing (panes), keys (bindings)."""
